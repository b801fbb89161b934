"""Find the best workers x threads x batch x delay for a number of cores: `python -m benchmarks.serving.tuning --cores 2`.

One TorchServe on those cores; for each setting the model is registered anew, with that many workers, and asked by 1, 8
and 32 clients. The settings are gone through in rounds, each in an order of its own, so that a slow minute of the
machine does not decide; what stands in the table are medians of the rounds.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import statistics
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
import yaml
from tqdm import tqdm

from benchmarks import ROOT
from benchmarks.load.processes import end_on_signals
from benchmarks.timing import machine
from spoter.errors import ModelFolderError, SpoterError

if TYPE_CHECKING:
    from spoter.torchserve.server import Server

CLIENTS = (1, 8, 32)
BATCHES = (1, 4, 8, 16)
DELAYS = (1, 5)  # milliseconds; TorchServe takes 0 for "not set", which is 100
WARM = 1.5  # seconds of load before a setting is measured: Python, Java and the processor's caches wake up


@dataclass(frozen=True)
class Setting:
    """What is tuned: `workers` of `threads` each, up to `batch` requests in a forward, `delay` ms to wait for them."""

    workers: int
    threads: int
    batch: int
    delay: int


@dataclass(frozen=True)
class Measured:
    """Requests a second, milliseconds, and the server's processor milliseconds a request, for a number of clients."""

    rate: float
    p50: float
    p99: float
    cpu_ms: float


