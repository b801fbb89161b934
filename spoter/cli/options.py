"""What several training commands have in common."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spoter.errors import DataError

if TYPE_CHECKING:
    from spoter.training.data import Skipped

Width = Annotated[float | None, typer.Option(help="Image width in pixels, where the points are in pixels.")]
Height = Annotated[float | None, typer.Option(help="Image height in pixels, where the points are in pixels.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Data = Annotated[Path, typer.Argument(metavar="DATA", help="Labelled clips: see docs/datasets.md.")]
GroupRegex = Annotated[
    str | None,
    typer.Option(help="Regular expression searched in each clip's name; its first (…) is the clip's group."),
]
ModelGroupRegex = Annotated[
    str | None,
    typer.Option(
        help="Regular expression searched in each clip's name; its first (…) is the clip's group. Default: that of "
        "MODEL's training; empty for the groups that the data tell."
    ),
]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave bad and duplicate clips out, and list them.")]
Validation = Annotated[float, typer.Option(help="Share of clips for validation, in whole groups.")]
Test = Annotated[float, typer.Option(help="Share of clips for testing, in whole groups.")]
ValGroups = Annotated[
    str, typer.Option(help="Validation groups instead of a share: names or patterns, comma-separated: 'anna*,ben'.")
]
TestGroups = Annotated[
    str, typer.Option(help="Test groups instead of a share: names or patterns, comma-separated: 'anna*,ben'.")
]
ValidationByClip = Annotated[
    bool,
    typer.Option(
        "--validation-by-clip", help="Draw the validation share clip by clip from the training groups: for few signers."
    ),
]
ValidationData = Annotated[Path | None, typer.Option(help="Labelled clips for validation, instead of a share of DATA.")]
Device = Annotated[str, typer.Option(help="torch device: cpu, cuda, cuda:1.")]
Threads = Annotated[int, typer.Option(min=0, help="Threads of torch on the CPU; 0 leaves them to torch.")]


def check_picture(path: Path) -> None:
    """Raise `DataError` where a picture cannot be written: before the work, not after it."""
    if path.suffix.lower() != ".png":
        raise DataError(f"{path}: found {path.suffix or 'no ending'}, expected a picture ending in .png")
    if not path.parent.is_dir():
        raise DataError(f"{path.parent}: found no folder there, expected one to write the picture into")


def note(text: str) -> None:
    """Print a line on stderr."""
    print(text, file=sys.stderr)


def print_skipped(skipped: Iterable[Skipped]) -> None:
    """Print clips that were left out, a line each on stderr."""
    for skip in skipped:
        note(f"skipped: {skip}")


def names_of(text: str) -> tuple[str, ...]:
    """Return the names in a comma-separated option."""
    return tuple(name.strip() for name in text.split(",") if name.strip())
