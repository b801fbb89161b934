"""Measure requests in process and through the server: `make bench`, or `python -m benchmarks`."""

from typing import Annotated

import typer

from benchmarks import MODEL
from benchmarks.command import ModelOption, run_command, split_names
from benchmarks.serving import in_process, server
from benchmarks.timing import describe_machine, ratio_table
from spoter.model.config import RUNTIMES, choose_runtime


def main(
    model: ModelOption = MODEL,
    seconds: Annotated[float, typer.Option(min=0, help="How long to measure each table.")] = 15.0,
    with_server: Annotated[bool, typer.Option("--server/--no-server", help="Also measure TorchServe.")] = True,
    runtimes: Annotated[
        str | None, typer.Option(help="Comma-separated; steps use the first one [default: all, the model's first].")
    ] = None,
    profiled: Annotated[bool, typer.Option("--profile", help="Only profile our requests.")] = False,
) -> None:
    """Measure 60-frame requests: our steps and the original system's in this process; our requests to TorchServe."""
    default = choose_runtime(model)
    chosen = split_names(runtimes, RUNTIMES, "--runtimes") if runtimes else sorted(RUNTIMES, key=default.__ne__)
    if profiled:
        print("\n".join(in_process.profile(model, runtime) for runtime in chosen))
        return
    print(f"{describe_machine()}, one thread; medians of alternating rounds\n")
    print(in_process.report_requests(model, chosen, seconds))
    if with_server:
        timings = server.time_requests(model, seconds)
        print(ratio_table("One client, one worker", timings, "in process, compact"))


if __name__ == "__main__":
    run_command(main)
