"""HTTP load on one URL, in a closed loop (each client asks again once answered) or an open one (arrivals do not wait).

One process with one event loop: its own share of the processor is told beside the figures (`Load.cpu_s`), since it
takes that from the server it measures.
"""

from __future__ import annotations

import asyncio
import gc
import resource
import statistics
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import numpy as np

TIMEOUT = 90.0
"""Seconds after which a request counts as unanswered; above the responseTimeout of the archive."""


@dataclass(frozen=True)
class Request:
    """What is posted."""

    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """What became of a request.

    Attributes
    ----------
    started : float
        Of `time.perf_counter`: when it was sent, in an open loop when it was to be sent.
    seconds : float
        From then to the last byte of its answer.
    status : int or None
        None where no whole answer came.
    error : str or None
        Then the reason.
    size : int
        Bytes of the answer.
    request : int
        Its place in the sequence of requests.
    body : bytes or None
        The answer; kept where it is asked for, or where its status is not 200.
    headers : mapping of str to str
        Of the answer, with `body`.
    lag : float
        Open loop: seconds by which it was sent later than planned. Where this grows the client was the bottleneck.
    """

    started: float
    seconds: float
    status: int | None
    error: str | None = None
    size: int = 0
    request: int = 0
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    lag: float = 0.0

    @property
    def ended(self) -> float:
        return self.started + self.seconds


@dataclass(frozen=True)
class Load:
    """A run of requests: `seconds` from its first request to its last answer, `cpu_s` of this process meanwhile."""

    answers: list[Answer]
    seconds: float
    cpu_s: float

    @property
    def statuses(self) -> Counter:
        """How many answers of each status; None counts those that got none."""
        return Counter(answer.status for answer in self.answers)

    @property
    def good(self) -> list[Answer]:
        return [answer for answer in self.answers if answer.status == 200]

    @property
    def rate(self) -> float:
        """Answers of status 200 a second."""
        return len(self.good) / self.seconds

    def percentile(self, percent: float) -> float:
        """Return the milliseconds within which `percent` of the answers of status 200 came; NaN without any."""
        return 1e3 * float(np.percentile([answer.seconds for answer in self.good], percent)) if self.good else np.nan

    def failures(self) -> list[Answer]:
        return [answer for answer in self.answers if answer.status != 200]

    @property
    def lag_ms(self) -> float:
        """Median milliseconds that an open loop's requests were sent late."""
        return 1e3 * statistics.median(answer.lag for answer in self.answers) if self.answers else 0.0


async def closed(
    url: str,
    requests: Sequence[Request],
    clients: int,
    seconds: float,
    *,
    headers: Mapping[str, str] | None = None,
    most: int | None = None,
    keep: bool = False,
    watch: Callable[[Answer], None] | None = None,
) -> Load:
    """Ask with `clients` that each wait for an answer before they ask again.

    Parameters
    ----------
    url : str
    requests : sequence of Request
        Taken in turn.
    clients : int
        Each with a connection of its own, which is kept.
    seconds : float
        After which no more is sent.
    headers : mapping, optional
        Sent with every request, such as a token.
    most : int, optional
        Requests in all.
    keep : bool
        Whether bodies of good answers are kept.
    watch : callable, optional
        Called with each answer as it comes.
    """
    numbers = iter(range(most)) if most is not None else iter(int, 1)  # 0 for ever: only whether there is another
    sent = 0

    async def client(session: aiohttp.ClientSession, end: float, answers: list[Answer]) -> None:
        nonlocal sent
        while time.perf_counter() < end and next(numbers, None) is not None:
            number, sent = sent % len(requests), sent + 1
            answer = await _ask(session, url, requests[number], number, time.perf_counter(), keep)
            answers.append(answer)
            if watch is not None:
                watch(answer)
            if answer.status is None:
                await asyncio.sleep(0.05)  # nobody listens: without this the loop would only spin

    async def run(session: aiohttp.ClientSession, answers: list[Answer]) -> None:
        end = time.perf_counter() + seconds
        await asyncio.gather(*(client(session, end, answers) for _ in range(clients)))

    return await _measured(run, headers, clients)


