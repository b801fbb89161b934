"""Mutated requests over HTTP: `python -m stress.http_fuzz --requests 100000`.

The command starts a TorchServe on loopback with the project's settings. The exit status is 1 if our code answered a
request with 5xx, if a request got no answer or one that neither docs/errors.md nor TorchServe documents, if a worker
ended, or if the memory of a process grew. Such requests are written to build/fuzz/http; repeat one with
`--seed N --first NUMBER --requests 1`.
"""

import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from tqdm import tqdm

from benchmarks import MODEL, ROOT
from benchmarks.command import run_command
from benchmarks.load.processes import INTERRUPTED
from benchmarks.load.usage import measure_usage
from benchmarks.serving.server import running_server
from benchmarks.tables import markdown_table
from spoter.serving.recognizer import Recognizer
from spoter.video.environment import PYTHON_VARIABLE
from stress.harness import wait_until, worker_pids
from stress.mutations import FuzzRequest, make_request
from stress.raw_http import HttpAnswer, exchange, judge

CONNECTIONS = 16
# Seconds to wait for the answer to a complete and to an incomplete request, which gets none.
PATIENCE, GLANCE = 30.0, 0.05
# Allowed growth of the median in bytes: Java's heap grows to its limit, a worker keeps memory of its largest body.
MAX_WORKER_GROWTH, MAX_JAVA_GROWTH = 16e6, 150e6
WARM_UP = 0.1
_MOST_SHOWN = 20


