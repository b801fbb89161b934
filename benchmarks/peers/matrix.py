"""Measure every server under the same loads, in alternating rounds, so that a slow moment affects all servers."""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks.load import wrk
from benchmarks.load.bodies import BODIES
from benchmarks.load.client import Figures, Request, combine_rounds, run_closed_loop
from benchmarks.load.usage import measure_usage
from benchmarks.peers.in_process import Measurement, running_processes
from benchmarks.peers.servers import ORIGINAL, PeerServer, running_peer

IN_PROCESS = "in process"
# Maximum requests and seconds of a server's first load, in which Java compiles code and becomes three times as fast.
FIRST, FIRST_S = 600, 6.0
WARM, WARM_S = 200, 1.0  # maximum requests and seconds of the warm-up before each measurement, after a pause


@dataclass(frozen=True)
class Settings:
    """Settings: each measurement takes `seconds` and runs `rounds` times; `workers` processes per server compute."""

    runtime: str
    servers: Sequence[str]
    requests: Sequence[str]
    clients: Sequence[int]
    seconds: float
    rounds: int
    workers: int


@dataclass(frozen=True)
class Row:
    """Figures of a server for one kind of request and one number of clients in a closed loop."""

    server: str
    request: str
    clients: int
    figures: Figures


def accepts(server: str, request: str) -> bool:
    """Return whether a server understands a kind of request; the original understands only full requests."""
    return server != ORIGINAL or request == "full"


def measure_servers(model: Path, settings: Settings) -> list[Row]:
    """Measure all servers with one model folder in closed loops; raises the errors of `running_peer`."""
    bodies = {name: Request(BODIES[name]()) for name in settings.requests}
    cells = sum(accepts(server, request) for server in settings.servers for request in settings.requests)
    runs = cells * settings.rounds * len(settings.clients)
    rows: list[Row] = []
    with ExitStack() as stack, tqdm(total=runs, desc=model.name, leave=False) as bar:
        measure = stack.enter_context(running_processes(model, settings.runtime, settings.workers))
        servers = []
        for name in settings.servers:
            server = stack.enter_context(running_peer(name, model, settings.runtime, settings.workers))
            servers.append(server)
            for request, body in bodies.items():
                if accepts(name, request):
                    run_closed_loop(server.url, [body], 8, FIRST_S, most=FIRST)
            server.pause()
        for request, body in bodies.items():
            chosen = [server for server in servers if accepts(server.name, request)]
            # Rounds are the inner loop: a server that adapts to its load, like BentoML, has adapted by round two.
            for clients in settings.clients:
                measured: dict[str, list[Figures]] = {server.name: [] for server in chosen} | {IN_PROCESS: []}
                for turn in range(settings.rounds):
                    busy = 1 if clients == 1 else settings.workers
                    measured[IN_PROCESS].append(summarize_processes(measure(request, busy, settings.seconds)))
                    for server in rotate(chosen, turn):
                        measured[server.name].append(_measure_load(server, body, clients, settings.seconds))
                        bar.update()
                rows += [Row(name, request, clients, combine_rounds(rounds)) for name, rounds in measured.items()]
    return rows


def rotate(servers: Sequence[PeerServer], turn: int) -> list[PeerServer]:
    """Return the servers in a new order for each round, so that no server is always first."""
    first = turn % len(servers) if servers else 0
    return [*servers[first:], *servers[:first]]


def _measure_load(server: PeerServer, request: Request, clients: int, seconds: float) -> Figures:
    server.resume()
    try:
        run_closed_loop(server.url, [request], min(clients, 8), WARM_S, most=WARM)
        before = measure_usage(server.leader).cpu_s
        if wrk.is_installed():
            run = wrk.run_wrk(server.url, request, clients, seconds)
            return summarize_wrk(run, measure_usage(server.leader).cpu_s - before)
        load = run_closed_loop(server.url, [request], clients, seconds)
        return load.summarize(measure_usage(server.leader).cpu_s - before)
    finally:
        server.pause()


def summarize_wrk(run: Mapping[str, Any], cpu_s: float) -> Figures:
    """Return the figures of a run of wrk; `cpu_s` is the server's processor time in seconds."""
    requests, refused = run["requests"], run["refused"]
    cpu_ms, client_cpu_ms = (1e3 * seconds / max(requests, 1) for seconds in (cpu_s, run["cpu_s"]))
    percentiles = [run[name] for name in ("p50", "p95", "p99")]
    failures = dict(+Counter({"refused": refused, "no answer": run["lost"]}))
    rate = (requests - refused) / run["seconds"]
    return Figures(rate, *percentiles, cpu_ms, client_cpu_ms, requests, failures)


def summarize_processes(measurements: Sequence[Measurement]) -> Figures:
    """Return the figures of the recognizer without a server; the rates of its processes, which are busy, are added."""
    answers = [1e3 * seconds for process, _ in measurements for seconds in process]
    rate = sum(len(process) / sum(process) for process, _ in measurements)
    cpu_ms = 1e3 * sum(cpu_s for _, cpu_s in measurements) / len(answers)
    return Figures(rate, *np.percentile(answers, (50, 95, 99)).tolist(), cpu_ms, requests=len(answers), failures={})