async def open_loop(
    url: str,
    requests: Sequence[Request],
    rate: float,
    seconds: float,
    *,
    headers: Mapping[str, str] | None = None,
    seed: int = 0,
    keep: bool = False,
    watch: Callable[[Answer], None] | None = None,
) -> Load:
    """Send `rate` requests a second on average, at random times, whether or not earlier ones were answered.

    Times between arrivals are exponential (a Poisson process), and an answer's seconds count from the planned arrival,
    so that a client held up by the server does not hide it: G. Tene's "coordinated omission".
    """
    rng = np.random.default_rng(seed)
    arrivals = np.cumsum(rng.exponential(1 / rate, size=int(rate * seconds + 10 * (rate * seconds) ** 0.5 + 10)))
    arrivals = arrivals[arrivals < seconds]

    async def run(session: aiohttp.ClientSession, answers: list[Answer]) -> None:
        def done(task: asyncio.Task) -> None:
            if not task.cancelled() and task.exception() is None:
                answers.append(task.result())
                if watch is not None:
                    watch(task.result())

        waiting: set[asyncio.Task] = set()
        began = time.perf_counter()
        for count, arrival in enumerate(arrivals):
            planned = began + arrival
            wait = planned - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)
            elif count % 20 == 0:
                await asyncio.sleep(0)  # behind its plan: answers are taken all the same
            number = count % len(requests)
            task = asyncio.create_task(_ask(session, url, requests[number], number, planned, keep))
            task.add_done_callback(done)
            waiting.add(task)
            task.add_done_callback(waiting.discard)
        if waiting:
            await asyncio.wait(waiting)

    return await _measured(run, headers, 0)


def run_closed_loop(*args: Any, **options: Any) -> Load:
    """Run `closed` in an event loop of its own."""
    return _run(closed(*args, **options))


def run_open_loop(*args: Any, **options: Any) -> Load:
    """Run `open_loop` in an event loop of its own."""
    return _run(open_loop(*args, **options))


def _run(load: Coroutine[Any, Any, Load]) -> Load:
    import uvloop

    gc.collect()
    gc.freeze()  # a collection among thousands of requests would be taken for the server's
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(load)
    finally:
        gc.unfreeze()


async def _measured(
    run: Callable[[aiohttp.ClientSession, list[Answer]], Coroutine[Any, Any, None]],
    headers: Mapping[str, str] | None,
    connections: int,
) -> Load:
    answers: list[Answer] = []
    connector = aiohttp.TCPConnector(limit=connections, ttl_dns_cache=None)
    async with aiohttp.ClientSession(
        headers=headers, connector=connector, timeout=aiohttp.ClientTimeout(total=TIMEOUT), auto_decompress=False
    ) as session:
        before, began = cpu_s(), time.perf_counter()
        await run(session, answers)
        seconds, cpu = time.perf_counter() - began, cpu_s() - before
    return Load(answers, seconds, cpu)


async def _ask(
    session: aiohttp.ClientSession, url: str, request: Request, number: int, planned: float, keep: bool
) -> Answer:
    lag = time.perf_counter() - planned
    headers = {"Content-Type": request.content_type, **request.headers}
    try:
        async with session.post(url, data=request.body, headers=headers) as response:
            body = await response.read()
            kept = keep or response.status != 200
            return Answer(
                planned,
                time.perf_counter() - planned,
                response.status,
                size=len(body),
                request=number,
                body=body if kept else None,
                headers=dict(response.headers) if kept else {},
                lag=lag,
            )
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        reason = f"{type(error).__name__}: {error}"
        return Answer(planned, time.perf_counter() - planned, None, reason, request=number, lag=lag)


def cpu_s(who: int = resource.RUSAGE_SELF) -> float:
    """Return the seconds of the processor that this process has taken, or those it waited for (RUSAGE_CHILDREN)."""
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime
