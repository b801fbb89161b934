"""Instances with workers behind queues, simulated event by event (simpy): waiting times and refused requests.

An instance is a TorchServe: a queue of limited length before workers that take batches. A worker takes the request that
waited longest, then others as they come until the batch is full or its delay is over, and one worker at a time gathers
(TorchServe 0.12 does so under a lock); the whole batch then takes a service time that was measured for its size.

A large fleet is simulated by a sample of its instances with their share of the requests. Under random routing that is
exact, for a Poisson process split at random is independent Poisson processes. Where requests go to the instance with
the least outstanding ones, the choice among a sample is a little worse than among all.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import msgspec
import numpy as np
import simpy

from spoter.errors import SpoterError

ROUTINGS = ("random", "least")  # SageMaker's RANDOM and LEAST_OUTSTANDING_REQUESTS
SAMPLED = 16  # the most instances of a fleet that are simulated
_WARM_UP = 0.1  # share of the requests that is not counted: they found empty queues


class Instance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """An instance: its settings and its service times. `--measure` writes it into a file."""

    machine: str = "no machine"
    date: str = "not measured"
    request: str = ""  # for which requests the times were measured
    workers: int
    batch: int = 1  # the most requests that a worker takes together
    queue: int = 100  # TorchServe's job_queue_size: more waiting requests are refused
    delay_ms: float = 0.0  # for which a worker waits for a batch to fill
    overhead_ms: float = 0.0  # of a request outside of its worker: the front end and the network
    service_ms: dict[int, list[float]]  # of a worker for batches of some sizes, 1 and `batch` among them

    def __post_init__(self) -> None:
        if 1 not in self.service_ms or not all(values and min(values) > 0 for values in self.service_ms.values()):
            raise SpoterError("found no service times above 0 for batches of 1, expected some for every size measured")

    @cached_property
    def _service_s(self) -> np.ndarray:
        """Seconds of batches of 1, 2, 3, … (sizes, levels): quantiles, interpolated between the measured sizes."""
        sizes = sorted(self.service_ms)
        count = max(map(len, self.service_ms.values()))
        levels = (np.arange(count) + 0.5) / count
        quantiles = np.array([np.quantile(self.service_ms[size], levels, method="hazen") for size in sizes]) / 1e3
        return np.transpose([np.interp(np.arange(1, sizes[-1] + 1), sizes, level) for level in quantiles.T])

    def service_seconds(self, size: int) -> np.ndarray:
        """Return equally likely seconds of a batch of `size`."""
        if size > len(self._service_s):
            largest = len(self._service_s)
            raise SpoterError(f"found batches of {size}, expected at most {largest}, the largest measured size")
        return self._service_s[size - 1]

    @property
    def capacity(self) -> float:
        """The most requests a second that it answers: all workers busy with full batches."""
        return float(self.workers * self.batch / self.service_seconds(self.batch).mean())

    def describe(self) -> str:
        """Return two lines of text."""
        return (
            f"An instance of {self.workers} workers, batches of {self.batch}, a delay of {self.delay_ms:g} ms and a "
            f"queue of {self.queue}\nanswers at most {self.capacity:.0f} requests/s ({self.request}; {self.machine}, "
            f"{self.date}).\n"
        )


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
    instance: Instance, instances: int, rate: float, requests: int, routing: str = "random", seed: int = 0
) -> Outcome:
    """Send requests to a sample of a fleet that gets `rate` a second, at random times (a Poisson process)."""
    if routing not in ROUTINGS:
        raise SpoterError(f"found routing {routing!r}, expected one of {', '.join(ROUTINGS)}")
    sampled = min(instances, SAMPLED)
    rng = np.random.default_rng(seed)
    gaps = rng.exponential(instances / (sampled * rate), size=requests)
    random_choices = rng.integers(sampled, size=requests)
    environment = simpy.Environment()
    fleet = [_SimulatedInstance(environment, instance, rng.spawn(1)[0]) for _ in range(sampled)]
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
        seconds = [self.settings.service_seconds(size) for size in range(1, self.settings.batch + 1)]
        while True:
            with self.gathering.request() as turn:
                yield turn
                batch = yield from self._gather()
            likely = seconds[len(batch) - 1]
            yield self.environment.timeout(float(likely[int(self.rng.random() * len(likely))]))
            self.outstanding -= len(batch)
            now = self.environment.now + self.settings.overhead_ms / 1e3
            self.answered += [now - arrived for arrived, counted in batch if counted]

    def _gather(self) -> Iterator[simpy.Event]:
        batch = [(yield self.waiting.get())]
        closes = self.environment.now + self.settings.delay_ms / 1e3
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
