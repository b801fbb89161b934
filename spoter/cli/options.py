"""Options and functions that several commands share."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spoter.errors import DataError
from spoter.training.settings import OPTIONS

if TYPE_CHECKING:
    from spoter.training.data import DataSet, Skipped

Width = Annotated[float | None, typer.Option(help="Image width in pixels, for points in pixels.")]
Height = Annotated[float | None, typer.Option(help="Image height in pixels, for points in pixels.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Model = Annotated[Path, typer.Argument(metavar="MODEL", help="Model folder, such as models/dgs11.")]
Data = Annotated[Path, typer.Argument(metavar="DATA", help="Labeled clips; see docs/datasets.md.")]
GroupRegex = Annotated[str | None, typer.Option(help=OPTIONS["group_regex"].help)]
_MODEL_GROUPS = "Regular expression whose first (…) in a clip's name is its group; empty: as in DATA."
ModelGroupRegex = Annotated[str | None, typer.Option(help=_MODEL_GROUPS, show_default="that of MODEL's training")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help=OPTIONS["skip_bad"].help)]
Validation = Annotated[float, typer.Option(help=OPTIONS["validation"].help)]
Test = Annotated[float, typer.Option(help=OPTIONS["test"].help)]
ValGroups = Annotated[str, typer.Option(help=OPTIONS["val_groups"].help)]
TestGroups = Annotated[str, typer.Option(help=OPTIONS["test_groups"].help)]
ValidationByClip = Annotated[bool, typer.Option("--validation-by-clip", help=OPTIONS["validation_by_clip"].help)]
ValidationData = Annotated[Path | None, typer.Option(help=OPTIONS["validation_data"].help)]
Device = Annotated[str, typer.Option(help=OPTIONS["device"].help)]
Threads = Annotated[int, typer.Option(min=0, help=OPTIONS["threads"].help)]


def require_packages(purpose: str, *packages: str) -> None:
    """Raise `DataError` if packages of the extra ``train`` are not installed."""
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise DataError(f"{purpose} needs {', '.join(missing)}: run pip install 'spoter[train]'")


def is_given(ctx: typer.Context, name: str) -> bool:
    """Return whether an option was given on the command line, even with its default value."""
    source = ctx.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


def check_picture(path: Path) -> None:
    """Raise `DataError` if a picture cannot be written; for use before the work starts."""
    if path.suffix.lower() != ".png":
        raise DataError(f"{path}: found {path.suffix or 'no ending'}, expected a picture ending in .png")
    if not path.parent.is_dir():
        raise DataError(f"{path.parent}: found no folder, expected one for the picture")


def note(text: str) -> None:
    """Print a line on stderr."""
    print(text, file=sys.stderr)


def print_skipped(skipped: Iterable[Skipped]) -> None:
    """Print the skipped clips on stderr, one line per clip."""
    for skip in skipped:
        note(f"skipped: {skip}")


def read_clips(data: Path, groups: str | None, skip_bad: bool) -> DataSet:
    """Return labeled clips, read with a progress bar; print skipped clips."""
    from spoter.training.data import read_dataset

    data_set = read_dataset(data, skip_bad=skip_bad, groups=groups, progress=True)
    print_skipped(data_set.skipped)
    return data_set


def split_names(text: str) -> tuple[str, ...]:
    """Return the names in a comma-separated option."""
    return tuple(name.strip() for name in text.split(",") if name.strip())
