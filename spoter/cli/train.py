"""The command `spoter train`."""

import inspect
import os
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from spoter.cli.options import Data, is_given, note, require_packages, split_names
from spoter.training.settings import OPTIONS, RECIPES, TrainSettings


def train(
    ctx: typer.Context,
    data: Data,
    out: Annotated[Path, typer.Option(help="Model folder to write.")],
    recipe: Annotated[
        str, typer.Option(help=f"Preset that other options override: {', '.join(RECIPES)}.", show_default="ours")
    ] = "",
    config: Annotated[
        Path | None, typer.Option(help="TOML or JSON file of options, or config.json of the original project.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume the unfinished run in the folder.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete the unfinished run in the folder.")] = False,
    **options: Any,
) -> None:
    """Train a model on DATA, split by whole groups, and write its model folder.

    Options of the command line override --config, which overrides --recipe. With torchrun, training uses several GPUs.
    """
    if resume and fresh:
        raise typer.BadParameter("--resume and --fresh cannot be combined")
    # matplotlib is needed only at the end, after hours of training; check for it now.
    require_packages("training", "torch", "matplotlib", "scipy", "sklearn")

    from spoter.training.resume import is_unfinished
    from spoter.training.settings_file import build_settings
    from spoter.training.train import train as run

    chosen = {name: value for name, value in options.items() if is_given(ctx, name)}
    chosen |= {name: split_names(chosen[name]) for name in chosen if isinstance(getattr(TrainSettings, name), tuple)}
    settings, unused = build_settings({"data": data, "out": out, **chosen}, recipe, config)
    if settings.tensorboard:
        require_packages("--tensorboard", "tensorboard")
    is_main_process = os.environ.get("RANK", "0") == "0"  # torchrun sets RANK
    if unused and is_main_process:
        note(f"ignored in {config}: {', '.join(unused)}")
    if resume and is_main_process and not is_unfinished(out):
        note(f"{out}: nothing to resume, starting")
    try:
        trained = run(settings, True, resume, fresh, note)
    except KeyboardInterrupt:
        if is_main_process:
            note(f"\ninterrupted: run the same command with --resume to resume from {out}")
        raise typer.Exit(130) from None
    if trained is None:
        return
    if trained.data.skipped:
        note(f"skipped {len(trained.data.skipped)} clips")
    for subset, predictions in (("validation", trained.validation), ("test", trained.test)):
        print(f"{subset}: top-1 {predictions.top(1):.4f}, top-5 {predictions.top(5):.4f} of {len(predictions)} clips")
    print(f"wrote {out}: epoch {trained.fitted.epoch} of {len(trained.fitted.history)}, {trained.fitted.seconds:.0f} s")


def _add_setting_parameters() -> None:
    """Replace `**options` of the command, which typer cannot read, by one parameter per option of `TrainSettings`."""
    signature = inspect.signature(train, eval_str=True)
    parameters = [parameter for name, parameter in signature.parameters.items() if name != "options"]
    types = get_type_hints(TrainSettings)
    for name, option in OPTIONS.items():
        kind, default = types[name], getattr(TrainSettings, name)
        if isinstance(default, tuple):
            kind, default = str, ""  # names, comma-separated
        flags = [f"--{name.replace('_', '-')}"] if kind is bool else []  # without a --no-… flag
        info = typer.Option(*flags, help=option.help, min=None if option.min_open else option.min)
        parameters.append(
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, info])
        )
    vars(train)["__signature__"] = signature.replace(parameters=parameters)
    train.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}


_add_setting_parameters()
