"""What a server does with requests that are too large, compressed, cut, contradictory, or never end.

`python -m stress.limits` sends them to a server of its own. Where TorchServe has no answer, the table says so, and
docs/operations.md what to put before it.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import typer
from tqdm import tqdm

from benchmarks.load.processes import end_on_signals
from stress.connections import CROWDS, Crowd, meet
from stress.harness import PATIENCE, WORKERS_OF_ATTACKS, table, wait_workers, worker_pids
from stress.raw_http import Said, chunked, exchange, post

MIB = 1 << 20
# Limits of the model's config.json (max_bytes) and of config.properties (max_request_size).
MAX_BYTES, MAX_REQUEST = 25 * MIB, 32 * MIB
# Seconds of silence, where silence is what is expected.
SILENCE = 3.0


@dataclass(frozen=True)
class Case:
    """Bytes to send, and what may come back.

    Attributes
    ----------
    name : str
    data : callable
        Gives the bytes.
    expected : tuple of str
        Any of `stress.raw_http.Said.words`.
    note : str
        What to know of it.
    wait : float
        Seconds of silence to bear.
    answers : int
        How many are waited for.
    half : bool
        Whether our side is closed after the bytes.
    """

    name: str
    data: Callable[[], bytes]
    expected: tuple[str, ...]
    note: str = ""
    wait: float = PATIENCE
    answers: int = 1
    half: bool = False


def _clip(frames: int = 20) -> bytes:
    from benchmarks.load.bodies import compact_request

    return compact_request(frames=frames)


def _bomb() -> bytes:
    """64 MB of blanks in 64 kB."""
    return gzip.compress(b" " * (64 * MIB))


BAD = "400 BadRequestException"
CODED = ("415 unsupported_content_encoding",)
WAITS = "TorchServe waits for ever: a proxy ends it"
CASES = (
    Case("a clip", lambda: post(_clip()), ("200",)),
    Case("25 MiB of blanks, max_bytes", lambda: post(b" " * MAX_BYTES), ("400 empty_body",)),
    Case("a byte more", lambda: post(b" " * (MAX_BYTES + 1)), ("413 body_too_large",)),
    Case(
        "33 MiB, over max_request_size", lambda: post(b" " * (MAX_REQUEST + MIB)), ("413", "reset"),
        "TorchServe's own 413 has no body; it may close before all was sent",
    ),
    Case(
        "33 MiB announced, Expect: 100-continue", lambda: post(b"", "Expect: 100-continue", length=MAX_REQUEST + MIB),
        ("413",), "before a byte of the body",
    ),
    Case("Expect: 100-continue", lambda: post(_clip(), "Expect: 100-continue"), ("200",)),
    Case("Expect: tea", lambda: post(_clip(), "Expect: tea"), ("417",)),
    Case("a clip in chunks", lambda: chunked(_clip(), 1000), ("200",)),
    Case("33 MiB in chunks", lambda: chunked(b" " * (MAX_REQUEST + MIB), MIB), ("413", "reset")),
    Case(
        "a chunk of size zz", lambda: chunked(b"", 1).replace(b"\r\n\r\n0\r\n", b"\r\n\r\nzz\r\n"), (BAD,)
    ),
    Case("gzip", lambda: post(gzip.compress(_clip()), "Content-Encoding: gzip"), CODED),
    Case("gzip, 64 MiB in 64 kB", lambda: post(_bomb(), "Content-Encoding: gzip"), CODED),
    Case("deflate", lambda: post(zlib.compress(_clip()), "content-encoding: deflate"), CODED),
    Case("br, not even compressed", lambda: post(_clip(), "Content-Encoding: br"), CODED),
    Case("Content-Encoding: identity", lambda: post(_clip(), "Content-Encoding: identity"), ("200",)),
    Case("gzip that nobody mentions", lambda: post(gzip.compress(_clip())), ("400 invalid_json",)),
    Case(
        "length below the body's", lambda: post(_clip(), length=100), ("400 invalid_json", BAD),
        "the rest is taken for another request, and refused",
    ),
    Case("length above the body's", lambda: post(_clip(), length=10**6), ("silent",), WAITS, SILENCE),
    Case("the same, and our side closed", lambda: post(_clip(), length=10**6), ("reset", "closed"), half=True),
    Case("length -5", lambda: post(_clip(), length=-5), ("silent",), WAITS, SILENCE),
    Case("length abc", lambda: post(_clip(), length="abc"), (BAD,)),
    Case("two lengths", lambda: post(_clip(), "Content-Length: 10"), (BAD,)),
    Case(
        "length and chunks", lambda: chunked(_clip(), 1000).replace(b"\r\n\r\n", b"\r\nContent-Length: 5\r\n\r\n", 1),
        ("200", BAD), "RFC 9112, 6.3: the chunks count",
    ),
    Case("HTTP/1.0", lambda: post(_clip(), version="1.0"), ("200",), "it is not closed afterwards, as 1.0 has it"),
    Case("a preface of HTTP/2", lambda: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ("500 ArrayIndexOutOfBoundsException",)),
    Case("no HTTP at all", lambda: b"nonsense\r\n\r\n", (BAD,)),
    Case("the start of TLS", lambda: b"\x16\x03\x01\x02\x00\x01\r\n\r\n", ("silent",), WAITS, SILENCE),
    Case("a URL of 100 kB", lambda: b"GET /ping?%b HTTP/1.1\r\n\r\n" % (b"x" * 100_000), (BAD,)),
    Case("a header of 100 kB", lambda: post(_clip(), "X-A: " + "x" * 100_000), (BAD,)),
    Case("5,000 headers", lambda: post(_clip(), *(f"X-{n}: {n}" for n in range(5000))), (BAD,)),
    Case("half a request, then our side closed", lambda: post(_clip())[:200], ("closed", "reset"), half=True),
)  # fmt: skip
# Frames of requests on one connection, told apart by the number in their answers.
PIPELINED = (60, 5, 40, 3, 200, 2, 30, 7, 10, 4)


def pipelined(port: int) -> tuple[bool, bool]:
    """Send requests on one connection without waiting; tell whether all were answered, and whether in their order."""
    import json

    said = exchange(port, b"".join(post(_clip(frames)) for frames in PIPELINED), answers=len(PIPELINED))
    frames = [json.loads(body)["frames"] for status, body in said.answers if status == 200]
    return sorted(frames) == sorted(PIPELINED), frames == list(PIPELINED)


def tried(case: Case, port: int) -> tuple[Said, bool]:
    """Send a case; tell what came back and whether that was expected."""
    said = exchange(port, case.data(), case.wait, case.answers, case.half)
    return said, said.words in case.expected


def main(
    connections: Annotated[int, typer.Option(min=10, max=5000, help="Of each crowd, but those of large bodies.")] = 200,
) -> None:
    """Send what is too large, broken or endless; exit 1 where the answer is not the one expected."""
    from benchmarks.serving.server import running_server
    from spoter.torchserve.server import ROOT

    failed, rows = 0, []
    with running_server(ROOT / "models" / "dgs11", WORKERS_OF_ATTACKS) as server:
        wait_workers(server, WORKERS_OF_ATTACKS)
        port, workers = server.ports[0], sorted(worker_pids(server))
        for case in tqdm(CASES, desc="requests", leave=False):
            said, fits = tried(case, port)
            failed += not fits
            rows.append([case.name, said.words, f"{said.seconds:.2f}", "yes" if fits else "NO", case.note])
        rounds = [pipelined(port) for _ in range(5)]
        whole, orderly = sum(all_there for all_there, _ in rounds), sum(in_order for _, in_order in rounds)
        failed += whole < len(rounds)
        note = f"{orderly} times in their order: TorchServe answers as workers finish; a proxy keeps the order"
        rows.append(["10 requests without waiting", f"{whole} of {len(rounds)} times all 200", "-",
                     "yes" if whole == len(rounds) else "NO", note])  # fmt: skip
        typer.echo("### Requests\n\n" + table(("Sent", "Answer", "After, s", "As expected", "To know"), rows))
        crowds = []
        for crowd in tqdm(CROWDS, desc="connections", leave=False):
            row, fits = _crowd(server, crowd, connections)
            crowds.append(row)
            failed += not fits
        columns = (
            "Connections", "Number", "Others' p50, ms: before", "meanwhile", "Java's handles: before", "meanwhile",
            "after", "Java's RSS, MB: before", "meanwhile", "Closed by the server", "Others all 200",
        )  # fmt: skip
        typer.echo("### Crowds of connections\n\n" + table(columns, crowds))
        same = sorted(worker_pids(server)) == workers
        typer.echo(f"The workers are {'the same' if same else 'OTHERS'} as before all of it.\n")
        failed += not same
    if failed:
        typer.echo(f"{failed} were not borne as expected", err=True)
        raise typer.Exit(1)


def _crowd(server, crowd: Crowd, connections: int) -> tuple[list[object], bool]:
    seen = meet(server, crowd, connections)
    before, during, after = seen.before, seen.during, seen.after
    row = [
        crowd.name, seen.number, f"{seen.alone_ms:.0f}", f"{seen.beside_ms:.0f}", before.handles, during.handles,
        after.handles, before.rss >> 20, during.rss >> 20, seen.closed, "yes" if seen.served else "NO",
    ]  # fmt: skip
    # Handles come back: nothing of a crowd stays once it has gone. A few are the observers' own.
    return row, seen.served and after.handles <= before.handles + 20


if __name__ == "__main__":
    end_on_signals()
    typer.run(main)
