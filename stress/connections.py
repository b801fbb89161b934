"""Crowds of connections that cost their sender nothing: idle, slow, or never finished."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from statistics import median

from benchmarks.load.bodies import compact_request
from benchmarks.load.client import Request, run_closed_loop
from benchmarks.load.usage import ProcessUsage, measure_usage
from spoter.torchserve.server import TorchServe
from stress.harness import wait_until
from stress.raw_http import connect, http_request

_STAY = 5.0  # seconds that a crowd stays while another client is served
_LARGE = 19 << 20


@dataclass(frozen=True)
class Crowd:
    """Connections of one kind."""

    name: str
    share: float  # of the number of connections on the command line
    first: Callable[[], bytes]  # returns the bytes that each sends at once
    drip: bytes = b""  # what each sends every second


CROWDS = (
    Crowd("nothing sent", 5, lambda: b""),
    Crowd("half a request line", 1, lambda: b"POST /predic"),
    Crowd("a byte of the headers a second", 1, lambda: http_request(compact_request())[:60], b"x"),
    Crowd("a byte of the body a second", 1, lambda: http_request(compact_request())[:300], b"0"),
    Crowd("19 of 20 MiB of a body", 0.1, lambda: http_request(b" " * _LARGE, length=_LARGE + (1 << 20))),
)


@dataclass(frozen=True)
class CrowdEffect:
    """The effect of a crowd: Java's use of resources, and the median milliseconds of another client's requests.

    `closed` counts the crowd's connections that the server closed; `all_served` tells whether all requests of the
    other client were answered 200.
    """

    number: int
    before: ProcessUsage
    during: ProcessUsage
    after: ProcessUsage
    alone_ms: float
    during_ms: float
    closed: int
    all_served: bool


def hold_crowd(server: TorchServe, crowd: Crowd, connections: int, stay: float = _STAY) -> CrowdEffect:
    """Hold a crowd of connections to a server for `stay` seconds while another client sends requests."""
    requests = [Request(compact_request())]
    number = max(1, round(crowd.share * connections))
    alone = run_closed_loop(server.url, requests, 1, stay)
    before = _measure_java(server)
    with ExitStack() as stack:
        held = [stack.enter_context(connect(server.ports[0])) for _ in range(number)]
        _send_to_all(held, crowd.first())
        loads, end = [], time.monotonic() + stay
        while time.monotonic() < end:
            _send_to_all(held, crowd.drip)
            loads.append(run_closed_loop(server.url, requests, 1, 1.0))
        during = _measure_java(server)
        closed = sum(_is_closed(connection) for connection in held)
    wait_until(lambda: _measure_java(server).handles <= before.handles + 5, 10)
    return CrowdEffect(
        number,
        before,
        during,
        _measure_java(server),
        alone.percentile(50),
        median(load.percentile(50) for load in loads),
        closed,
        not any(load.failures for load in (alone, *loads)),
    )


def _send_to_all(connections: list[socket.socket], content: bytes) -> None:
    for connection in connections:
        with suppress(OSError):  # the server may have closed it, which is counted later
            connection.sendall(content)


def _is_closed(connection: socket.socket) -> bool:
    """Tell whether the server has closed a connection, or answered on it, which comes first."""
    connection.setblocking(False)
    try:
        connection.recv(1)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _measure_java(server: TorchServe) -> ProcessUsage:
    return measure_usage(server.leader).frontend
