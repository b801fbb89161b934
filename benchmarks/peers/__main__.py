"""Put the same HTTP load on our server and on others that serve the same model: `make bench-peers`.

Load comes from 127.0.0.1 and stops by itself. Every server has as many processes that compute as there are cores, each
with one thread of torch; servers that are not being asked are stopped meanwhile. Each figure is the median of rounds.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import tempfile
import time
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import ROOT
from benchmarks.load import wrk
from benchmarks.load.processes import end_on_signals
from benchmarks.peers import matrix, report
from benchmarks.peers.servers import NAMES, executable
from spoter.errors import SpoterError
from spoter.files import atomic_write_bytes
from spoter.model.config import RUNTIMES, choose_runtime
from spoter.torchserve.process import StartError

OUT = ROOT / "build" / "bench" / "peers.json"
PACKAGES = ("torch", "torchserve", "fastapi", "uvicorn", "litserve", "bentoml")
_VERSIONS = (
    "import json, sys; from importlib.metadata import version; print(json.dumps(list(map(version, sys.argv[1:]))))"
)


def main(
    model: Annotated[Path, typer.Option(help="Model folder.")] = ROOT / "models" / "dgs11",
    large: Annotated[bool, typer.Option(help="Also 6 + 6 layers, 2048 / 256, of random weights.")] = False,
    runtime: Annotated[str | None, typer.Option(help="What computes [default: the model's own].")] = None,
    servers: Annotated[str, typer.Option(help="Which, with commas between.")] = ",".join(NAMES),
    requests: Annotated[str, typer.Option(help="compact, full or both.")] = "compact,full",
    clients: Annotated[str, typer.Option(help="Of the closed loops.")] = "1,8,32",
    seconds: Annotated[float, typer.Option(min=0.1, help="Of each measurement; wrk takes whole ones.")] = 2.0,
    rounds: Annotated[int, typer.Option(min=1, help="How often each is made.")] = 3,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes that compute [default: one a core].")] = None,
    out: Annotated[Path, typer.Option(help="Where the figures go as JSON.")] = OUT,
) -> None:
    """Measure servers side by side, print Markdown tables and write a JSON file."""
    names, kinds = _chosen(servers, NAMES, "--servers"), _chosen(requests, matrix.bodies(), "--requests")
    if runtime is not None:
        _chosen(runtime, dict.fromkeys(RUNTIMES), "--runtime")
    counts = sorted(_count(text) for text in clients.split(","))
    workers = workers or matrix.cores()
    began, found = time.monotonic(), {}
    try:
        machine = _machine(names)
        typer.echo(f"{_words(machine)}; {workers} processes each; median of {rounds} rounds of {seconds:g} s\n")
        with tempfile.TemporaryDirectory(prefix="spoter-peers-") as scratch:
            computes = choose_runtime(model, runtime)
            for folder in _folders(model, large, computes, Path(scratch)):
                rows, footprints = matrix.measure(folder, computes, names, kinds, counts, seconds, rounds, workers)
                bars = report.bars(rows, counts)
                for kind in kinds:
                    of_kind = [row for row in rows if row.request == kind]
                    typer.echo(report.loads_table(f"{folder.name}, {kind} request", of_kind, workers))
                typer.echo(report.footprint_table(f"{folder.name}, beside requests", footprints))
                typer.echo(report.bars_table(f"{folder.name}, to reach", bars))
                found[folder.name] = {
                    "loads": [asdict(row) for row in rows],
                    "footprints": [asdict(one) for one in footprints],
                    "to_reach": [asdict(bar) for bar in bars],
                }
        settings = {"runtime": computes, "clients": counts, "seconds": seconds, "rounds": rounds, "workers": workers}
        content = {"machine": machine, "settings": settings, "seconds": time.monotonic() - began, "models": found}
        out.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_bytes(out, json.dumps(content, indent=2).encode() + b"\n")
    except (StartError, OSError) as error:
        raise _fail(str(error), 1) from None
    except SpoterError as error:
        raise _fail(str(error), error.exit_code) from None
    typer.echo(f"{out}, after {time.monotonic() - began:.0f} s", err=True)


def _fail(message: str, status: int) -> typer.Exit:
    typer.echo(f"python -m benchmarks.peers: {message}", err=True)
    return typer.Exit(status)


def _chosen(text: str, known: dict, option: str) -> list[str]:
    """Return the names in an option, in the order of the known ones."""
    names = [name.strip() for name in text.split(",")]
    strange = [name for name in names if name not in known]
    if strange:
        raise _fail(f"found {option} {', '.join(strange)}, expected some of {','.join(known)}", 2)
    return [name for name in known if name in names]


def _count(text: str) -> int:
    if not text.strip().isdecimal() or not 1 <= int(text) <= 1000:
        raise _fail(f"found {text!r} in --clients, expected numbers from 1 to 1000 with commas between, such as 1,8", 2)
    return int(text)


def _folders(model: Path, large: bool, runtime: str, scratch: Path) -> list[Path]:
    """Return the model folders to measure, with what the runtime needs; the one that was given stays as it is."""
    from benchmarks.random_models import add_graph, write_random

    folders = [model, *([write_random(scratch / "6+6-layers")] if large else [])]
    if runtime != "torch":
        folders[0] = scratch / "given" / model.resolve().name
        shutil.copytree(model, folders[0])
        for folder in folders:
            add_graph(folder, runtime)
    return folders


def _machine(servers: list[str]) -> dict[str, object]:
    """Return what a figure depends on beside the code."""
    python = executable(servers)
    packages = PACKAGES if python.parent.parent.name == "peers" else PACKAGES[:2]
    versions = subprocess.run([python, "-I", "-c", _VERSIONS, *packages], check=True, capture_output=True, text=True)
    return {
        "machine": platform.machine(),
        "cores": matrix.cores(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "packages": dict(zip(packages, json.loads(versions.stdout), strict=True)),
        "client": f"{'wrk, in open loops ' if wrk.found() else ''}aiohttp {metadata.version('aiohttp')}",
    }


def _words(machine: dict) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    return (
        f"{machine['machine']}, {machine['cores']} cores, load {machine['load']:.1f}; Python {machine['python']}, "
        f"{versions}; client {machine['client']}"
    )


if __name__ == "__main__":
    end_on_signals()
    typer.run(main)
