"""Puts every server under the same loads in turn, in rounds, so that a slow moment of the machine hits all of them."""

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
# Most requests and seconds of a server's first load: Java compiles its code, and then takes a third of the time.
FIRST, FIRST_S = 600, 6.0
WARM, WARM_S = 200, 1.0  # limits before each measurement, to bring back what a pause has cost


@dataclass(frozen=True)
class Settings:
    """Each measurement takes `seconds` and is made `rounds` times; `workers` processes of a server hold the model."""

    runtime: str
    servers: Sequence[str]
    requests: Sequence[str]
    clients: Sequence[int]
    seconds: float
    rounds: int
    workers: int


@dataclass(frozen=True)
class Row:
    """Figures of a server for a kind of request and a number of clients in a closed loop."""

    server: str
    request: str
    clients: int
    figures: Figures


def accepts(server: str, request: str) -> bool:
    """Return whether a server understands a kind of request: the original knew the full one only."""
    return server != ORIGINAL or request == "full"


def measure_servers(model: Path, settings: Settings) -> list[Row]:
    """Measure all servers with one model folder, in closed loops; raises as `running_peer` does."""
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
            # Rounds inside: a server that adapts itself to its load, as BentoML does, has had its time by the second.
            for clients in settings.clients:
                taken: dict[str, list[Figures]] = {server.name: [] for server in chosen} | {IN_PROCESS: []}
                for turn in range(settings.rounds):
                    busy = 1 if clients == 1 else settings.workers
                    taken[IN_PROCESS].append(summarize_processes(measure(request, busy, settings.seconds)))
                    for server in rotate(chosen, turn):
                        taken[server.name].append(_measure_load(server, body, clients, settings.seconds))
                        bar.update()
                rows += [Row(name, request, clients, combine_rounds(rounds)) for name, rounds in taken.items()]
    return rows


def rotate(servers: Sequence[PeerServer], turn: int) -> list[PeerServer]:
    """Return the servers with another one first in each round, so that none always follows the same."""
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
    """Return the figures of a load by wrk; `cpu_s` are the processor seconds of the server."""
    requests, refused = run["requests"], run["refused"]
    cpu_ms, client_cpu_ms = (1e3 * seconds / max(requests, 1) for seconds in (cpu_s, run["cpu_s"]))
    percentiles = [run[name] for name in ("p50", "p95", "p99")]
    failures = dict(+Counter({"refused": refused, "no answer": run["lost"]}))
    rate = (requests - refused) / run["seconds"]
    return Figures(rate, *percentiles, cpu_ms, client_cpu_ms, requests, failures)


def summarize_processes(taken: Sequence[Measurement]) -> Figures:
    """Return the figures of the recognizer alone; each process works all the time, so that rates add up."""
    answers = [1e3 * seconds for process, _ in taken for seconds in process]
    rate = sum(len(process) / sum(process) for process, _ in taken)
    cpu_ms = 1e3 * sum(cpu_s for _, cpu_s in taken) / len(answers)
    return Figures(rate, *np.percentile(answers, (50, 95, 99)).tolist(), cpu_ms, requests=len(answers), failures={})
