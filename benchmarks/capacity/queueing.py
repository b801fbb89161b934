"""Instances with workers behind queues, simulated event by event (simpy): waiting times and refused requests.

An instance is a TorchServe: a queue of limited length before workers that take batches. A worker takes the request that
waited longest, then others as they come until the batch is full or its delay is over, and one worker at a time gathers
(TorchServe 0.12 does so under a lock); the whole batch then takes a service time that was measured for its size.

A large fleet is simulated by a sample of its instances with their share of the requests. Under random routing that is
exact, for a Poisson process split at random is independent Poisson processes. Where requests go to the instance with
the least outstanding ones, the choice among a sample is a little worse than among all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import msgspec
import numpy as np
import simpy

from spoter.errors import SpoterError

ROUTINGS = ("random", "least")
"""SageMaker's RANDOM and LEAST_OUTSTANDING_REQUESTS."""
SAMPLED = 16
"""The most instances of a fleet that are simulated."""
_WARM_UP = 0.1  # share of the requests that is not counted: they found empty queues


class ServiceTimes:
    """Seconds that a worker takes for a batch of each size.

    `samples` are measured seconds for some sizes, 1 among them. For a size between two of them quantiles are
    interpolated.
    """

    def __init__(self, samples: Mapping[int, Sequence[float]]):
        if 1 not in samples or not all(len(values) and min(values) > 0 for values in samples.values()):
            raise SpoterError("found no service times above 0 for batches of 1, expected some for every size measured")
        self.largest = max(samples)
        count = max(map(len, samples.values()))
        levels = (np.arange(count) + 0.5) / count
        quantiles = {size: np.quantile(samples[size], levels, method="hazen") for size in sorted(samples)}
        self._seconds = {self.largest: quantiles[self.largest]}
        for below, above in pairwise(quantiles):
            for size in range(below, above):
                share = (size - below) / (above - below)
                self._seconds[size] = (1 - share) * quantiles[below] + share * quantiles[above]

    def mean(self, size: int) -> float:
        """Return the mean seconds of a batch of `size`."""
        return float(self.seconds(size).mean())

    def seconds(self, size: int) -> np.ndarray:
        """Return equally likely seconds of a batch of `size`."""
        if size not in self._seconds:
            raise SpoterError(f"found batches of {size}, expected at most {self.largest}, the largest measured size")
        return self._seconds[size]


@dataclass(frozen=True)
class Instance:
    """The settings of an instance.

    A worker takes up to `batch` requests together, and waits `delay_s` for a batch to fill. `queue` requests may wait;
    more are refused (TorchServe's job_queue_size). `overhead_s` is the time of a request outside of its worker: the
    front end and the network.
    """

    workers: int
    batch: int = 1
    delay_s: float = 0.0
    queue: int = 100
    overhead_s: float = 0.0

    def capacity(self, times: ServiceTimes) -> float:
        """Return the most requests a second that it answers: all workers busy with full batches."""
        return self.workers * self.batch / times.mean(self.batch)


class InstanceMeasurement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file that `--measure` writes: what was measured where and when, the settings of `Instance`, service times.

    `service_ms` has milliseconds of a worker for batches of some sizes, 1 and `batch` among them.
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

    @property
    def instance(self) -> Instance:
        """The settings, in seconds."""
        return Instance(self.workers, self.batch, self.delay_ms / 1e3, self.queue, self.overhead_ms / 1e3)

    @property
    def times(self) -> ServiceTimes:
        """The service times, in seconds."""
        return ServiceTimes({size: [value / 1e3 for value in values] for size, values in self.service_ms.items()})

    @property
    def capacity(self) -> float:
        """The most requests a second that the instance answers."""
        return self.instance.capacity(self.times)


@dataclass(frozen=True)
class Outcome:
    """Seconds from request to answer of all answered requests, and the numbers of refused and of all requests."""

    seconds: np.ndarray
    refused: int
    requests: int

    @property
    def refused_share(self) -> float:
        """Refused requests as a share of all."""
        return self.refused / self.requests

    def percentile(self, percent: float) -> float:
        """Return seconds; NaN where no request was answered."""
        return float(np.percentile(self.seconds, percent)) if len(self.seconds) else float("nan")


def simulate_fleet(
    times: ServiceTimes,
    instance: Instance,
    instances: int,
    rate: float,
    requests: int,
    routing: str = "random",
    seed: int = 0,
) -> Outcome:
    """Send requests at random times (a Poisson process) to a fleet of equal instances.

    `rate` is that of the whole fleet, a second; `requests` are sent to its sample, and the first tenth is not counted.
    The same seed gives the same outcome.
    """
    if routing not in ROUTINGS:
        raise SpoterError(f"found routing {routing!r}, expected one of {', '.join(ROUTINGS)}")
    sampled = min(instances, SAMPLED)
    rng = np.random.default_rng(seed)
    gaps = rng.exponential(instances / (sampled * rate), size=requests)
    random_choices = rng.integers(sampled, size=requests)
    environment = simpy.Environment()
    fleet = [_SimulatedInstance(environment, times, instance, rng.spawn(1)[0]) for _ in range(sampled)]
    first, refused = int(_WARM_UP * requests), 0

    def send_requests() -> Iterator[simpy.Event]:
        nonlocal refused
        for number, (gap, choice) in enumerate(zip(gaps.tolist(), random_choices.tolist(), strict=True)):
            yield environment.timeout(gap)
            target = fleet[choice]
            if routing == "least":  # the random choice breaks ties: the first instance would get all of them
                target = min(fleet[choice:] + fleet[:choice], key=lambda one: one.outstanding)
            accepted = target.accept(counted=number >= first)
            refused += number >= first and not accepted

    environment.run(environment.process(send_requests()))
    while any(one.outstanding for one in fleet):
        environment.step()
    return Outcome(np.array([seconds for one in fleet for seconds in one.answered]), refused, requests - first)


@dataclass(eq=False)
class _SimulatedInstance:
    """An instance at work; `answered` holds the seconds of the answers that count."""

    environment: simpy.Environment
    times: ServiceTimes
    settings: Instance
    rng: np.random.Generator
    outstanding: int = 0
    answered: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.waiting = simpy.Store(self.environment)
        self.gathering = simpy.Resource(self.environment)
        for _ in range(self.settings.workers):
            self.environment.process(self._work())

    def accept(self, counted: bool) -> bool:
        """Put a request into the queue; return False where it is full."""
        if len(self.waiting.items) >= self.settings.queue:
            return False
        self.outstanding += 1
        self.waiting.put((self.environment.now, counted))
        return True

    def _work(self) -> Iterator[simpy.Event]:
        draw_seconds = self._service()
        while True:
            with self.gathering.request() as turn:
                yield turn
                batch = yield from self._gather()
            yield self.environment.timeout(draw_seconds(len(batch)))
            self.outstanding -= len(batch)
            now = self.environment.now + self.settings.overhead_s
            self.answered += [now - arrived for arrived, counted in batch if counted]

    def _gather(self) -> Iterator[simpy.Event]:
        batch = [(yield self.waiting.get())]
        closes = self.environment.now + self.settings.delay_s
        while len(batch) < self.settings.batch:
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

    def _service(self) -> Callable[[int], float]:
        """Return a function that draws the seconds of a batch of a size."""
        by_size = {size: self.times.seconds(size) for size in range(1, self.settings.batch + 1)}

        def uniform() -> Iterator[float]:
            while True:
                yield from self.rng.random(4096).tolist()

        draws = uniform()
        return lambda size: float(by_size[size][int(next(draws) * len(by_size[size]))])
