"""The command `spoter calibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spoter.cli.options import (
    Data,
    Device,
    GroupRegex,
    SkipBad,
    Threads,
    ValGroups,
    Validation,
    ValidationByClip,
    ValidationData,
    is_given,
    note,
    print_skipped,
    require_packages,
    split_names,
)
from spoter.errors import DataError
from spoter.training.settings import TrainSettings


def calibrate(
    ctx: typer.Context,
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Model folder, such as spoter convert writes.")],
    data: Data,
    validation: Validation = TrainSettings.validation,
    validation_by_clip: ValidationByClip = TrainSettings.validation_by_clip,
    val_groups: ValGroups = "",
    validation_data: ValidationData = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the validation share.")] = TrainSettings.seed,
    group_regex: GroupRegex = None,
    skip_bad: SkipBad = False,
    threads: Threads = 0,
    device: Device = "cpu",
) -> None:
    """Make the scores of MODEL, trained elsewhere, mean something; let it tell unknown signs, and enroll others.

    DATA are clips of all of its glosses. Name by --val-groups or --validation-data clips that MODEL was not trained on:
    the temperature and the threshold are fitted to them. spoter train does all this by itself.
    """
    require_packages("calibration", "torch", "scipy")
    import torch

    from spoter.runtime.device import choose_device
    from spoter.training.calibrate_converted import calibrate_folder
    from spoter.training.data import DataSet, read_dataset
    from spoter.training.data.split import Split, SplitOptions
    from spoter.training.data.split_record import SPLIT, split_dataset

    names = ("validation", "validation_by_clip", "val_groups", "validation_data")
    chosen = [name for name in names if is_given(ctx, name)]
    if validation_data and len(chosen) > 1:
        raise typer.BadParameter("give --validation-data or other options of the validation clips, not both")
    if not chosen and (model / SPLIT).exists():
        raise DataError(
            f"{model}: found {SPLIT}, so that spoter train has calibrated this model; to do it again, name clips that "
            "it was not trained on by --val-groups GROUP,… or --validation-data FILE"
        )
    if threads:
        torch.set_num_threads(threads)
    clips = read_dataset(data, skip_bad=skip_bad, groups=group_regex, progress=True)
    print_skipped(clips.skipped)
    held_out: DataSet | Split
    if validation_data:
        held_out = read_dataset(validation_data, skip_bad=skip_bad, groups=group_regex, progress=True)
        print_skipped(held_out.skipped)
    else:
        options = SplitOptions(
            validation=validation,
            test=None,
            validation_groups=split_names(val_groups),
            seed=seed,
            by_clip=validation_by_clip,
        )
        clips, held_out = split_dataset(clips, options, skip_bad=skip_bad, note=note)
        note(f"validation groups: {', '.join(held_out.validation)}")
    config, left_out = calibrate_folder(model, clips, held_out, choose_device(device), skip_bad=skip_bad)
    print_skipped(left_out)
    print(f"{model}: temperature {config.temperature:g}, known from a similarity of {config.known_threshold:g} on")
