"""Requests that are too large, compressed, truncated, contradictory or endless: `python -m stress.limits`.

The table shows requests that TorchServe never answers. docs/security-setup.md describes a proxy that ends them.
"""

import gzip
import json
import socket
import time
import zlib
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from statistics import median
from typing import Annotated

import typer
from tqdm import tqdm

from benchmarks.command import run_command
from benchmarks.load.bodies import compact_request
from benchmarks.load.client import Request, run_closed_loop
from benchmarks.load.usage import ProcessUsage, measure_usage
from benchmarks.tables import markdown_table
from spoter.torchserve.server import TorchServe
from stress.harness import PATIENCE, Problems, attacked_server, wait_until, worker_pids
from stress.raw_http import Exchange, connect, exchange, http_request

MIB = 1 << 20
MAX_BYTES, MAX_REQUEST = 25 * MIB, 32 * MIB  # max_bytes of config.json, max_request_size of config.properties
LARGE = 19 * MIB
SILENCE = 3.0  # seconds to wait if no answer is expected


@dataclass(frozen=True)
class Case:
    """Bytes to send, and the expected answers."""

    name: str
    data: Callable[[], bytes]
    expected: tuple[str, ...]  # any of these values of `stress.raw_http.Exchange.summary`
    note: str = ""
    wait: float = PATIENCE  # seconds until the server counts as silent
    half_close: bool = False  # whether the client closes its side after the bytes


def _clip(*headers: str, **options: object) -> bytes:
    return http_request(compact_request(frames=20), headers, **options)


def _blanks(size: int, *headers: str, **options: object) -> bytes:
    return http_request(b" " * size, headers, **options)


def _packed(body: bytes, *headers: str) -> bytes:
    return http_request(gzip.compress(body), headers)


BAD = "400 BadRequestException"
CODED = ("415 unsupported_content_encoding",)
WAITS = "TorchServe waits forever; a proxy ends the connection"
GZIP, EXPECT, HUGE = "Content-Encoding: gzip", "Expect: 100-continue", MAX_REQUEST + MIB
CASES = (
    Case("a clip", _clip, ("200",)),
    Case("25 MiB of spaces, max_bytes", lambda: _blanks(MAX_BYTES), ("400 empty_body",)),
    Case("25 MiB and one byte", lambda: _blanks(MAX_BYTES + 1), ("413 body_too_large",)),
    Case(
        "33 MiB, over max_request_size", lambda: _blanks(HUGE), ("413", "reset"),
        "TorchServe's 413 has no body; TorchServe may close the connection before the client has sent all bytes",
    ),
    Case(
        "33 MiB announced, Expect: 100-continue", lambda: _blanks(0, EXPECT, length=HUGE), ("413",),
        "answered before the body",
    ),
    Case("Expect: 100-continue", lambda: _clip(EXPECT), ("200",)),
    Case("Expect: tea", lambda: _clip("Expect: tea"), ("417",)),
    Case("a clip in chunks", lambda: _clip(chunk_size=1000), ("200",)),
    Case("33 MiB in chunks", lambda: _blanks(HUGE, chunk_size=MIB), ("413", "reset")),
    Case("a chunk of size zz", lambda: _blanks(0, chunk_size=1).replace(b"\r\n0\r\n", b"\r\nzz\r\n"), (BAD,)),
    Case("gzip", lambda: _packed(compact_request(), GZIP), CODED),
    Case("gzip, 64 MiB in 64 kB", lambda: _packed(b" " * (64 * MIB), GZIP), CODED),
    Case("deflate", lambda: http_request(zlib.compress(compact_request()), ["content-encoding: deflate"]), CODED),
    Case("Content-Encoding: br, uncompressed body", lambda: _clip("Content-Encoding: br"), CODED),
    Case("Content-Encoding: identity", lambda: _clip("Content-Encoding: identity"), ("200",)),
    Case("gzip without a header", lambda: _packed(compact_request()), ("400 invalid_json",)),
    Case(
        "Content-Length too small", lambda: _clip(length=100), ("400 invalid_json", BAD),
        "TorchServe reads the rest as another request, and refuses it",
    ),
    Case("Content-Length too large", lambda: _clip(length=10**6), ("silent",), WAITS, SILENCE),
    Case("Content-Length too large, half-closed", lambda: _clip(length=10**6), ("reset", "closed"), half_close=True),
    Case("Content-Length -5", lambda: _clip(length=-5), ("silent",), WAITS, SILENCE),
    Case("Content-Length abc", lambda: _clip(length="abc"), (BAD,)),
    Case("two Content-Length headers", lambda: _clip("Content-Length: 10"), (BAD,)),
    Case(
        "Content-Length and chunks", lambda: _clip("Content-Length: 5", chunk_size=1000), ("200", BAD),
        "RFC 9112, 6.3: the chunks count",
    ),
    Case("HTTP/1.0", lambda: _clip(version="1.0"), ("200",), "the connection stays open, contrary to HTTP/1.0"),
    Case("a preface of HTTP/2", lambda: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ("500 ArrayIndexOutOfBoundsException",)),
    Case("not HTTP", lambda: b"nonsense\r\n\r\n", (BAD,)),
    Case("the start of TLS", lambda: b"\x16\x03\x01\x02\x00\x01\r\n\r\n", ("silent",), WAITS, SILENCE),
    Case("a URL of 100 kB", lambda: b"GET /ping?%b HTTP/1.1\r\n\r\n" % (b"x" * 100_000), (BAD,)),
    Case("a header of 100 kB", lambda: _clip("X-A: " + "x" * 100_000), (BAD,)),
    Case("5,000 headers", lambda: _clip(*(f"X-{n}: {n}" for n in range(5000))), (BAD,)),
    Case("half a request, half-closed", lambda: _clip()[:200], ("closed", "reset"), half_close=True),
)  # fmt: skip
PIPELINED = (60, 5, 40, 3, 200, 2, 30, 7, 10, 4)
"""Numbers of frames of the requests on one connection; they identify the answers."""


