"""Mutated requests over HTTP: `python -m stress.http_fuzz --requests 100000`.

They go to a TorchServe that this starts on loopback, with the project's own settings. Exit status 1 where one of them
was answered 5xx by us, not answered at all, or answered in words that neither docs/errors.md nor TorchServe knows;
where a worker ended; and where the server's processes grew. Each such request is kept in build/fuzz, and sent again
with `--seed N --first NUMBER --requests 1`.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.load.processes import INTERRUPTED, end_on_signals
from spoter.ops.local_server import NAME
from spoter.ops.ports import LOOPBACK
from stress import ROOT
from stress.harness import table
from stress.mutations import Attack, attack
from stress.oracle import documented, judge

CONNECTIONS = 16
# Seconds for an answer. A request that is not all there gets none; it is given up after the second number.
PATIENCE, GLANCE = 30.0, 0.05
# How much the median of the last readings may be above that of the first after the warm-up: Java takes heap as it
# likes, up to its limit; a worker's allocator keeps what the largest body yet has needed.
MORE_WORKER, MORE_JAVA = 16e6, 150e6
WARM_UP = 0.1


@dataclass
class Findings:
    """What came of the requests so far.

    Attributes
    ----------
    answers : Counter
        How many were answered, by (status, whose answer it is and which).
    failures : list of (int, Attack, str)
        Number of a request, the request, and what was wrong with its answer.
    memory : list of (float, dict)
        Share of the requests that were sent, and bytes of the frontend (``java``) and of the workers by process id.
    """

    sent: int = 0
    seconds: float = 0.0
    answers: Counter = field(default_factory=Counter)
    failures: list[tuple[int, Attack, str]] = field(default_factory=list)
    memory: list[tuple[float, dict[str, int]]] = field(default_factory=list)

    def growth(self) -> list[tuple[str, int, int]]:
        """Return of each process its median memory after the warm-up and at the end."""
        later = [reading for share, reading in self.memory if share >= WARM_UP]
        tenth = max(1, len(later) // 10)
        rows = []
        for name in later[-1] if later else ():
            first, last = ([r[name] for r in part if name in r] for part in (later[:tenth], later[-tenth:]))
            if first and last:
                rows.append((name, int(statistics.median(first)), int(statistics.median(last))))
        return rows

    def grown(self) -> list[str]:
        """Return what grew beyond its margin, a line each."""
        return [
            f"{name} grew from {first / 1e6:.0f} to {last / 1e6:.0f} MB"
            for name, first, last in self.growth()
            if last - first > (MORE_JAVA if name == "java" else MORE_WORKER)
        ]


async def _ask(port: int, made: Attack) -> list[tuple[int, str, bytes]]:
    """Send a request on a connection of its own; return what was answered to it, each with status, type and body."""
    reader, writer = await asyncio.open_connection(LOOPBACK, port, limit=1 << 24)
    answers: list[tuple[int, str, bytes]] = []
    try:
        writer.write(made.bytes())
        while len(answers) < made.copies:
            # Not wait_for: in Python 3.11 it can keep a cancellation, such as Ctrl-C's, to itself.
            async with asyncio.timeout(PATIENCE if made.whole else GLANCE):
                answer = await _read(reader, made.method)
            if answer[0] >= 200:  # 100 says that the body may come: it is there
                answers.append(answer)
    except (TimeoutError, OSError, asyncio.IncompleteReadError):
        pass  # closed or silent: whoever knows the request tells whether that is right
    finally:
        writer.close()
    return answers


async def _read(reader: asyncio.StreamReader, method: str) -> tuple[int, str, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    length = 0 if method == "HEAD" else int(headers.get("content-length", 0))  # TorchServe always tells it
    content_type = headers.get("content-type", "").partition(";")[0]
    return int(first.split()[1]), content_type, await reader.readexactly(length)


def may_be_closed(made: Attack) -> bool:
    """Tell whether a server may close the connection on such a request without an answer to each of its copies.

    After an answer to what is not all there, not HTTP, too large for it, or an upgrade, the rest of the connection
    means nothing; and to more than one request at a time, TorchServe need not answer once it has closed on one.
    """
    odd = any(name in ("Expect", "Connection") for name, _ in made.headers)
    return not made.whole or odd or made.copies > 1


async def fuzz(
    port: int,
    numbers: range,
    seed: int,
    space: str = "",
    found: Findings | None = None,
    look: Callable[[], dict[str, int]] | None = None,
    advance: Callable[[], object] = lambda: None,
) -> Findings:
    """Send requests to a server on loopback, a few at a time.

    Parameters
    ----------
    port : int
    numbers : range
        Of the requests in the row that `seed` begins.
    seed : int
    space : str
        As for `stress.mutations.attack`.
    found : Findings, optional
        Added to, so that there is something to show when this is interrupted.
    look : callable, optional
        Returns the server's memory (`Findings.memory`); called about a hundred times.
    advance : callable
        Called after each request.
    """
    found = found if found is not None else Findings()
    codes, waiting, started = documented(), iter(numbers), time.monotonic()
    every = max(1, len(numbers) // 100)

    async def go_on() -> None:
        for number in waiting:
            made = attack(seed, number, space)
            try:
                answers = await _ask(port, made)
            except OSError as error:
                answers = []
                found.failures.append((number, made, f"no connection: {type(error).__name__}"))
            for status, content_type, body in answers:
                name, wrong = judge(status, content_type, body, codes) if made.method != "HEAD" else ("HEAD", None)
                found.answers[status, name] += 1
                if wrong:
                    found.failures.append((number, made, f"{status}: {wrong}"))
            if len(answers) < made.copies:
                found.answers["none", "closed or silent"] += 1
                if not may_be_closed(made) or (not answers and made.whole):
                    found.failures.append((number, made, f"{len(answers)} answers to {made.copies} requests"))
            found.sent += 1
            found.seconds = time.monotonic() - started
            if look is not None and found.sent % every == 0:
                found.memory.append((found.sent / len(numbers), look()))
            advance()

    async with asyncio.TaskGroup() as group:
        for _ in range(CONNECTIONS):
            group.create_task(go_on())
    return found


def keep(found: Findings, seed: int, folder: Path) -> None:
    """Write each request that failed into `folder`, with how to send it again."""
    for number, made, wrong in found.failures:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{seed}-{number}.http").write_bytes(made.bytes())
        again = f"python -m stress.http_fuzz --seed {seed} --first {number} --requests 1"
        (folder / f"{seed}-{number}.txt").write_text(f"{wrong}\n{', '.join(made.changes)}\n{again}\n")


def main(
    requests: Annotated[int, typer.Option(min=1, help="How many.")] = 100_000,
    seed: Annotated[int, typer.Option(help="Which row of requests.")] = 1,
    first: Annotated[int, typer.Option(min=0, help="Number of the first one in the row.")] = 0,
    model: Annotated[Path, typer.Option(help="Model folder.")] = ROOT / "models" / "dgs11",
    workers: Annotated[int, typer.Option(min=1, help="Of TorchServe's.")] = 2,
    kept: Annotated[Path, typer.Option(help="Where requests that failed are kept.")] = ROOT / "build" / "fuzz" / "http",
) -> None:
    """Send mutated requests to a TorchServe of this command's own, and judge every answer."""
    from tqdm import tqdm

    from benchmarks.load.usage import measure_usage
    from benchmarks.serving.server import running_server
    from spoter.model.folder import PROTOTYPES
    from spoter.video.environment import PYTHON_VARIABLE
    from stress.harness import wait_workers, worker_pids

    space = _space(model) if (model / PROTOTYPES).exists() else ""
    found = Findings()
    # No videos: reading one takes seconds, whatever is in it.
    with running_server(model, workers, {PYTHON_VARIABLE: "no program"}) as server:
        wait_workers(server, workers)
        before = sorted(worker_pids(server))

        def look() -> dict[str, int]:
            usage = measure_usage(server.leader)
            return {"java": usage.frontend.rss} | {f"worker {worker.pid}": worker.pss for worker in usage.workers}

        bar = tqdm(total=requests, desc=NAME, unit=" requests", leave=False)
        interrupted = False
        try:
            asyncio.run(fuzz(server.ports[0], range(first, first + requests), seed, space, found, look, bar.update))
        except KeyboardInterrupt:
            interrupted = True
        finally:
            bar.close()
        died = set(before) - set(worker_pids(server))
    keep(found, seed, kept)
    rate = found.sent / found.seconds if found.sent else 0.0
    print(f"{found.sent} requests of seed {seed} in {found.seconds:.0f} s, {rate:.0f} a second\n")
    rows = [(status, name, count) for (status, name), count in sorted(found.answers.items(), key=str)]
    print(table(("Status", "Answer", "Requests"), rows))
    print(
        table(
            ("Process", "MB after the warm-up", "MB at the end"),
            [(n, f"{a / 1e6:.0f}", f"{b / 1e6:.0f}") for n, a, b in found.growth()],
        )
    )
    wrong = [f"request {number} ({', '.join(made.changes)}): {what}" for number, made, what in found.failures[:20]]
    wrong += [f"{len(found.failures) - 20} more in {kept}"] if len(found.failures) > 20 else []
    wrong += [f"{len(died)} of {len(before)} workers ended"] if died else []
    wrong += [] if interrupted else found.grown()
    if wrong:
        sys.exit("\n".join(wrong))
    if interrupted:
        print("interrupted: nothing was wrong so far")
        raise typer.Exit(INTERRUPTED)
    print("nothing was wrong")


def _space(model: Path) -> str:
    from spoter.serving.recognizer import Recognizer

    return Recognizer.load(model).prototypes.space


if __name__ == "__main__":
    end_on_signals()
    typer.run(main)
