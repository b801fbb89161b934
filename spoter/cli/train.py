"""The command `spoter train`."""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from spoter.cli.options import Data, is_given, note, require_packages, split_names
from spoter.training.settings import OPTIONS, RECIPES, TrainSettings

# The command imports torch and the modules that need it: `spoter --help` does not wait for them.


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
    **options: Any,
) -> None:
    """Train a SPOTER on DATA, split by whole groups, and write its model folder.

    On several GPUs: torchrun --nproc-per-node 4 -m spoter.cli.main train DATA --out FOLDER --device cuda
    """
    if resume and fresh:
        raise typer.BadParameter("give --resume or --fresh, not both")
    # matplotlib draws the curves at the end only: check for it before hours of training.
    require_packages("training", "torch", "matplotlib", "scipy", "sklearn")

    from spoter.training.resume import is_unfinished
    from spoter.training.settings_file import build_settings
    from spoter.training.train import train as run

    given = {name: value for name, value in options.items() if is_given(ctx, name)}
    given |= {name: split_names(given[name]) for name in given if isinstance(getattr(TrainSettings, name), tuple)}
    settings, unused = build_settings({"data": data, "out": out, **given}, recipe, config)
    if settings.tensorboard:
        require_packages("--tensorboard", "tensorboard")
    is_main_process = os.environ.get("RANK", "0") == "0"  # torchrun sets RANK
    if unused and is_main_process:
        note(f"not used of {config}: {', '.join(unused)}")
    if resume and is_main_process and not is_unfinished(out):
        note(f"{out}: nothing to resume, starting")
    try:
        trained = run(settings, True, resume, fresh, note)
    except KeyboardInterrupt:
        if is_main_process:
            note(f"\ninterrupted: the same command with --resume goes on from {out}")
        raise typer.Exit(130) from None
    if trained is None:
        return
    if trained.data.skipped:
        note(f"skipped {len(trained.data.skipped)} clips, listed above")
    for side, predictions in (("validation", trained.validation), ("test", trained.test)):
        print(f"{side}: top-1 {predictions.top(1):.4f}, top-5 {predictions.top(5):.4f} of {len(predictions)} clips")
    print(f"wrote {out}: epoch {trained.fitted.epoch} of {len(trained.fitted.history)}, {trained.fitted.seconds:.0f} s")


def _add_setting_parameters() -> None:
    """Replace the command's `**options`, which typer cannot read, by a parameter for each option of `TrainSettings`."""
    signature = inspect.signature(train, eval_str=True)
    parameters = [parameter for name, parameter in signature.parameters.items() if name != "options"]
    types = get_type_hints(TrainSettings)
    for name, option in OPTIONS.items():
        kind, default = types[name], getattr(TrainSettings, name)
        if isinstance(default, tuple):
            kind, default = str, ""  # names, comma-separated
        flags = [f"--{name.replace('_', '-')}"] if kind is bool else []  # a flag without its opposite
        info = typer.Option(*flags, help=option.help, min=None if option.min_open else option.min)
        parameters.append(
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, info])
        )
    vars(train)["__signature__"] = signature.replace(parameters=parameters)
    train.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}


_add_setting_parameters()