def send_pipelined(port: int) -> tuple[bool, bool]:
    """Send requests on one connection without waiting; return whether all were answered, and whether in order."""
    requests = b"".join(http_request(compact_request(frames=frames)) for frames in PIPELINED)
    answers = exchange(port, requests, answers=len(PIPELINED)).answers
    frames = [json.loads(answer.body)["frames"] for answer in answers if answer.status == 200]
    return sorted(frames) == sorted(PIPELINED), frames == list(PIPELINED)


def send_case(case: Case, port: int) -> tuple[Exchange, bool]:
    """Send a case; return the exchange, and whether it was as expected."""
    result = exchange(port, case.data(), case.wait, half_close=case.half_close)
    return result, result.summary in case.expected


@dataclass(frozen=True)
class Crowd:
    """Many cheap connections of one kind: idle, slow or unfinished."""

    name: str
    share: float  # number of connections, relative to the command's option
    first: Callable[[], bytes]  # returns the bytes that each connection sends at first
    drip: bytes = b""  # bytes that each connection sends every second


CROWDS = (
    Crowd("idle", 5, lambda: b""),
    Crowd("half a request line", 1, lambda: b"POST /predic"),
    Crowd("one byte of the headers per second", 1, lambda: http_request(compact_request())[:60], b"x"),
    Crowd("one byte of the body per second", 1, lambda: http_request(compact_request())[:300], b"0"),
    Crowd("19 of 20 MiB of a body", 0.1, lambda: http_request(b" " * LARGE, length=LARGE + MIB)),
)


@dataclass(frozen=True)
class CrowdEffect:
    """The effect of a crowd: Java's resource usage, and the median latency of another client in milliseconds."""

    number: int
    before: ProcessUsage
    during: ProcessUsage
    after: ProcessUsage
    before_ms: float
    during_ms: float
    closed: int  # connections of the crowd that the server closed
    all_served: bool  # whether all requests of the other client got status 200


def hold_crowd(server: TorchServe, crowd: Crowd, connections: int, stay: float = 5.0) -> CrowdEffect:
    """Hold a crowd of connections for `stay` seconds while another client sends requests."""
    requests = [Request(compact_request())]
    number = max(1, round(crowd.share * connections))
    load_before = run_closed_loop(server.url, requests, 1, stay)
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
    all_served = not any(load.failures for load in (load_before, *loads))
    medians_ms = load_before.percentile(50), median(load.percentile(50) for load in loads)
    return CrowdEffect(number, before, during, _measure_java(server), *medians_ms, closed, all_served)


def _send_to_all(connections: list[socket.socket], content: bytes) -> None:
    for connection in connections:
        with suppress(OSError):  # the server may have closed the connection, which is counted later
            connection.sendall(content)


def _is_closed(connection: socket.socket) -> bool:
    """Return whether the server has closed a connection, or answered, which it does before closing."""
    connection.setblocking(False)
    try:
        connection.recv(1)
    except OSError as error:
        return not isinstance(error, BlockingIOError)
    return True


def _measure_java(server: TorchServe) -> ProcessUsage:
    return measure_usage(server.leader).frontend


def main(
    connections: Annotated[int, typer.Option(min=10, max=5000, help="Slow connections; 5 times as many idle.")] = 200,
) -> None:
    """Send requests that are too large, broken or endless; exit with status 1 if an answer is not as expected."""
    problems, rows, crowds = Problems(), [], []
    with attacked_server() as server:
        port, workers = server.ports[0], sorted(worker_pids(server))
        for case in tqdm(CASES, desc="requests", leave=False):
            result, is_expected = send_case(case, port)
            verdict = problems.check(is_expected, case.name)
            rows.append([case.name, result.summary, f"{result.seconds:.2f}", verdict, case.note])
        rounds = [send_pipelined(port) for _ in range(5)]
        complete, ordered = (sum(column) for column in zip(*rounds, strict=True))
        name, answer = f"{len(PIPELINED)} requests on one connection", f"all 200 in {complete} of {len(rounds)} rounds"
        note = f"in order in {ordered} rounds: TorchServe answers in the order in which workers finish; use a proxy"
        rows.append([name, answer, "-", problems.check(complete == len(rounds), name), note])
        columns = ("Request", "Answer", "Time, s", "As expected", "Note")
        typer.echo(markdown_table(columns, rows, "Requests", left=5))
        for crowd in tqdm(CROWDS, desc="connections", leave=False):
            effect = hold_crowd(server, crowd, connections)
            before, during, after = effect.before, effect.during, effect.after
            # All handles of the crowd must be closed; the tolerance covers handles of this client.
            problems.check(effect.all_served and after.handles <= before.handles + 20, crowd.name)
            crowds.append([
                crowd.name, effect.number, f"{effect.before_ms:.0f}", f"{effect.during_ms:.0f}", before.handles,
                during.handles, after.handles, before.rss >> 20, during.rss >> 20, effect.closed,
                "yes" if effect.all_served else "NO",
            ])  # fmt: skip
        columns = (
            "Connections", "Number", "Other client's p50 before, ms", "p50 during", "Java's handles before", "during",
            "after", "Java's RSS before, MiB", "RSS during", "Closed by the server", "Other client: all 200",
        )  # fmt: skip
        typer.echo(markdown_table(columns, crowds, "Crowds of connections"))
        problems.check(sorted(worker_pids(server)) == workers, "workers were replaced")
    problems.exit()


if __name__ == "__main__":
    run_command(main)
