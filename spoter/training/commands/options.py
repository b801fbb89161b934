"""What several training commands have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spoter.errors import DataError

Data = Annotated[Path, typer.Argument(metavar="DATA", help="Labelled clips: see docs/datasets.md.")]
Device = Annotated[str, typer.Option(help="torch device: cpu, cuda, cuda:1.")]
Threads = Annotated[int, typer.Option(min=0, help="Threads of torch on the CPU; 0 leaves them to torch.")]


def check_picture(path: Path) -> None:
    """Raise `DataError` where a picture cannot be written: before the work, not after it."""
    if path.suffix.lower() != ".png":
        raise DataError(f"{path}: found {path.suffix or 'no ending'}, expected a picture ending in .png")
    if not path.parent.is_dir():
        raise DataError(f"{path.parent}: found no folder there, expected one to write the picture into")


def names_of(text: str) -> tuple[str, ...]:
    """Return the names in a comma-separated option."""
    return tuple(name.strip() for name in text.split(",") if name.strip())
