"""The commands `spoter data …`, and `spoter data summary`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spoter.cli.options import (
    Data,
    GroupRegex,
    SkipBad,
    Test,
    TestGroups,
    ValGroups,
    Validation,
    check_picture,
    split_names,
    note,
    print_skipped,
)
from spoter.errors import DataError
from spoter.training.settings import TrainSettings

if TYPE_CHECKING:
    from rich.console import Console

    from spoter.training.data.summary import Row, Summary

# Libraries that take seconds to import are imported by the command.

data_app = typer.Typer(name="data", help="Look at data sets, and split them.", no_args_is_help=True)

_LISTED = 20  # rare glosses, duplicates, skipped clips; --json has all


@data_app.command()
def summary(
    data: Data,
    group_regex: GroupRegex = None,
    skip_bad: SkipBad = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    picture: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Picture to write.")] = None,
) -> None:
    """Tell what DATA holds: glosses, clips, groups, lengths, missing hands, duplicates."""
    import msgspec
    from rich.console import Console

    from spoter.training.data import read_dataset
    from spoter.training.data.summary import draw, summarize

    if picture is not None:
        check_picture(picture)
    found = summarize(read_dataset(data, skip_bad=skip_bad, groups=group_regex, progress=True))
    if picture is not None:
        draw(found, picture)
    if as_json:
        print(msgspec.json.encode(found).decode())
    else:
        # Piped, a table shall not be cut to the 80 columns that rich then takes.
        _show(found, Console(width=None if sys.stdout.isatty() else 120, highlight=False, soft_wrap=False))
    if picture is not None:
        print(f"wrote {picture}", file=sys.stderr)


@data_app.command()
def split(
    data: Data,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Gets train.hdf5, validation.hdf5 and test.hdf5.")],
    validation: Validation = TrainSettings.validation,
    test: Test = TrainSettings.test,
    val_groups: ValGroups = "",
    test_groups: TestGroups = "",
    seed: Annotated[int, typer.Option(min=0, help="Of the shares.")] = TrainSettings.seed,
    group_regex: GroupRegex = None,
    skip_bad: SkipBad = False,
) -> None:
    """Write DATA as three files, split by whole groups as spoter train splits them.

    For commands that want clips apart: spoter train, calibrate (--validation-data), export (--left-out), evaluate.
    """
    from spoter.files import exclusive_lock
    from spoter.training.data import connecting_points, read_dataset
    from spoter.training.data.split import SUBSETS
    from spoter.training.data.split_record import split_dataset

    clips = read_dataset(data, skip_bad=skip_bad, groups=group_regex, progress=True)
    print_skipped(clips.skipped)
    options = {"validation": validation, "test": test, "seed": seed}
    options |= {"validation_groups": split_names(val_groups), "test_groups": split_names(test_groups)}
    clips, sides = split_dataset(clips, skip_bad, note, options)
    out.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(out):
        files = {side: out / f"{side}.hdf5" for side in SUBSETS}
        for path in files.values():
            if path.exists():
                raise DataError(f"{path}: found this file already; delete it, or write into another folder by --out")
        for side, path in files.items():
            members = sides.select(clips.clips, side)
            connecting_points.write(path, members, clips.estimator)
            print(f"{path}: {len(members)} clips of {', '.join(getattr(sides, side))}")


def _show(found: Summary, console: Console) -> None:
    from rich.markup import escape
    from rich.table import Table

    total = found.total
    console.print(f"{escape(', '.join(found.sources))}: SHA-256 of the clips {found.digest}")
    told = f"{total.groups} groups" if found.grouped else "no groups told (each clip is its own)"
    console.print(f"{total.clips} clips of {len(found.glosses)} glosses, {told}, landmarks of {found.estimator}")

    table = Table("gloss", caption="missing: share of frames without any landmark of that part", caption_justify="left")
    for name in ("clips", "groups", "frames", "min", "median", "max", "no left hand", "no right hand", "no pose"):
        table.add_column(name, justify="right")
    for gloss, row in found.glosses.items():
        table.add_row(escape(gloss), *_cells(row, found.grouped))
    table.add_section()
    table.add_row("all", *_cells(total, found.grouped), style="bold")
    console.print(table)

    if found.grouped:
        listed = [f"{group} {count}" for group, count in found.groups.items()]
        more = f", and {len(listed) - 40} more" if len(listed) > 40 else ""
        console.print(escape(f"clips of each group: {', '.join(listed[:40])}{more}"))
    rare = [f"{gloss}: {count}" for gloss, count in found.rare.items()]
    _list(console, "glosses in fewer groups than the three sides of a split", rare)
    sets = [" = ".join(names) for names in found.duplicates]
    _list(console, "sets of clips that hold the very same points", sets)
    _list(console, "clips skipped", [f"{skip.place}: {skip.reason}" for skip in found.skipped])


def _cells(row: Row, grouped: bool) -> list[str]:
    counts = (row.clips, row.groups if grouped else "-", row.frames, row.shortest, f"{row.median:g}", row.longest)
    return [*map(str, counts), *(f"{share:.1%}" for share in row.missing.values())]


def _list(console: Console, title: str, lines: list[str]) -> None:
    from rich.markup import escape

    console.print(f"{title}: {len(lines)}")
    for line in lines[:_LISTED]:
        console.print(f"  {escape(line)}")
    if len(lines) > _LISTED:
        console.print(f"  and {len(lines) - _LISTED} more; --json lists all")
