"""The command `spoter calibrate`."""

from typing import Annotated

import typer

from spoter.cli import options
from spoter.cli.options import is_given, note, print_skipped, read_clips
from spoter.errors import DataError
from spoter.training.settings import TrainSettings


def calibrate(
    ctx: typer.Context,
    model: options.Model,
    data: options.Data,
    validation: options.Validation = TrainSettings.validation,
    validation_by_clip: options.ValidationByClip = TrainSettings.validation_by_clip,
    val_groups: options.ValGroups = "",
    validation_data: options.ValidationData = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the validation share.")] = TrainSettings.seed,
    group_regex: options.GroupRegex = None,
    skip_bad: options.SkipBad = False,
    threads: options.Threads = 0,
    device: options.Device = "cpu",
) -> None:
    """Calibrate a converted MODEL; let it detect unknown signs and enroll new ones.

    DATA are labeled clips of all its glosses. The temperature and the threshold are fitted to validation clips: choose
    clips that MODEL was not trained on, with --val-groups or --validation-data. `spoter train` calibrates by itself.
    """
    options.require_packages("calibration", "torch", "scipy")
    import torch

    from spoter.runtime.device import choose_device
    from spoter.training.calibration import calibrate_folder
    from spoter.training.data import DataSet
    from spoter.training.data.split import Split, SplitOptions
    from spoter.training.data.split_record import SPLIT, split_dataset

    names = ("validation", "validation_by_clip", "val_groups", "validation_data")
    chosen = [name for name in names if is_given(ctx, name)]
    if validation_data and len(chosen) > 1:
        raise typer.BadParameter("--validation-data cannot be combined with other options of the validation clips")
    if not chosen and (model / SPLIT).exists():
        raise DataError(
            f"{model}: found {SPLIT}: `spoter train` has calibrated this model already. To calibrate it again, choose "
            "clips that it was not trained on with --val-groups GROUP,… or --validation-data FILE"
        )
    if threads:
        torch.set_num_threads(threads)
    clips = read_clips(data, group_regex, skip_bad)
    held_out: DataSet | Split
    if validation_data:
        held_out = read_clips(validation_data, group_regex, skip_bad)
    else:
        groups = options.split_names(val_groups)
        shares = SplitOptions(validation, None, groups, seed=seed, by_clip=validation_by_clip)
        clips, held_out = split_dataset(clips, shares, skip_bad=skip_bad, note=note)
        note(f"validation groups: {', '.join(held_out.validation)}")
    config, left_out = calibrate_folder(model, clips, held_out, choose_device(device), skip_bad=skip_bad)
    print_skipped(left_out)
    print(f"{model}: temperature {config.temperature:g}, known_threshold {config.known_threshold:g}")
