"""HTTP load on one URL, in a closed loop (each client waits for its answer) or an open loop (arrivals do not wait).

The client is one process with one event loop. It takes processor time from the measured server: `Load.cpu_s`.
"""

import asyncio
import resource
import statistics
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import cycle, islice
from typing import Any, Self

import aiohttp
import numpy as np
import uvloop

from benchmarks.timing import frozen_heap
from spoter.errors import SpoterError

TIMEOUT = 90.0  # seconds after which a request counts as unanswered; above the responseTimeout of the archive


@dataclass(frozen=True)
class Request:
    """A body to post, and its content type."""

    body: bytes
    content_type: str = "application/json"


@dataclass(frozen=True)
class Answer:
    """The answer to a request; without a complete answer, `status` is None and `error` has the reason."""

    started: float  # time of sending, or the planned time in an open loop, by `time.perf_counter`
    seconds: float  # from `started` to the last byte
    status: int | None
    error: str | None = None
    request: int = 0  # index in the sequence of requests
    body: bytes = b""  # body and headers are stored unless the status is 200
    headers: Mapping[str, str] = field(default_factory=dict)
    lag: float = 0.0  # delay of sending in an open loop, seconds; if it grows, the client is the bottleneck

    @property
    def ended(self) -> float:
        """The time of the last byte, by `time.perf_counter`."""
        return self.started + self.seconds


@dataclass(frozen=True)
class Figures:
    """Figures of a server under load."""

    rate: float  # answers with status 200 per second
    p50: float  # percentiles of the latency of these answers, milliseconds
    p95: float
    p99: float
    cpu_ms: float | None = None  # processor time per request, sum over the server's processes
    client_cpu_ms: float | None = None  # processor time per request of the client, which runs on the same cores
    requests: int = 0
    failures: dict[str, int] | None = None  # number of requests without status 200, by reason


def combine_rounds(rounds: Sequence[Figures]) -> Figures:
    """Return the median of each figure over all rounds; counts are added."""
    values = {figure.name: [getattr(each, figure.name) for each in rounds] for figure in fields(Figures)}
    requests, failures = sum(values.pop("requests")), sum(map(Counter, values.pop("failures")), Counter())
    medians = {name: None if None in each else statistics.median(each) for name, each in values.items()}
    return Figures(**medians, requests=requests, failures=dict(failures))


@dataclass(frozen=True)
class Load:
    """A run: `seconds` from the first request to the last answer, `cpu_s` the processor seconds of this process."""

    answers: list[Answer]
    seconds: float
    cpu_s: float

    @property
    def statuses(self) -> Counter[int | None]:
        """The number of answers with each status; None counts requests without an answer."""
        return Counter(answer.status for answer in self.answers)

    @property
    def good(self) -> list[Answer]:
        """Answers with status 200."""
        return [answer for answer in self.answers if answer.status == 200]

    @property
    def failures(self) -> list[Answer]:
        """Answers with any other status, and requests without an answer."""
        return [answer for answer in self.answers if answer.status != 200]

    @property
    def rate(self) -> float:
        """Answers with status 200 per second."""
        return len(self.good) / self.seconds

    def percentile(self, percent: float) -> float:
        """Return a percentile of the latency of answers with status 200, in milliseconds; NaN if there are none."""
        return 1e3 * float(np.percentile([answer.seconds for answer in self.good], percent)) if self.good else np.nan

    @property
    def lag_ms(self) -> float:
        """The median delay in sending an open loop's requests, in milliseconds."""
        return 1e3 * statistics.median(answer.lag for answer in self.answers) if self.answers else 0.0

    def summarize(self, cpu_s: float) -> Figures:
        """Return the figures; `cpu_s` is the server's processor time in seconds."""
        failures = Counter(str(answer.status or answer.error).partition(":")[0] for answer in self.failures)
        cpu_ms, client_cpu_ms = (1e3 * seconds / max(len(self.answers), 1) for seconds in (cpu_s, self.cpu_s))
        percentiles = [self.percentile(percent) for percent in (50, 95, 99)]
        return Figures(self.rate, *percentiles, cpu_ms, client_cpu_ms, len(self.answers), dict(failures))

    def require_success(self) -> Self:
        """Return the load itself; raise `SpoterError` if a request failed, because its time would mislead."""
        if self.failures or not self.good:
            raise SpoterError(f"found answers with statuses {dict(self.statuses)}, expected only 200")
        return self


