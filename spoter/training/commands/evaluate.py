"""The command `spoter evaluate`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from spoter.training.commands.options import Data, Device, Threads, names_of


def add_to(app: typer.Typer) -> None:
    """Register the command with a typer application."""
    app.command()(evaluate)


def evaluate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Model folder, such as models/dgs11.")],
    data: Data,
    groups: Annotated[str, typer.Option(help="Judge on these groups only, comma-separated: camera01,camera02.")] = "",
    split: Annotated[
        str, typer.Option(help="Judge on one side of the model's own split: train, validation, test.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print only a JSON line.")] = False,
    threads: Threads = 0,
    device: Device = "cpu",
) -> None:
    """Judge MODEL on the labelled clips of DATA, by the path that serves requests."""
    import torch

    from spoter.training.evaluate import evaluate as run
    from spoter.training.evaluate import groups_of_side

    if groups and split:
        raise typer.BadParameter("give --groups or --split, not both")
    if threads:
        torch.set_num_threads(threads)
    chosen = groups_of_side(model, split) if split else names_of(groups)
    result = run(model, data, chosen, progress=sys.stderr.isatty(), device=device)
    for name, reason in result.refused.items():
        print(f"refused, counted as wrong: {name}: {reason}", file=sys.stderr)
    if not as_json:
        for gloss, (clips, right) in result.per_gloss().items():
            print(f"{gloss}: {right} of {clips}")
    print(result.to_json())
