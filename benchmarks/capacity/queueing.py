"""Instances with workers behind queues, event by event (simpy): how long do requests wait, how many are refused?

An instance is a TorchServe: a queue of limited length before workers that take batches. A worker takes the request that
waited longest, then others as they come until the batch is full or its delay is over, and one worker at a time gathers
(TorchServe 0.12 does so under a lock); the whole batch then takes a service time that was measured for its size.

A large fleet is simulated by a sample of its instances with their share of the requests. Under random routing that is
exact, for a Poisson process split at random is independent Poisson processes. Where requests go to the instance with
the least outstanding ones, the choice among a sample is a little worse than among all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from spoter.errors import SpoterError

if TYPE_CHECKING:
    from benchmarks.capacity.queueing import Instance, ServiceTimes

if TYPE_CHECKING:
    import simpy

ROUTINGS = ("random", "least")
"""SageMaker's RANDOM and LEAST_OUTSTANDING_REQUESTS."""
SAMPLED = 16
"""As many instances of a fleet are simulated."""
_WARM_UP = 0.1  # of the requests are left out of what is told: they found empty queues


class ServiceTimes:
    """How long a worker takes for a batch of each size.

    Parameters
    ----------
    samples : mapping of int to sequence of float
        Measured seconds for some batch sizes, 1 among them. For a size between two of them quantiles are interpolated.
    """

    def __init__(self, samples: Mapping[int, Sequence[float]]):
        if 1 not in samples or not all(len(values) and min(values) > 0 for values in samples.values()):
            raise SpoterError("found no service times above 0 for batches of 1, expected some for every size measured")
        self.largest = max(samples)
        count = max(map(len, samples.values()))
        at = (np.arange(count) + 0.5) / count
        quantiles = {size: np.quantile(samples[size], at, method="hazen") for size in sorted(samples)}
        self._seconds = {}
        for below, above in pairwise(quantiles):
            for size in range(below, above):
                part = (size - below) / (above - below)
                self._seconds[size] = (1 - part) * quantiles[below] + part * quantiles[above]
        self._seconds[self.largest] = quantiles[self.largest]

    def mean(self, size: int) -> float:
        """Return the mean seconds of a batch of `size`."""
        return float(self.of(size).mean())

    def of(self, size: int) -> np.ndarray:
        """Return equally likely seconds of a batch of `size`."""
        if size not in self._seconds:
            raise SpoterError(
                f"found batches of {size}, expected at most {self.largest}, the largest that was measured"
            )
        return self._seconds[size]


@dataclass(frozen=True)
class Instance:
    """What an instance is made of.

    Attributes
    ----------
    workers : int
    batch : int
        Most requests of a batch.
    delay_s : float
        For which a batch that is not full waits for others.
    queue : int
        Requests that may wait; more are refused (TorchServe's job_queue_size).
    overhead_s : float
        Of each request, beside its turn at a worker: the front end and the network.
    """

    workers: int
    batch: int = 1
    delay_s: float = 0.0
    queue: int = 100
    overhead_s: float = 0.0

    def capacity(self, times: ServiceTimes) -> float:
        """Return the most requests a second that it answers: all workers busy with full batches."""
        return self.workers * self.batch / times.mean(self.batch)


@dataclass(frozen=True)
class Outcome:
    """Seconds from asking to the answer of those that were answered, and counts of those refused and all."""

    seconds: np.ndarray
    refused: int
    asked: int

    @property
    def refused_share(self) -> float:
        return self.refused / self.asked

    def percentile(self, percent: float) -> float:
        """Return seconds; NaN where nobody was answered."""
        return float(np.percentile(self.seconds, percent)) if len(self.seconds) else float("nan")


