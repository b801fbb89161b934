"""Put the same HTTP load on our server and on others that serve the same model: `make bench-peers`.

Load comes from 127.0.0.1 and ends by itself. Every server has as many processes that compute as there are cores, each
with one thread of torch; servers without load are stopped meanwhile. Each figure is the median of rounds.
"""

from __future__ import annotations

import json
import os
import platform
import sysconfig
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import MODEL, ROOT
from benchmarks.command import ModelOption, RuntimeOption, run_command, split_names, split_numbers
from benchmarks.load import wrk
from benchmarks.load.bodies import BODIES
from benchmarks.models import copy_with_graph
from benchmarks.peers.environment import find_environment, packages_folder
from benchmarks.peers.matrix import Settings, count_cores, measure_servers
from benchmarks.peers.report import judge_targets, loads_table, targets_table
from benchmarks.peers.servers import NAMES, ORIGINAL, OURS
from spoter.errors import SpoterError
from spoter.files import atomic_write_bytes
from spoter.model.config import RUNTIMES, choose_runtime

PACKAGES = ("torch", "torchserve", "fastapi", "uvicorn", "litserve", "bentoml")


def main(
    model: ModelOption = MODEL,
    runtime: RuntimeOption = None,
    servers: Annotated[str, typer.Option(help="Which, with commas between.")] = ",".join(NAMES),
    requests: Annotated[str, typer.Option(help="compact, full or both.")] = "compact,full",
    clients: Annotated[str, typer.Option(help="Of the closed loops.")] = "1,8,32",
    seconds: Annotated[float, typer.Option(min=0.1, help="Of each measurement; wrk takes whole ones.")] = 2.0,
    rounds: Annotated[int, typer.Option(min=1, help="How often each is made.")] = 3,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes that compute [default: one a core].")] = None,
    out: Annotated[Path, typer.Option(help="JSON file for the figures.")] = ROOT / "build" / "bench" / "peers.json",
) -> None:
    """Measure servers next to each other, print Markdown tables and write a JSON file."""
    chosen = choose_runtime(model, runtime)
    if chosen not in RUNTIMES:
        raise SpoterError(f"found --runtime {chosen}, expected one of {', '.join(RUNTIMES)}")
    settings = Settings(
        runtime=chosen,
        servers=split_names(servers, NAMES, "--servers"),
        requests=split_names(requests, BODIES, "--requests"),
        clients=sorted(split_numbers(clients, "--clients", range(1, 1001))),
        seconds=seconds,
        rounds=rounds,
        workers=workers or count_cores(),
    )
    began = time.monotonic()
    machine = describe_setup(settings.servers)
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    print(f"{settings.workers} processes each; median of {rounds} rounds of {seconds:g} s\n")
    with tempfile.TemporaryDirectory(prefix="spoter-peers-") as scratch:
        folder = copy_with_graph(model, chosen, Path(scratch))
        rows = measure_servers(folder, settings)
    targets = judge_targets(rows, settings.clients)
    for request in settings.requests:
        of_request = [row for row in rows if row.request == request]
        print(loads_table(f"{folder.name}, {request} request", of_request, settings.workers))
    print(targets_table(f"{folder.name}, targets", targets))
    seconds_taken = time.monotonic() - began
    content = {"machine": machine, "model": folder.name, "settings": asdict(settings), "seconds": seconds_taken}
    content |= {"loads": list(map(asdict, rows)), "targets": list(map(asdict, targets))}
    out.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_bytes(out, json.dumps(content, indent=2).encode() + b"\n")
    typer.echo(f"{out}, after {seconds_taken:.0f} s", err=True)


def describe_setup(servers: Sequence[str]) -> dict[str, str]:
    """Return all that figures depend on apart from the code: the machine, and versions of packages.

    Raises `SpoterError` where the environment of the other servers is missing.
    """
    paths = [sysconfig.get_path("purelib")]
    if set(servers) - {OURS, ORIGINAL}:
        find_environment()
        paths.insert(0, str(packages_folder()))
    installed = reversed(list(metadata.distributions(path=paths)))
    versions = {(package.name or "").lower(): package.version for package in installed}
    return {
        "machine": platform.machine(),
        "cores": str(count_cores()),
        "load": f"{os.getloadavg()[0]:.1f}",
        "Python": platform.python_version(),
        **{name: versions[name] for name in PACKAGES if name in versions},
        "client": f"{'wrk, in open loops ' if wrk.is_installed() else ''}aiohttp {metadata.version('aiohttp')}",
    }


if __name__ == "__main__":
    run_command(main)