def run_closed_loop(
    url: str, requests: Sequence[Request], clients: int, seconds: float, *, most: int | None = None
) -> Load:
    """Send requests in turn from `clients` that wait for each answer, for `seconds` or until `most` were sent."""
    numbers = islice(cycle(range(len(requests))), most)

    async def send_in_turn(session: aiohttp.ClientSession, end: float, answers: list[Answer]) -> None:
        while time.perf_counter() < end and (number := next(numbers, None)) is not None:
            answers.append(await _post(session, url, requests[number], number, time.perf_counter()))
            if answers[-1].status is None:
                await asyncio.sleep(0.05)  # no server listens: without a pause the loop would spin

    async def send(session: aiohttp.ClientSession, answers: list[Answer]) -> None:
        end = time.perf_counter() + seconds
        await asyncio.gather(*(send_in_turn(session, end, answers) for _ in range(clients)))

    return _run(_record(send, clients))


async def open_loop(
    url: str,
    requests: Sequence[Request],
    rate: float,
    seconds: float,
    *,
    seed: int = 0,
    watch: Callable[[Answer], None] | None = None,
) -> Load:
    """Send on average `rate` requests per second at random times, without waiting for earlier answers.

    Times between arrivals are exponential (a Poisson process). The seconds of an answer count from the planned arrival:
    otherwise a server that delays the client would hide its latency (G. Tene's "coordinated omission"). `watch` is
    called with each answer when it arrives.
    """
    rng = np.random.default_rng(seed)
    arrivals = np.cumsum(rng.exponential(1 / rate, size=int(rate * seconds + 10 * (rate * seconds) ** 0.5 + 10)))
    arrivals = arrivals[arrivals < seconds]

    async def send(session: aiohttp.ClientSession, answers: list[Answer]) -> None:
        async def post(number: int, planned: float) -> None:
            answers.append(await _post(session, url, requests[number], number, planned))
            if watch is not None:
                watch(answers[-1])

        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for count, arrival in enumerate(arrivals):
                wait = began + arrival - time.perf_counter()
                if wait > 0:
                    await asyncio.sleep(wait)
                elif count % 20 == 0:
                    await asyncio.sleep(0)  # sending is late, but answers must still be received
                group.create_task(post(count % len(requests), began + arrival))

    return await _record(send, 0)


def run_open_loop(*args: Any, **options: Any) -> Load:
    """Run `open_loop` in a new event loop."""
    return _run(open_loop(*args, **options))


def _run(load: Coroutine[Any, Any, Load]) -> Load:
    with frozen_heap(), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(load)


async def _record(
    send: Callable[[aiohttp.ClientSession, list[Answer]], Coroutine[Any, Any, None]], connections: int
) -> Load:
    answers: list[Answer] = []
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections, ttl_dns_cache=None),
        timeout=aiohttp.ClientTimeout(total=TIMEOUT),
        auto_decompress=False,
    ) as session:
        cpu_before, began = cpu_seconds(), time.perf_counter()
        await send(session, answers)
        return Load(answers, time.perf_counter() - began, cpu_seconds() - cpu_before)


async def _post(session: aiohttp.ClientSession, url: str, request: Request, number: int, planned: float) -> Answer:
    lag = time.perf_counter() - planned
    try:
        async with session.post(url, data=request.body, headers={"Content-Type": request.content_type}) as response:
            body = await response.read()
            seconds = time.perf_counter() - planned
            if response.status == 200:
                return Answer(planned, seconds, 200, request=number, lag=lag)
            return Answer(planned, seconds, response.status, None, number, body, dict(response.headers), lag)
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        reason = f"{type(error).__name__}: {error}"
        return Answer(planned, time.perf_counter() - planned, None, reason, request=number, lag=lag)


def cpu_seconds(who: int = resource.RUSAGE_SELF) -> float:
    """Return the processor seconds of this process or, with RUSAGE_CHILDREN, of children that it waited for."""
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime
