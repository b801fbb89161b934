"""The tables of a run, as Markdown, and what was to be reached."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.peers.matrix import IN_PROCESS, Figures, Footprint, Row
from benchmarks.peers.servers import NAMES, ORIGINAL, OURS

THROUGHPUT, ADDED_MS = 0.85, 4.0
"""At least this share of the recognizer's rate without a server; at most so many ms more with one client."""


@dataclass(frozen=True)
class Bar:
    """Something to reach: what was found, what was expected, and whether that is so."""

    name: str
    found: str
    expected: str
    reached: bool


def loads_table(title: str, rows: Sequence[Row], workers: int) -> str:
    """Return the table of one model and one kind of request, servers beside each other for each load."""
    lines = [
        f"### {title}",
        "",
        "| load | server | requests/s | p50 ms | p95 ms | p99 ms | CPU ms each | client CPU ms | requests | not 200 |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    for load in dict.fromkeys(row.load for row in rows):
        for row in rows:
            if row.load == load:
                lines.append(_line(load, name_of(row, workers), row.figures))
    return "\n".join(lines) + "\n"


def name_of(row: Row, workers: int) -> str:
    """Return a row's server as people call it."""
    if row.server != IN_PROCESS:
        return NAMES[row.server]
    busy = 1 if row.load == "closed 1" else workers
    return f"in process, {busy} process{'es' if busy > 1 else ''}"


def _line(load: str, name: str, figures: Figures) -> str:
    cpu, client = ("" if value is None else f"{value:.2f}" for value in (figures.cpu_ms, figures.client_cpu_ms))
    failures = ", ".join(f"{count} x {what}" for what, count in sorted((figures.failures or {}).items()))
    return (
        f"| {load} | {name} | {figures.rate:.1f} | {figures.p50:.1f} | {figures.p95:.1f} | {figures.p99:.1f} "
        f"| {cpu} | {client} | {figures.requests} | {failures} |"
    )


def footprint_table(title: str, footprints: Sequence[Footprint]) -> str:
    """Return what servers take beside requests."""
    lines = [
        f"### {title}",
        "",
        "| server | ready after s | processes | idle, % of a core | largest worker's RSS MB | memory of all (PSS) MB |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {NAMES[one.server]} | {one.ready_s:.1f} | {one.processes} | {one.idle_percent:.1f} "
        f"| {one.worker_rss / 1e6:.0f} | {one.pss / 1e6:.0f} |"
        for one in footprints
    ]
    return "\n".join(lines) + "\n"


def bars(rows: Sequence[Row], clients: Sequence[int]) -> list[Bar]:
    """Return what was to be reached by our server, as far as these rows tell."""
    figures = {(row.server, row.request, row.load): row.figures for row in rows}
    most = f"closed {max(clients)}"
    found = []
    for request in dict.fromkeys(row.request for row in rows):
        ours, alone = (figures.get((name, request, most)) for name in (OURS, IN_PROCESS))
        if ours and alone and max(clients) > 1:
            # The client works on the same cores, which the rate suffers from, and CPU of a request does not.
            share, by_cpu = ours.rate / alone.rate, alone.cpu_ms / ours.cpu_ms
            found.append(
                Bar(
                    f"{request}: requests/s at {max(clients)} clients, beside in process on the same cores",
                    f"{share:.0%} ({by_cpu:.0%} by CPU a request)",
                    f"at least {THROUGHPUT:.0%}",
                    share >= THROUGHPUT,
                )
            )
        ours_one, alone_one = (figures.get((name, request, "closed 1")) for name in (OURS, IN_PROCESS))
        if ours_one and alone_one:
            added = ours_one.p50 - alone_one.p50
            found.append(
                Bar(
                    f"{request}: p50 with one client, more than in process",
                    f"{added:.1f} ms",
                    f"at most {ADDED_MS:g} ms",
                    added <= ADDED_MS,
                )
            )
        others = {
            name: figures[name, request, most].rate
            for name in NAMES
            if name != OURS and (name, request, most) in figures
        }
        if ours and others:
            best = max(others, key=others.__getitem__)
            found.append(
                Bar(
                    f"{request}: requests/s at {max(clients)} clients, beside the best other ({NAMES[best]})",
                    f"{ours.rate:.1f} against {others[best]:.1f}",
                    "more",
                    ours.rate > others[best],
                )
            )
        if ours and ORIGINAL in others and others[ORIGINAL]:
            then = figures[ORIGINAL, request, most]
            found.append(
                Bar(
                    f"{request}: CPU of a request, the original's beside ours",
                    f"{then.cpu_ms / ours.cpu_ms:.1f} times",
                    "at least 12 times",
                    then.cpu_ms >= 12 * ours.cpu_ms,
                )
            )
    return found


def bars_table(title: str, found: Sequence[Bar]) -> str:
    """Return what was to be reached, and whether it was."""
    lines = [f"### {title}", "", "| | found | expected | reached |", "|---|---:|---:|---|"]
    lines += [f"| {bar.name} | {bar.found} | {bar.expected} | {'yes' if bar.reached else 'no'} |" for bar in found]
    return "\n".join(lines) + "\n"