def settings(cores: int, runtime: str) -> list[Setting]:
    """Return what is tried: workers around the number of cores, or half of them with two threads each.

    ONNX Runtime computes with one thread whatever the handler is told, and a lone request of a batch waits for nobody.
    """
    pairs = {(cores, 1), (cores + 1, 1)}
    if cores > 1:
        pairs |= {(cores // 2, 1)} | ({(cores // 2, 2)} if runtime == "torch" else set())
    return [
        Setting(workers, threads, batch, delay)
        for workers, threads in sorted(pairs)
        for batch in BATCHES
        for delay in (DELAYS if batch > 1 else DELAYS[:1])
    ]


@contextmanager
def on_cores(cores: int) -> Iterator[None]:
    """Have all processes that are started in the block stay on the first `cores` that this one may use.

    This process itself goes to the others after it, where there are any: a client shall not slow the server down.
    """
    ours = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, ours[:cores])
    try:
        yield
    finally:
        os.sched_setaffinity(0, ours[cores:] or ours)


class Tried:
    """A running TorchServe whose model can be registered anew, with other settings.

    Parameters
    ----------
    server : spoter.torchserve.server.Server
        With the model API.
    model : Path
        Its model folder.
    """

    def __init__(self, server: Server, model: Path):
        from benchmarks.load.bodies import compact_request
        from benchmarks.load.client import Request
        from spoter.serving.recognizer import Recognizer

        self._server = server
        self._requests = [Request(compact_request(Recognizer.load(model).layout))]

    def register(self, setting: Setting) -> None:
        """Put `setting` in the place of what is served."""
        from benchmarks.serving.server import change_archive
        from spoter.torchserve.server import NAME

        archive = self._server.store / f"{NAME}-tuned.mar"
        shutil.copy(self._server.store / f"{NAME}.mar", archive)
        config = {"batchSize": setting.batch, "maxBatchDelay": setting.delay, "handler": {"threads": setting.threads}}
        change_archive(archive, config, {})
        self._server.manage("DELETE", f"/models/{NAME}")
        query = f"url={archive.name}&model_name={NAME}&initial_workers={setting.workers}&synchronous=true"
        self._server.manage("POST", f"/models?{query}")

    def ask(self, clients: int, seconds: float) -> Measured:
        """Ask for `seconds`; raises `SpoterError` where an answer is not 200."""
        from benchmarks.load.client import run_closed_loop
        from benchmarks.load.usage import Usage

        before = Usage.from_session(self._server.leader).cpu_s
        load = run_closed_loop(self._server.url, self._requests, clients, seconds)
        used = Usage.from_session(self._server.leader).cpu_s - before
        if load.failures():
            raise SpoterError(f"found answers of status {dict(load.statuses)}, expected 200 only")
        return Measured(load.rate, load.percentile(50), load.percentile(99), 1e3 * used / len(load.good))


def measure(tried: Tried, chosen: list[Setting], seconds: float, rounds: int) -> dict[Setting, dict[int, Measured]]:
    """Measure all settings in each round; return the medians, by setting and number of clients."""
    found: dict[Setting, list[dict[int, Measured]]] = {setting: [] for setting in chosen}
    order = random.Random(0)
    with tqdm(total=rounds * len(chosen), unit=" settings", leave=False) as bar:
        for _ in range(rounds):
            for setting in order.sample(chosen, len(chosen)):
                tried.register(setting)
                tried.ask(8, WARM)
                found[setting].append({clients: tried.ask(clients, seconds) for clients in CLIENTS})
                bar.update()
    return {
        setting: {clients: _median([run[clients] for run in runs]) for clients in CLIENTS}
        for setting, runs in found.items()
    }


def _median(runs: list[Measured]) -> Measured:
    return Measured(*(statistics.median(figures) for figures in zip(*map(astuple, runs), strict=True)))


def table(results: dict[Setting, dict[int, Measured]], default: Setting) -> str:
    """Return a Markdown table, the most requests a second at the most clients first; the default is marked."""
    head = [f"{clients} client{'s' * (clients > 1)}: 1/s | p50 ms | p99 ms" for clients in CLIENTS]
    lines = [f"| workers | threads | batch | delay ms | {' | '.join(head)} | CPU ms a request, {CLIENTS[-1]} clients |"]
    lines.append(f"|{'---:|' * (5 + 3 * len(CLIENTS))}")
    for setting, by_clients in sorted(results.items(), key=lambda item: -item[1][CLIENTS[-1]].rate):
        name = f"**{setting.workers}** (default)" if setting == default else str(setting.workers)
        cells = [f"{m.rate:.0f} | {m.p50:.1f} | {m.p99:.1f}" for m in by_clients.values()]
        cells.append(f"{by_clients[CLIENTS[-1]].cpu_ms:.2f}")
        lines.append(f"| {name} | {setting.threads} | {setting.batch} | {setting.delay} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(
    cores: Annotated[int | None, typer.Option(min=1, help="For the server [default: all].")] = None,
    model: Annotated[Path, typer.Option(help="Model folder.")] = ROOT / "models" / "dgs11",
    runtime: Annotated[str | None, typer.Option(help="What computes [default: the model's own].")] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="For each number of clients.")] = 2.0,
    rounds: Annotated[int, typer.Option(min=1, help="Through all settings.")] = 1,
    out: Annotated[Path, typer.Option(help="Folder for the figures as JSON.")] = ROOT / "build" / "bench",
) -> None:
    """Try workers, threads, batch sizes and delays, and print a ranked table."""
    from benchmarks.serving.server import running_server
    from spoter.files import atomic_write_bytes
    from spoter.model.config import choose_runtime
    from spoter.torchserve.server import StartError

    if not hasattr(os, "sched_setaffinity"):
        raise _fail("this system cannot keep processes on some of its cores, expected Linux")
    here = len(os.sched_getaffinity(0))
    cores = cores or here
    if cores > here:
        raise _fail(f"found {here} cores to use, expected at least {cores}: run this on a larger machine")
    try:
        computes = choose_runtime(model, runtime)
        print(f"{machine()}; {cores} of {here} cores for the server")
        with ExitStack() as stack:
            with on_cores(cores):
                server = stack.enter_context(running_server(model, 1, {"TS_ENABLE_MODEL_API": "true"}, runtime))
            results = measure(Tried(server, model), settings(cores, computes), seconds, rounds)
    except (SpoterError, StartError, OSError) as error:
        raise _fail(str(error), 2 if isinstance(error, ModelFolderError) else 1) from None
    print(f"{computes}, compact requests of 60 frames, medians of {rounds} rounds, {seconds:g} s each\n")
    print(table(results, shipped(cores)))
    figures = [
        {"setting": asdict(setting), "clients": {clients: asdict(found) for clients, found in by_clients.items()}}
        for setting, by_clients in results.items()
    ]
    out.mkdir(parents=True, exist_ok=True)
    atomic_write_bytes(out / f"tuning-{computes}-{cores}.json", json.dumps(figures, indent=2).encode())


def _fail(message: str, status: int = 2) -> typer.Exit:
    typer.echo(f"error: {message}", err=True)
    return typer.Exit(status)


def shipped(cores: int) -> Setting:
    """Return what a server on so many cores has by default."""
    config = yaml.safe_load((ROOT / "handler" / "model-config.yaml").read_bytes())
    return Setting(cores, config["handler"]["threads"], config["batchSize"], config["maxBatchDelay"])


if __name__ == "__main__":
    end_on_signals()
    typer.run(main)
