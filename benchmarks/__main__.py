"""Run the benchmarks and print Markdown tables: `python -m bench`, which is what `make bench` does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmarks import ROOT
from benchmarks.load.processes import end_on_signals
from benchmarks.serving import in_process, server
from benchmarks.timing import machine, table
from spoter.model.config import RUNTIMES


def main(
    model: Annotated[Path, typer.Option(help="Model folder.")] = ROOT / "models" / "dgs11",
    seconds: Annotated[float, typer.Option(min=0, help="How long to measure each table.")] = 15.0,
    with_server: Annotated[bool, typer.Option("--server/--no-server", help="Start TorchServe, too.")] = True,
) -> None:
    """Measure a 60-frame request: our steps and the original's in this process, and the whole through TorchServe."""
    print(f"{machine()}, one thread; medians of alternating rounds\n")
    steps = in_process.measure(model, seconds)
    print(table("Steps of a 60-frame request, in process", steps, steps[0], in_process.JSON_LOADS))
    theirs, whole = in_process.compare(model, RUNTIMES, seconds)
    print(in_process.steps_table(theirs))
    print(in_process.compared(whole))
    if with_server:
        rows = server.measure(model, seconds)
        compact = next(row for row in rows if row.name == "in process, compact")
        print(table("One client, one worker", rows, compact, compact.name))


if __name__ == "__main__":
    end_on_signals()
    typer.run(main)
