"""The command `spoter train`."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from spoter.cli.options import (
    Data,
    Device,
    GroupRegex,
    SkipBad,
    Test,
    TestGroups,
    Threads,
    ValGroups,
    Validation,
    ValidationByClip,
    ValidationData,
    names_of,
    note,
)
from spoter.errors import DataError
from spoter.training.settings import AUGMENTATIONS, OPTIMIZERS, PRECISIONS, RECIPES, SCHEDULES, TrainSettings

# torch and all that needs it is imported by the command: `spoter --help` shall not wait for it.

Layers = Annotated[int, typer.Option(help="Layers of the transformer's half.")]
Feedforward = Annotated[int, typer.Option(help="Width of the feed-forward parts of that half.")]
_LISTS = ("val_groups", "test_groups", "leave_out")
_NEEDED = ("matplotlib", "scipy", "sklearn")  # some of them at the end alone, which is no time to lack one
_ABOUT_THE_RUN = ("ctx", "recipe", "config", "resume", "fresh")


def train(
    ctx: typer.Context,
    data: Data,
    out: Annotated[Path, typer.Option(help="Model folder to write.")],
    recipe: Annotated[
        str, typer.Option(help=f"Preset that other options override: {', '.join(RECIPES)}. Default: ours.")
    ] = "",
    config: Annotated[
        Path | None,
        typer.Option(help="TOML or JSON with options by name, or the original's config.json. Options override it."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the unfinished run in the folder.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Throw the unfinished run in the folder away.")] = False,
    validation_data: ValidationData = TrainSettings.validation_data,
    test_data: Annotated[
        Path | None, typer.Option(help="Labelled clips for testing, instead of a share of DATA.")
    ] = TrainSettings.test_data,
    group_regex: GroupRegex = TrainSettings.group_regex,
    skip_bad: SkipBad = TrainSettings.skip_bad,
    leave_out: Annotated[str, typer.Option(help="Glosses not to train on, comma-separated: unknown ones.")] = "",
    about: Annotated[
        Path | None, typer.Option(help="Markdown that opens the model card: data, licence, limits.")
    ] = TrainSettings.about,
    name: Annotated[
        str, typer.Option(help="What the model calls itself; the folder's name by default.")
    ] = TrainSettings.name,
    version: Annotated[str, typer.Option(help="The model's version.")] = TrainSettings.version,
    estimator: Annotated[
        str, typer.Option(help="Whose landmarks DATA must be: mediapipe, openpose, wholepose.")
    ] = TrainSettings.estimator,
    layout: Annotated[
        str, typer.Option(help="29, 54, 71, spoter54, or the path of a layout's CSV.")
    ] = TrainSettings.layout,
    normalize: Annotated[str, typer.Option(help="box, none or bohacek.")] = TrainSettings.normalize,
    positions: Annotated[str, typer.Option(help="per-frame, or shared as in the original.")] = TrainSettings.positions,
    heads: Annotated[
        int, typer.Option(help="Attention heads; 0 for the most, up to 9, that the layout allows.")
    ] = TrainSettings.heads,
    encoder_layers: Layers = TrainSettings.encoder_layers,
    decoder_layers: Layers = TrainSettings.decoder_layers,
    encoder_feedforward: Feedforward = TrainSettings.encoder_feedforward,
    decoder_feedforward: Feedforward = TrainSettings.decoder_feedforward,
    position_rows: Annotated[
        int, typer.Option(help="Learned positions; with per-frame the most frames.")
    ] = TrainSettings.position_rows,
    validation: Validation = TrainSettings.validation,
    test: Test = TrainSettings.test,
    validation_by_clip: ValidationByClip = TrainSettings.validation_by_clip,
    val_groups: ValGroups = "",
    test_groups: TestGroups = "",
    epochs: Annotated[int, typer.Option(help="Times that training looks at all clips.")] = TrainSettings.epochs,
    batch_size: Annotated[
        int, typer.Option(help="Clips of each step; fewer where they are long.")
    ] = TrainSettings.batch_size,
    optimizer: Annotated[str, typer.Option(help=" or ".join(OPTIMIZERS))] = TrainSettings.optimizer,
    learning_rate: Annotated[float, typer.Option(help="Highest rate of the schedule.")] = TrainSettings.learning_rate,
    schedule: Annotated[
        str, typer.Option(help=f"{' or '.join(SCHEDULES)}; cosine: a warm-up, then half a cosine.")
    ] = TrainSettings.schedule,
    weight_decay: Annotated[float, typer.Option(help="On the matrices of layers.")] = TrainSettings.weight_decay,
    label_smoothing: Annotated[
        float, typer.Option(help="Share of the target spread over all glosses.")
    ] = TrainSettings.label_smoothing,
    dropout: Annotated[float, typer.Option(help="Share of activations left out in training.")] = TrainSettings.dropout,
    gradient_norm: Annotated[
        float, typer.Option(help="Longer gradients are cut to this; 0 leaves them alone.")
    ] = TrainSettings.gradient_norm,
    average: Annotated[
        float, typer.Option(help="Decay of the weights' moving average; 0 for none.")
    ] = TrainSettings.average,
    patience: Annotated[
        int, typer.Option(help="Stop after so many epochs with a worse validation than the best; 0 for never.")
    ] = TrainSettings.patience,
    augmentation: Annotated[
        str, typer.Option(help=f"How clips are changed: {', '.join(AUGMENTATIONS)}.")
    ] = TrainSettings.augmentation,
    seed: Annotated[
        int, typer.Option(help="Of the split, the first weights and all that is random.")
    ] = TrainSettings.seed,
    folds: Annotated[
        int, typer.Option(help="Then try the recipe on so many folds of groups, for the card.")
    ] = TrainSettings.folds,
    fold_epochs: Annotated[int, typer.Option(help="Epochs of each fold; 0 for --epochs.")] = TrainSettings.fold_epochs,
    precision: Annotated[
        str, typer.Option(help=f"{' or '.join(PRECISIONS)}. Default: bf16 on CUDA, else fp32.")
    ] = TrainSettings.precision,
    threads: Threads = TrainSettings.threads,
    device: Device = TrainSettings.device,
    tensorboard: Annotated[
        Path | None, typer.Option(help="Folder for TensorBoard's event files.")
    ] = TrainSettings.tensorboard,
) -> None:
    """Train a SPOTER on DATA, split by whole groups, and write its model folder.

    On several GPUs: torchrun --nproc-per-node 4 -m spoter.cli.main train DATA --out FOLDER --device cuda
    """
    options = {key: value for key, value in locals().items() if key not in _ABOUT_THE_RUN}
    given = {key: value for key, value in options.items() if ctx.get_parameter_source(key).name != "DEFAULT"}
    given |= {key: names_of(given[key]) for key in _LISTS if key in given}

    from spoter.training.settings_file import combine

    if resume and fresh:
        raise typer.BadParameter("give --resume or --fresh, not both")
    settings, unused = combine(given, recipe, config)
    first = os.environ.get("RANK", "0") == "0"  # of the processes that torchrun starts
    if unused and first:
        print(f"not used of {config}: {', '.join(unused)}", file=sys.stderr)

    from spoter.training.resume import is_unfinished

    try:
        for library in _NEEDED:
            import_module(library)
    except ImportError as error:
        raise DataError(f"training needs {error.name}: pip install 'spoter[train]'") from None
    from spoter.training.train import train as run

    if resume and first and not is_unfinished(out):
        print(f"{out}: nothing to resume, starting", file=sys.stderr)
    try:
        trained = run(settings, True, resume, fresh, note)
    except KeyboardInterrupt:
        if first:
            print(f"\ninterrupted: the same command with --resume goes on from {out}", file=sys.stderr)
        raise typer.Exit(130) from None
    if trained is None:
        return
    if trained.data.skipped:
        note(f"skipped {len(trained.data.skipped)} clips, listed above")
    for side in ("validation", "test"):
        answers = getattr(trained.results, side)
        print(f"{side}: top-1 {answers.top(1):.4f}, top-5 {answers.top(5):.4f} of {len(answers)} clips")
    print(f"wrote {out}: epoch {trained.fitted.epoch} of {len(trained.fitted.history)}, {trained.fitted.seconds:.0f} s")
