"""The commands `spoter data …`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spoter.cli import EXAMPLES, STYLE, options
from spoter.cli.options import note
from spoter.errors import DataError
from spoter.files import atomic_write, atomic_write_bytes, exclusive_lock
from spoter.landmarks.layouts import load_layout
from spoter.training.settings import TrainSettings

if TYPE_CHECKING:
    from rich.console import Console

    from spoter.training.data.summary import ClipStatistics, Summary

app = typer.Typer(name="data", help="Summarize and split data sets; show augmentations.", no_args_is_help=True, **STYLE)

_FRAMES_DRAWN = 8  # per row of the picture of augmentations
_LISTED = 20  # rare glosses, duplicates, skipped clips; --json lists all


@app.command(epilog=EXAMPLES.format("spoter data summary clips/ --picture summary.png"))
def summary(
    data: options.Data,
    group_regex: options.GroupRegex = None,
    skip_bad: options.SkipBad = False,
    as_json: options.AsJson = False,
    picture: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Picture to write.")] = None,
) -> None:
    """Summarize DATA: glosses, clips, groups, lengths, missing hands, duplicates."""
    import msgspec
    from rich.console import Console

    from spoter.training.data import read_dataset
    from spoter.training.data.summary import draw_figure, summarize

    if picture is not None:
        options.check_picture(picture)
    figures = summarize(read_dataset(data, skip_bad=skip_bad, groups=group_regex, progress=True))
    if as_json:
        print(msgspec.json.encode(figures).decode())
    else:
        # For a pipe, rich would cut the table to 80 columns.
        _print_summary(figures, Console(width=None if sys.stdout.isatty() else 120, highlight=False, soft_wrap=False))
    if picture is not None:
        with atomic_write(picture) as temporary:
            draw_figure(figures).savefig(temporary, format="png", dpi=100)
        print(f"wrote {picture}", file=sys.stderr)


@app.command(epilog=EXAMPLES.format("spoter data split clips/ --out parts/ --test-groups 'anna*'"))
def split(
    data: options.Data,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder for train.hdf5, validation.hdf5 and test.hdf5.")],
    validation: options.Validation = TrainSettings.validation,
    test: options.Test = TrainSettings.test,
    val_groups: options.ValGroups = "",
    test_groups: options.TestGroups = "",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the shares.")] = TrainSettings.seed,
    group_regex: options.GroupRegex = None,
    skip_bad: options.SkipBad = False,
) -> None:
    """Split DATA into three files by whole groups, as `spoter train` does.

    Use the files with `spoter train`, `calibrate --validation-data`, `export --left-out` and `evaluate`.
    """
    from spoter.training.data import connecting_points
    from spoter.training.data.split import SUBSETS, SplitOptions
    from spoter.training.data.split_record import split_dataset

    dataset = options.read_clips(data, group_regex, skip_bad)
    groups = options.split_names(val_groups), options.split_names(test_groups)
    dataset, parts = split_dataset(dataset, SplitOptions(validation, test, *groups, seed), skip_bad=skip_bad, note=note)
    out.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(out):
        files = {subset: out / f"{subset}.hdf5" for subset in SUBSETS}
        for path in files.values():
            if path.exists():
                raise DataError(f"{path}: the file exists already; delete it or choose another folder with --out")
        for subset, path in files.items():
            clips = parts.select(dataset.clips, subset)
            connecting_points.write_clips(path, clips, dataset.estimator)
            print(f"{path}: {len(clips)} clips of {', '.join(parts.groups(subset))}")


@app.command(epilog=EXAMPLES.format("spoter data augmentations clips/ --out augmentations.png"))
def augmentations(
    data: options.Data,
    out: Annotated[Path, typer.Option(help="PNG picture to write.")],
    clip: Annotated[str, typer.Option(help="Name of the clip.", show_default="the first with both hands")] = "",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the augmentations.")] = 0,
) -> None:
    """Draw a clip of DATA under each augmentation of training, one row each.

    The top row shows the clip as recorded. Every other row shows the strongest of 16 random draws.
    """
    import numpy as np

    from spoter.drawing import encode_png
    from spoter.training.augment.preview import EXAMPLES, choose_clip, draw_rows, strongest_draw
    from spoter.training.data import read_dataset

    options.check_picture(out)
    layout = load_layout("54")
    name, points = choose_clip(read_dataset(data), clip, layout)
    recorded = f"as recorded\n{len(points)} frames"
    rows = {recorded: points}
    for caption, augmenter in EXAMPLES.items():
        augmented = strongest_draw(augmenter, points, layout, TrainSettings.position_rows, seed)
        rows[f"{caption}\n{len(augmented)} frames" if len(augmented) != len(points) else caption] = augmented
    frames = np.unique(np.linspace(0, len(points) - 1, _FRAMES_DRAWN).round().astype(int)).tolist()
    picture = draw_rows(rows, layout.names, frames, f"{name}\nin grey behind: as recorded", behind=recorded)
    atomic_write_bytes(out, encode_png(picture))
    print(f"wrote {out}: {name}, {len(EXAMPLES)} changes")


def _print_summary(summary: Summary, console: Console) -> None:
    from rich.markup import escape
    from rich.table import Table

    total = summary.total
    console.print(f"{escape(', '.join(summary.sources))}: SHA-256 of the clips {summary.digest}")
    groups = f"{total.groups} groups" if summary.grouped else "without groups (each clip is its own group)"
    console.print(f"{total.clips} clips of {len(summary.glosses)} glosses, {groups}, landmarks of {summary.estimator}")

    table = Table("gloss", caption="missing: share of frames without any landmark of that part", caption_justify="left")
    for name in ("clips", "groups", "frames", "min", "median", "max", "no left hand", "no right hand", "no pose"):
        table.add_column(name, justify="right")
    for gloss, row in summary.glosses.items():
        table.add_row(escape(gloss), *_cells(row, summary.grouped))
    table.add_section()
    table.add_row("all", *_cells(total, summary.grouped), style="bold")
    console.print(table)

    if summary.grouped:
        counts = [f"{group} {count}" for group, count in summary.groups.items()]
        more = f", and {len(counts) - 40} more" if len(counts) > 40 else ""
        console.print(escape(f"clips of each group: {', '.join(counts[:40])}{more}"))
    lists = {
        "glosses in fewer than three groups, one per subset of a split": [f"{g}: {n}" for g, n in summary.rare.items()],
        "sets of clips with identical points": [" = ".join(names) for names in summary.duplicates],
        "clips skipped": [str(skip) for skip in summary.skipped],
    }
    for title, lines in lists.items():
        console.print(f"{title}: {len(lines)}")
        for line in lines[:_LISTED]:
            console.print(f"  {escape(line)}")
        if len(lines) > _LISTED:
            console.print(f"  and {len(lines) - _LISTED} more; --json lists all")


def _cells(row: ClipStatistics, grouped: bool) -> list[str]:
    counts = (row.clips, row.groups if grouped else "-", row.frames, row.shortest, f"{row.median:g}", row.longest)
    return [*map(str, counts), *(f"{share:.1%}" for share in row.missing.values())]
