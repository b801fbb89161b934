"""The command `spoter evaluate`."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spoter.cli.options import Data, Device, ModelGroupRegex, SkipBad, Threads, split_names, note
from spoter.errors import DataError

if TYPE_CHECKING:
    from spoter.training.evaluation.evaluate import Evaluation


class UnknownGlosses(StrEnum):
    """What to do with clips whose glosses the model does not know."""

    ERROR = "error"
    COUNT = "count"


def evaluate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Model folder, such as models/dgs11.")],
    data: Data,
    groups: Annotated[
        str, typer.Option(help="Judge on these groups only: names or patterns, comma-separated: 'camera0*'.")
    ] = "",
    split: Annotated[
        str, typer.Option(help="Judge on one side of the model's own split: train, validation, test.")
    ] = "",
    group_regex: ModelGroupRegex = None,
    unknown: Annotated[
        UnknownGlosses,
        typer.Option(help="Glosses that the model does not know: an error, or counted as signs it should refuse."),
    ] = UnknownGlosses.ERROR,
    skip_bad: SkipBad = False,
    robustness: Annotated[
        bool, typer.Option(help="Judge the same clips under other conditions too; with --json only where it is kept.")
    ] = True,
    report: Annotated[Path | None, typer.Option(help="Self-contained HTML page to write.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for evaluation.json, the pictures and report.html.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the intervals and of what the conditions draw.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print only a JSON line.")] = False,
    threads: Threads = 0,
    device: Device = "cpu",
) -> None:
    """Judge MODEL on the labelled clips of DATA, by the path that serves requests."""
    import torch

    from spoter.training.evaluation.evaluate import evaluate as run

    if groups and split:
        raise typer.BadParameter("give --groups or --split, not both")
    if threads:
        torch.set_num_threads(threads)
    write = _writer(out, report) if report or out else None  # what is lacking is said before the work, not after it
    result = run(
        model,
        data,
        split_names(groups),
        split=split,
        robust=robustness and (write is not None or not as_json),
        count_unknown=unknown is UnknownGlosses.COUNT,
        group_regex=group_regex,
        skip_bad=skip_bad,
        seed=seed,
        device=device,
        progress=True,
        note=note,
    )
    for name, reason in result.answers.refused.items():
        print(f"refused, counted as wrong: {name}: {reason}", file=sys.stderr)
    written = write(result, out, report) if write else []
    if as_json:
        print(result.to_json())
        return
    _show(result)
    for path in written:
        print(f"wrote {path}")


def _writer(out: Path | None, report: Path | None):
    for folder in filter(None, (out if out and out.exists() else None, report and report.parent)):
        if not folder.is_dir():
            raise DataError(f"{folder}: found no folder there, expected one to write the report into")
    if report and report.is_dir():
        raise DataError(f"{report}: found a folder there, expected the name of a file for the report")
    try:
        from spoter.training.evaluation.report import write
    except ImportError as error:
        raise DataError(f"a report needs {error.name}: pip install 'spoter[train]'") from None
    return write


def _show(result: Evaluation) -> None:
    """Print tables for people."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from spoter.training.evaluation import descriptions
    from spoter.training.evaluation.metrics import per_gloss

    console = Console(highlight=False, markup=False)

    def show(title: str, columns: dict[str, str], rows) -> None:
        table = Table(title=title, title_justify="left", box=SIMPLE, pad_edge=False)
        for name, justify in columns.items():
            table.add_column(name, justify=justify)
        for row in rows:
            table.add_row(*(Text(str(cell)) for cell in row))  # a gloss may look like rich's markup
        console.print(table)

    figures = result.figures
    console.print(f"{result.model} on {result.data}, {result.side}: {figures.clips} clips, {figures.groups} groups")
    if result.trained_on:
        console.print(f"{result.trained_on} of these clips are of groups that the model was trained on.")
    show(
        "Figures",
        {"Figure": "left", "Value": "right", "95 % interval": "right", "What it means": "left"},
        ((row.name, row.value, row.interval, row.meaning) for row in descriptions.describe_figures(figures)),
    )
    console.print(descriptions.describe_intervals(figures))
    for sentence in descriptions.describe_unknown_detection(result.known, result.unknown):
        console.print(sentence)
    show(
        "Each gloss",
        {"Gloss": "left", "Clips": "right", "Right": "right", "Precision": "right", "Recall": "right", "F1": "right"}
        | {"Most taken for": "left"},
        (
            (row.gloss, row.clips, row.right, *map(descriptions.format_number, (row.precision, row.recall, row.f1)))
            + (descriptions.format_confusions(row),)
            for row in per_gloss(result.answers)
        ),
    )
    if result.robustness:
        show(
            "Robustness",
            {"Condition": "left", "Top-1": "right", "95 % interval": "right", "Top-5": "right", "ECE": "right"}
            | {"Known": "right", "Refused": "right"},
            (
                (row.title, descriptions.format_number(row.top1.value), descriptions.format_interval(row.top1))
                + (
                    descriptions.format_number(row.top5.value),
                    descriptions.format_number(row.ece),
                    descriptions.format_number(row.known),
                    row.refused,
                )
                for row in descriptions.build_robustness_rows(figures, result.known, result.robustness)
            ),
        )
