"""Compare our server with other servers of the same model, under the same HTTP load: `make bench-peers`.

The load comes from this machine. Every server computes in as many processes as there are cores, each with one thread.
While one server is measured, the others are paused. Each figure is the median over rounds.
"""

import json
import os
import platform
import sysconfig
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
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
from benchmarks.peers.matrix import IN_PROCESS, Row, Settings, measure_servers
from benchmarks.peers.servers import NAMES, ORIGINAL, OURS
from benchmarks.tables import markdown_table
from spoter.batch.process_pool import count_cores
from spoter.errors import SpoterError
from spoter.files import atomic_write_bytes
from spoter.model.config import RUNTIMES, choose_runtime

PACKAGES = ("torch", "torchserve", "fastapi", "uvicorn", "litserve", "bentoml")
# Targets: minimum share of the rate without a server, maximum milliseconds that the server adds for one client, and
# minimum ratio of the original's processor time to ours.
THROUGHPUT, ADDED_MS, CPU_TIMES = 0.85, 4.0, 12


def main(
    model: ModelOption = MODEL,
    runtime: RuntimeOption = None,
    servers: Annotated[str, typer.Option(help="Comma-separated names.")] = ",".join(NAMES),
    requests: Annotated[str, typer.Option(help="compact, full or both.")] = "compact,full",
    clients: Annotated[str, typer.Option(help="Numbers of clients, comma-separated.")] = "1,8,32",
    seconds: Annotated[float, typer.Option(min=0.1, help="Duration of a measurement; wrk rounds it up.")] = 2.0,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of measurements.")] = 3,
    workers: Annotated[int | None, typer.Option(min=1, help="Computing processes [default: one per core].")] = None,
    out: Annotated[Path, typer.Option(help="JSON file for the figures.")] = ROOT / "build" / "bench" / "peers.json",
) -> None:
    """Measure the servers, print Markdown tables and write a JSON file."""
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
    print(f"{settings.workers} processes per server; medians over {rounds} rounds of {seconds:g} s\n")
    with tempfile.TemporaryDirectory(prefix="spoter-peers-") as scratch:
        folder = copy_with_graph(model, chosen, Path(scratch))
        rows = measure_servers(folder, settings)
    targets = judge_targets(rows, settings.clients)
    for request in settings.requests:
        request_rows = [row for row in rows if row.request == request]
        print(loads_table(f"{folder.name}, {request} requests", request_rows, settings.workers))
    verdicts = [(each.name, each.found, each.expected, "yes" if each.reached else "no") for each in targets]
    print(markdown_table(("target", "measured", "expected", "reached"), verdicts, f"{folder.name}, targets"))
    duration = time.monotonic() - began
    content = {"machine": machine, "model": folder.name, "settings": asdict(settings), "seconds": duration}
    content |= {"loads": list(map(asdict, rows)), "targets": list(map(asdict, targets))}
    out.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_bytes(out, json.dumps(content, indent=2).encode() + b"\n")
    typer.echo(f"wrote {out} after {duration:.0f} s", err=True)


def describe_setup(servers: Sequence[str]) -> dict[str, str]:
    """Return the machine and package versions; raise `SpoterError` if the other servers' environment is missing."""
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


@dataclass(frozen=True)
class Target:
    """A target of our server: the measured and the expected value, and whether the target is reached."""

    name: str
    found: str  # the measured value
    expected: str
    reached: bool


def loads_table(title: str, rows: Sequence[Row], workers: int) -> str:
    """Return a Markdown table for one model and one kind of request, sorted by the number of clients."""
    cells: list[list[object]] = []
    for row in sorted(rows, key=lambda row: row.clients):
        f = row.figures
        times = (f"{value:.1f}" for value in (f.rate, f.p50, f.p95, f.p99))
        cpu = ("" if value is None else f"{value:.2f}" for value in (f.cpu_ms, f.client_cpu_ms))
        failures = ", ".join(f"{count} x {reason}" for reason, count in sorted((f.failures or {}).items()))
        cells.append([row.clients, _server_name(row, workers), *times, *cpu, f.requests, failures])
    columns = ["clients", "server", "requests/s", "p50 ms", "p95 ms", "p99 ms", "CPU ms per request"]
    return markdown_table([*columns, "client's CPU ms per request", "requests", "failures"], cells, title, left=2)


def _server_name(row: Row, workers: int) -> str:
    if row.server != IN_PROCESS:
        return NAMES[row.server]
    return "in process, 1 process" if workers == 1 or row.clients == 1 else f"in process, {workers} processes"


def judge_targets(rows: Sequence[Row], clients: Sequence[int]) -> list[Target]:
    """Compare our server with its targets, as far as `rows` have the figures."""
    figures = {(row.server, row.request, row.clients): row.figures for row in rows}
    most = max(clients)
    targets = []
    for request in dict.fromkeys(row.request for row in rows):
        by_server = {name: figures[key] for name in (*NAMES, IN_PROCESS) if (key := (name, request, most)) in figures}
        ours, in_process, original = map(by_server.get, (OURS, IN_PROCESS, ORIGINAL))
        ours_single, in_process_single = (figures.get((name, request, 1)) for name in (OURS, IN_PROCESS))
        others = {NAMES[name]: f.rate for name, f in by_server.items() if name not in (OURS, IN_PROCESS)}
        rate = f"{request}: requests/s with {most} clients, compared with"
        if ours and in_process and most > 1:
            # The client uses the same cores: it lowers the rate, but not the processor time per request.
            share, cpu_share = ours.rate / in_process.rate, in_process.cpu_ms / ours.cpu_ms
            value, expected = f"{share:.0%} ({cpu_share:.0%} by CPU time per request)", f"at least {THROUGHPUT:.0%}"
            targets.append(Target(f"{rate} in process on the same cores", value, expected, share >= THROUGHPUT))
        if ours_single and in_process_single:
            added = ours_single.p50 - in_process_single.p50
            name = f"{request}: p50 with one client, minus p50 in process"
            targets.append(Target(name, f"{added:.1f} ms", f"at most {ADDED_MS:g} ms", added <= ADDED_MS))
        if ours and others:
            best = max(others, key=others.__getitem__)
            value = f"{ours.rate:.1f}, the other {others[best]:.1f}"
            targets.append(Target(f"{rate} the best other server ({best})", value, "more", ours.rate > others[best]))
        if ours and original and original.rate:
            ratio, name = original.cpu_ms / ours.cpu_ms, f"{request}: CPU time per request, the original's over ours"
            targets.append(Target(name, f"{ratio:.1f}", f"at least {CPU_TIMES}", ratio >= CPU_TIMES))
    return targets


if __name__ == "__main__":
    run_command(main)
