"""What several training commands have in common."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spoter.errors import DataError

if TYPE_CHECKING:
    from spoter.training.datasets import Skipped

Data = Annotated[Path, typer.Argument(metavar="DATA", help="Labelled clips: see docs/datasets.md.")]
GroupRegex = Annotated[
    str | None,
    typer.Option(help="Regular expression searched in each clip's name; its first (…) is the clip's group."),
]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave bad and duplicate clips out, and list them.")]
Device = Annotated[str, typer.Option(help="torch device: cpu, cuda, cuda:1.")]
Threads = Annotated[int, typer.Option(min=0, help="Threads of torch on the CPU; 0 leaves them to torch.")]


def check_picture(path: Path) -> None:
    """Raise `DataError` where a picture cannot be written: before the work, not after it."""
    if path.suffix.lower() != ".png":
        raise DataError(f"{path}: found {path.suffix or 'no ending'}, expected a picture ending in .png")
    if not path.parent.is_dir():
        raise DataError(f"{path.parent}: found no folder there, expected one to write the picture into")


def print_skipped(skipped: Iterable[Skipped]) -> None:
    """Print clips that were left out, a line each on stderr."""
    for skip in skipped:
        print(f"skipped: {skip.place}: {skip.reason}", file=sys.stderr)


def names_of(text: str) -> tuple[str, ...]:
    """Return the names in a comma-separated option."""
    return tuple(name.strip() for name in text.split(",") if name.strip())
