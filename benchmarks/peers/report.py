"""The tables of a comparison, as Markdown, and the targets of our server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.peers.matrix import IN_PROCESS, Row
from benchmarks.peers.servers import NAMES, ORIGINAL, OURS
from benchmarks.tables import markdown_table

# The least share of the recognizer's rate without a server, the most milliseconds that the server adds for one client,
# and how many times less processor time than the original.
THROUGHPUT, ADDED_MS, CPU_TIMES = 0.85, 4.0, 12


@dataclass(frozen=True)
class Target:
    """A target of our server: what was measured, what is expected, and whether that is reached."""

    name: str
    found: str
    expected: str
    reached: bool


def loads_table(title: str, rows: Sequence[Row], workers: int) -> str:
    """Return the table of one model and one kind of request, servers next to each other for each load."""
    cells: list[list[object]] = []
    for row in sorted(rows, key=lambda row: row.clients):
        f = row.figures
        times = (f"{value:.1f}" for value in (f.rate, f.p50, f.p95, f.p99))
        cpu = ("" if value is None else f"{value:.2f}" for value in (f.cpu_ms, f.client_cpu_ms))
        failures = ", ".join(f"{count} x {reason}" for reason, count in sorted((f.failures or {}).items()))
        cells.append([row.clients, _server_name(row, workers), *times, *cpu, f.requests, failures])
    columns = ["clients", "server", "requests/s", "p50 ms", "p95 ms", "p99 ms", "CPU ms each", "client CPU ms"]
    return markdown_table([*columns, "requests", "not 200"], cells, title, left=2)


def _server_name(row: Row, workers: int) -> str:
    if row.server != IN_PROCESS:
        return NAMES[row.server]
    return "in process, 1 process" if workers == 1 or row.clients == 1 else f"in process, {workers} processes"


def judge_targets(rows: Sequence[Row], clients: Sequence[int]) -> list[Target]:
    """Judge our server by its targets, as far as these rows allow."""
    figures = {(row.server, row.request, row.clients): row.figures for row in rows}
    most = max(clients)
    targets = []
    for request in dict.fromkeys(row.request for row in rows):
        by_server = {name: figures[key] for name in (*NAMES, IN_PROCESS) if (key := (name, request, most)) in figures}
        ours, alone, original = map(by_server.get, (OURS, IN_PROCESS, ORIGINAL))
        ours_one, alone_one = (figures.get((name, request, 1)) for name in (OURS, IN_PROCESS))
        others = {NAMES[name]: f.rate for name, f in by_server.items() if name not in (OURS, IN_PROCESS)}
        rate = f"{request}: requests/s at {most} clients, next to"
        if ours and alone and most > 1:
            # The client works on the same cores: it lowers the rate, but not the processor time of a request.
            share, by_cpu = ours.rate / alone.rate, alone.cpu_ms / ours.cpu_ms
            found, expected = f"{share:.0%} ({by_cpu:.0%} by CPU a request)", f"at least {THROUGHPUT:.0%}"
            targets.append(Target(f"{rate} in process on the same cores", found, expected, share >= THROUGHPUT))
        if ours_one and alone_one:
            added, name = ours_one.p50 - alone_one.p50, f"{request}: p50 with one client, more than in process"
            targets.append(Target(name, f"{added:.1f} ms", f"at most {ADDED_MS:g} ms", added <= ADDED_MS))
        if ours and others:
            best = max(others, key=others.__getitem__)
            found = f"{ours.rate:.1f} against {others[best]:.1f}"
            targets.append(Target(f"{rate} the best other ({best})", found, "more", ours.rate > others[best]))
        if ours and original and original.rate:
            times, name = original.cpu_ms / ours.cpu_ms, f"{request}: CPU of a request, the original's over ours"
            targets.append(Target(name, f"{times:.1f} times", f"at least {CPU_TIMES} times", times >= CPU_TIMES))
    return targets


def targets_table(title: str, targets: Sequence[Target]) -> str:
    """Return the table of targets and whether each is reached."""
    rows = [(each.name, each.found, each.expected, "yes" if each.reached else "no") for each in targets]
    return markdown_table(("", "found", "expected", "reached"), rows, title)
