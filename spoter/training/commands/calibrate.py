"""The command `spoter calibrate`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from spoter.training.commands.options import Data, Device, GroupRegex, SkipBad, Threads, print_skipped


def add_to(app: typer.Typer) -> None:
    """Register the command with a typer application."""
    app.command()(calibrate)


def calibrate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Model folder, such as spoter convert writes.")],
    data: Data,
    validation_data: Annotated[Path, typer.Argument(metavar="VALIDATION", help="Clips that MODEL was not trained on.")],
    group_regex: GroupRegex = None,
    skip_bad: SkipBad = False,
    threads: Threads = 0,
    device: Device = "cpu",
) -> None:
    """Make the scores of MODEL, trained elsewhere, mean something; let it tell unknown signs, and enroll others.

    DATA are clips of all of its glosses, such as those it was trained on. spoter train does all this by itself.
    """
    import torch

    from spoter.training.calibrate import calibrate as run
    from spoter.training.datasets import read_dataset
    from spoter.training.parallel import choose_device

    if threads:
        torch.set_num_threads(threads)
    sides = [
        read_dataset(path, skip_bad=skip_bad, groups=group_regex or None, progress=sys.stderr.isatty())
        for path in (data, validation_data)
    ]
    print_skipped(skip for side in sides for skip in side.skipped)
    config, left_out = run(model, *sides, choose_device(device), skip_bad=skip_bad)
    print_skipped(left_out)
    print(f"{model}: temperature {config.temperature:g}, known from a similarity of {config.known_threshold:g} on")
