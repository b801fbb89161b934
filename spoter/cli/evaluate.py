"""The command `spoter evaluate`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from spoter.cli import options
from spoter.cli.options import note, require_packages
from spoter.errors import DataError

if TYPE_CHECKING:
    from spoter.training.evaluation.evaluate import Evaluation


def evaluate(
    model: options.Model,
    data: options.Data,
    groups: Annotated[str, typer.Option(help="Only these groups: names, patterns, comma-separated: 'camera0*'.")] = "",
    split: Annotated[str, typer.Option(help="Only this subset of MODEL's split: train, validation or test.")] = "",
    group_regex: options.ModelGroupRegex = None,
    unknown: Annotated[
        Literal["error", "count"], typer.Option(help="Clips of unknown glosses: an error, or signs to be rejected.")
    ] = "error",
    skip_bad: options.SkipBad = False,
    robustness: Annotated[
        bool, typer.Option(help="Evaluate under other conditions too; with --json only for a report.")
    ] = True,
    report: Annotated[Path | None, typer.Option(help="Self-contained HTML page to write.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for evaluation.json, the pictures and report.html.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the intervals and the random conditions.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON instead of tables.")] = False,
    threads: options.Threads = 0,
    device: options.Device = "cpu",
) -> None:
    """Evaluate MODEL on the labeled clips of DATA, as a server would answer them."""
    if groups and split:
        raise typer.BadParameter("--groups and --split cannot be combined")
    require_packages("evaluation", "torch", "sklearn")
    import torch

    from spoter.training.evaluation.evaluate import evaluate as run

    if threads:
        torch.set_num_threads(threads)
    write = _prepare_report(out, report) if report or out else None  # fails before the evaluation, not after it
    result = run(
        model,
        data,
        options.split_names(groups),
        split=split,
        robust=robustness and (write is not None or not as_json),
        count_unknown=unknown == "count",
        group_regex=group_regex,
        skip_bad=skip_bad,
        seed=seed,
        device=device,
        progress=True,
        note=note,
    )
    for name, reason in result.predictions.refused.items():
        note(f"refused and counted as wrong: {name}: {reason}")
    written = write(result, out, report) if write else []
    if as_json:
        print(result.to_json())
        return
    _show(result)
    for path in written:
        print(f"wrote {path}")


def _prepare_report(out: Path | None, report: Path | None) -> Callable[..., list[Path]]:
    """Check that the report can be written; return `write_report`."""
    for folder in filter(None, (out if out and out.exists() else None, report and report.parent)):
        if not folder.is_dir():
            raise DataError(f"{folder}: found no folder, expected one for the report")
    if report and report.is_dir():
        raise DataError(f"{report}: found a folder, expected the name of a file for the report")
    require_packages("a report", "jinja2", "matplotlib")
    from spoter.training.evaluation.report import write_report

    return write_report


def _show(result: Evaluation) -> None:
    """Print the evaluation as tables."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from spoter.training.evaluation import descriptions

    console = Console(highlight=False, markup=False)

    def show(content: descriptions.Table, columns: int) -> None:
        table = Table(title=content.title, title_justify="left", box=box.SIMPLE, pad_edge=False)
        for number, name in enumerate(content.columns[:columns]):
            table.add_column(name, justify="right" if number in content.numeric else "left")
        for row in content.rows:
            table.add_row(*map(Text, row[:columns]))  # a gloss may look like rich's markup
        console.print(table)

    figures = result.figures
    console.print(f"{result.model} on {result.data}, {result.side}: {figures.clips} clips, {figures.groups} groups")
    if result.trained_on:
        console.print(f"The model was trained on the groups of {result.trained_on} of these clips.")
    show(descriptions.tabulate_figures(figures), 4)
    detection = descriptions.describe_unknown_detection(result.known, result.unknown)
    console.print(descriptions.describe_intervals(figures), *detection, sep="\n")
    show(descriptions.tabulate_glosses(result.predictions), 7)
    if result.robustness:
        show(descriptions.tabulate_robustness(result.robustness), 7)  # without the sentences
