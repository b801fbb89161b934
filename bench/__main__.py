"""Run the benchmarks and print Markdown tables: `python -m bench`, which is what `make bench` does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench import inprocess, server
from bench.commands import end_on_signals
from bench.timing import machine, table
from spoter.config import RUNTIMES

ROOT = Path(__file__).resolve().parent.parent


def main(
    model: Annotated[Path, typer.Option(help="Model folder.")] = ROOT / "models" / "dgs11",
    seconds: Annotated[float, typer.Option(min=0, help="How long to measure each table.")] = 15.0,
    with_server: Annotated[bool, typer.Option("--server/--no-server", help="Start TorchServe, too.")] = True,
) -> None:
    """Measure a 60-frame request: our steps and the original's in this process, and the whole through TorchServe."""
    print(f"{machine()}, one thread; medians of alternating rounds\n")
    steps = inprocess.measure(model, seconds)
    print(table("Steps of a 60-frame request, in process", steps, steps[0], inprocess.JSON_LOADS))
    theirs, whole = inprocess.compare(model, RUNTIMES, seconds)
    print(inprocess.steps_table(theirs))
    print(inprocess.compared(whole))
    if with_server:
        rows = server.measure(model, seconds)
        compact = next(row for row in rows if row.name == "in process, compact")
        print(table("One client, one worker", rows, compact, compact.name))


if __name__ == "__main__":
    end_on_signals()
    typer.run(main)