@dataclass
class Findings:
    """Results so far."""

    sent: int = 0
    seconds: float = 0.0
    answers: Counter = field(default_factory=Counter)  # number of answers by status and name (`stress.raw_http.judge`)
    failures: list[tuple[int, FuzzRequest, str]] = field(default_factory=list)  # number, request, problem
    memory: list[tuple[float, dict[str, int]]] = field(default_factory=list)
    """The share of requests sent at each measurement, and bytes of Java (``java``) and workers by process ID."""

    def memory_medians(self) -> list[tuple[str, int, int]]:
        """Return each process with its median memory in bytes after the warm-up and at the end."""
        later = [reading for share, reading in self.memory if share >= WARM_UP]
        tenth = max(1, len(later) // 10)
        rows = []
        for name in later[-1] if later else ():
            first, last = ([r[name] for r in part if name in r] for part in (later[:tenth], later[-tenth:]))
            if first and last:
                rows.append((name, int(statistics.median(first)), int(statistics.median(last))))
        return rows

    def memory_problems(self) -> list[str]:
        """Return a line for each process whose memory grew too much."""
        return [
            f"{name} grew from {first / 1e6:.0f} to {last / 1e6:.0f} MB"
            for name, first, last in self.memory_medians()
            if last - first > (MAX_JAVA_GROWTH if name == "java" else MAX_WORKER_GROWTH)
        ]

    def add(self, number: int, request: FuzzRequest, answers: list[HttpAnswer] | OSError) -> None:
        """Check the answers to a request, and count them."""
        self.sent += 1
        if isinstance(answers, OSError):
            self.failures.append((number, request, f"no connection: {type(answers).__name__}"))
            answers = []
        for answer in answers:
            name, problem = judge(answer) if request.method != "HEAD" else ("HEAD", None)
            self.answers[answer.status, name] += 1
            if problem:
                self.failures.append((number, request, f"{answer.status}: {problem}"))
        if len(answers) < request.copies:
            self.answers["none", "connection closed or silent"] += 1
            if not may_be_closed(request) or (not answers and request.is_complete):
                self.failures.append((number, request, f"{len(answers)} answers to {request.copies} requests"))


def may_be_closed(request: FuzzRequest) -> bool:
    """Return whether a server may close the connection without answering every copy of a request.

    After the answer to a request that is incomplete, not HTTP, too large or an upgrade, the rest of the connection is
    meaningless. When TorchServe closes a connection with several requests, it need not answer the later ones.
    """
    ends_connection = any(name in ("Expect", "Connection") for name, _ in request.headers)
    return not request.is_complete or ends_connection or request.copies > 1


def fuzz(
    port: int,
    numbers: range,
    seed: int,
    space: str = "",
    findings: Findings | None = None,  # receives the results, also of an interrupted run
    measure: Callable[[], dict[str, int]] | None = None,  # for `Findings.memory`; called about a hundred times
    advance: Callable[[], object] = lambda: None,  # called after each request
) -> Findings:
    """Send numbered requests (`stress.mutations.make_request`) to a server on loopback, `CONNECTIONS` in parallel."""
    findings = findings if findings is not None else Findings()
    started, interval = time.monotonic(), max(1, len(numbers) // 100)

    def send(number: int) -> tuple[int, FuzzRequest, list[HttpAnswer] | OSError]:
        request = make_request(seed, number, space)
        patience, is_head = PATIENCE if request.is_complete else GLANCE, request.method == "HEAD"
        try:
            return number, request, exchange(port, request.to_bytes(), patience, request.copies, head=is_head).answers
        except OSError as error:
            return number, request, error

    remaining = iter(numbers)
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        running = {pool.submit(send, number) for number in islice(remaining, 2 * CONNECTIONS)}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            running |= {pool.submit(send, number) for number in islice(remaining, len(done))}
            for future in done:
                findings.add(*future.result())
                findings.seconds = time.monotonic() - started
                if measure is not None and findings.sent % interval == 0:
                    findings.memory.append((findings.sent / len(numbers), measure()))
                advance()
    return findings


def save_failures(findings: Findings, seed: int, folder: Path) -> None:
    """Write each failed request into `folder`, with the command that repeats it."""
    for number, request, problem in findings.failures:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{seed}-{number}.http").write_bytes(request.to_bytes())
        command = f"python -m stress.http_fuzz --seed {seed} --first {number} --requests 1"
        (folder / f"{seed}-{number}.txt").write_text(f"{problem}\n{', '.join(request.mutations)}\n{command}\n")


def main(
    requests: Annotated[int, typer.Option(min=1, help="Number of requests.")] = 100_000,
    seed: Annotated[int, typer.Option(help="Seed of the sequence of requests.")] = 1,
    first: Annotated[int, typer.Option(min=0, help="Number of the first request in the sequence.")] = 0,
    model: Annotated[Path, typer.Option(help="Model folder.")] = MODEL,
    workers: Annotated[int, typer.Option(min=1, help="Number of TorchServe's workers.")] = 2,
    kept: Annotated[Path, typer.Option(help="Folder for failed requests.")] = ROOT / "build" / "fuzz" / "http",
) -> None:
    """Send mutated requests to a TorchServe that this command starts, and check every answer."""
    prototypes = Recognizer.load(model).prototypes
    space = "" if prototypes is None else prototypes.space
    findings, interrupted, numbers = Findings(), False, range(first, first + requests)
    # Without videos, which take seconds to decode.
    with running_server(model, workers, {PYTHON_VARIABLE: "no program"}) as server:
        wait_until(lambda: len(worker_pids(server)) == workers)
        before = set(worker_pids(server))

        def measure() -> dict[str, int]:
            usage = measure_usage(server.leader)
            return {"java": usage.frontend.rss} | {f"worker {worker.pid}": worker.pss for worker in usage.workers}

        with tqdm(total=requests, unit=" requests", leave=False) as bar:
            try:
                fuzz(server.ports[0], numbers, seed, space, findings, measure, bar.update)
            except KeyboardInterrupt:
                interrupted = True
        died = before - set(worker_pids(server))
    save_failures(findings, seed, kept)
    rate = findings.sent / findings.seconds if findings.sent else 0.0
    print(f"{findings.sent} requests with seed {seed} in {findings.seconds:.0f} s, {rate:.0f} per second\n")
    rows = [(status, name, count) for (status, name), count in sorted(findings.answers.items(), key=str)]
    print(markdown_table(("Status", "Answer", "Requests"), rows, left=2))
    rows = [(name, f"{a / 1e6:.0f}", f"{b / 1e6:.0f}") for name, a, b in findings.memory_medians()]
    print(markdown_table(("Process", "Median MB after the warm-up", "Median MB at the end"), rows))
    shown = findings.failures[:_MOST_SHOWN]
    problems = [f"request {number} ({', '.join(request.mutations)}): {problem}" for number, request, problem in shown]
    if len(findings.failures) > _MOST_SHOWN:
        problems.append(f"{len(findings.failures) - _MOST_SHOWN} more failed requests in {kept}")
    problems += [f"{len(died)} of {len(before)} workers ended"] if died else []
    problems += [] if interrupted else findings.memory_problems()
    if problems:
        sys.exit("\n".join(problems))
    if interrupted:
        print("interrupted; no problems so far")
        raise typer.Exit(INTERRUPTED)
    print("no problems")


if __name__ == "__main__":
    run_command(main)