def simulate(
    times: ServiceTimes,
    instance: Instance,
    instances: int,
    rate: float,
    requests: int,
    routing: str = "random",
    seed: int = 0,
) -> Outcome:
    """Send requests at random times (a Poisson process) to a fleet.

    Parameters
    ----------
    times : ServiceTimes
    instance : Instance
        All are alike.
    instances : int
    rate : float
        Requests a second to all of them.
    requests : int
        To the sample; the first tenth is not counted.
    routing : str
        One of `ROUTINGS`.
    seed : int
        The same one gives the same outcome.
    """
    if routing not in ROUTINGS:
        raise SpoterError(f"found routing {routing!r}, expected one of {', '.join(ROUTINGS)}")
    import simpy

    sampled = min(instances, SAMPLED)
    rng = np.random.default_rng(seed)
    gaps = rng.exponential(instances / (sampled * rate), size=requests)
    random_choices = rng.integers(sampled, size=requests)
    environment = simpy.Environment()
    fleet = [_Simulated(environment, times, instance, rng.spawn(1)[0]) for _ in range(sampled)]
    first, refused = int(_WARM_UP * requests), 0

    def arrivals() -> Iterator[simpy.Event]:
        nonlocal refused
        for number, (gap, choice) in enumerate(zip(gaps.tolist(), random_choices.tolist(), strict=True)):
            yield environment.timeout(gap)
            # The random choice breaks ties, too: the first instance would get all of them.
            order = range(choice, choice + sampled)
            to = choice if routing == "random" else min(order, key=lambda i: fleet[i % sampled].outstanding) % sampled
            taken = fleet[to].take(counted=number >= first)
            refused += number >= first and not taken

    environment.run(environment.process(arrivals()))
    while any(one.outstanding for one in fleet):
        environment.step()
    answered = np.array([seconds for one in fleet for seconds in one.answered])
    return Outcome(answered, refused, requests - first)


@dataclass
class _Simulated:
    """An instance at work; `answered` holds the seconds of those that count."""

    environment: simpy.Environment
    times: ServiceTimes
    kind: Instance
    rng: np.random.Generator
    outstanding: int = 0
    answered: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        import simpy

        self.waiting = simpy.Store(self.environment)
        self.gathering = simpy.Resource(self.environment)
        for _ in range(self.kind.workers):
            self.environment.process(self._work())

    def take(self, counted: bool) -> bool:
        """Take a request in, or tell that the queue is full."""
        if len(self.waiting.items) >= self.kind.queue:
            return False
        self.outstanding += 1
        self.waiting.put((self.environment.now, counted))
        return True

    def _work(self) -> Iterator[simpy.Event]:
        seconds = self._service()
        while True:
            with self.gathering.request() as turn:
                yield turn
                batch = yield from self._gather()
            yield self.environment.timeout(seconds(len(batch)))
            self.outstanding -= len(batch)
            now = self.environment.now + self.kind.overhead_s
            self.answered += [now - arrived for arrived, counted in batch if counted]

    def _gather(self) -> Iterator[simpy.Event]:
        batch = [(yield self.waiting.get())]
        closes = self.environment.now + self.kind.delay_s
        while len(batch) < self.kind.batch:
            coming = self.waiting.get()
            if not coming.triggered:
                left = closes - self.environment.now
                if left > 0:
                    yield coming | self.environment.timeout(left)
                if not coming.triggered:
                    coming.cancel()
                    break
            batch.append(coming.value)
        return batch

    def _service(self):
        """Return what draws a batch's seconds."""
        by_size = {size: self.times.of(size) for size in range(1, self.kind.batch + 1)}
        draws = iter(())

        def seconds(size: int) -> float:
            nonlocal draws
            draw = next(draws, None)
            if draw is None:
                draws = iter(self.rng.random(4096).tolist())
                draw = next(draws)
            values = by_size[size]
            return float(values[int(draw * len(values))])

        return seconds


class Times(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `--measure` writes: service times of an instance, and what it was.

    Attributes
    ----------
    machine, date, request : str
        Where, when and with what it was measured, for whoever reads the file.
    workers, batch, queue : int
    delay_ms, overhead_ms : float
        As of `benchmarks.capacity.queueing.Instance`, in milliseconds.
    service_ms : dict of int to list of float
        Milliseconds of a worker for batches of some sizes, 1 and `batch` among them.
    """

    machine: str
    date: str
    request: str
    workers: int
    batch: int
    queue: int
    delay_ms: float
    overhead_ms: float
    service_ms: dict[int, list[float]]

    def instance(self) -> Instance:
        from benchmarks.capacity.queueing import Instance

        return Instance(self.workers, self.batch, self.delay_ms / 1e3, self.queue, self.overhead_ms / 1e3)

    def service(self) -> ServiceTimes:
        from benchmarks.capacity.queueing import ServiceTimes

        return ServiceTimes({size: [value / 1e3 for value in values] for size, values in self.service_ms.items()})
