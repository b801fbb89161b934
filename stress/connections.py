"""Crowds of connections that cost their sender nothing: idle ones, slow ones, ones that never finish."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from benchmarks.load.client import Request, run_closed_loop
from benchmarks.load.usage import ProcessUsage, measure_usage
from spoter.torchserve.server import TorchServe
from stress.harness import wait_until
from stress.raw_http import dial, post

# Seconds that a crowd stays, and that others are served beside it.
STAY = 5.0
LARGE = 19 << 20


@dataclass(frozen=True)
class Crowd:
    """Connections of one kind.

    Attributes
    ----------
    name : str
    share : float
        Of the number asked for.
    first : callable
        The bytes that each sends at once.
    drip : callable
        The byte that each sends in a second, given how many went before; nothing for those that are silent.
    """

    name: str
    share: float
    first: Callable[[], bytes]
    drip: Callable[[int], bytes] = lambda _: b""


def _request() -> bytes:
    from benchmarks.load.bodies import compact_request

    return post(compact_request())


CROWDS = (
    Crowd("nothing sent", 5, lambda: b""),
    Crowd("half a request line", 1, lambda: b"POST /predic"),
    Crowd("a byte of the headers a second", 1, lambda: _request()[:60], lambda _: b"x"),
    Crowd("a byte of the body a second", 1, lambda: _request()[:300], lambda n: b"0"),
    Crowd("19 of 20 MiB of a body", 0.1, lambda: post(b" " * LARGE, length=LARGE + (1 << 20))),
)


@dataclass(frozen=True)
class Met:
    """What a crowd did: Java's use, others' median milliseconds, and whether all of theirs were answered 200."""

    number: int
    before: ProcessUsage
    during: ProcessUsage
    after: ProcessUsage
    alone_ms: float
    beside_ms: float
    closed: int
    served: bool


def meet(server: TorchServe, crowd: Crowd, connections: int, stay: float = STAY) -> Met:
    """Hold a crowd of connections to a server for a while, and serve another client beside it."""
    from benchmarks.load.bodies import compact_request

    requests = [Request(compact_request())]
    number = max(1, round(crowd.share * connections))
    alone = run_closed_loop(server.url, requests, 1, stay)
    before = _java(server)
    with ExitStack() as stack:
        held = [stack.enter_context(dial(server.ports[0])) for _ in range(number)]
        first = crowd.first()
        for connection in held:
            with suppress(OSError):  # a server may close it: that is counted below
                connection.sendall(first)
        loads, end, dripped = [], time.monotonic() + stay, 0
        while time.monotonic() < end:
            for connection in held:
                with suppress(OSError):
                    connection.sendall(crowd.drip(dripped))
            dripped += 1
            loads.append(run_closed_loop(server.url, requests, 1, 1.0))
        during = _java(server)
        closed = sum(_is_closed(connection) for connection in held)
    wait_until(lambda: _java(server).handles <= before.handles + 5, 10)
    after = _java(server)
    statuses = alone.statuses + sum((load.statuses for load in loads), start=type(alone.statuses)())
    middle = sorted(load.percentile(50) for load in loads)[len(loads) // 2]
    return Met(number, before, during, after, alone.percentile(50), middle, closed, set(statuses) == {200})


def _is_closed(connection: socket.socket) -> bool:
    """Tell whether the server has ended a connection, or answered on it, which it does before that."""
    connection.setblocking(False)
    try:
        connection.recv(1)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _java(server: TorchServe) -> ProcessUsage:
    return measure_usage(server.leader).frontend
