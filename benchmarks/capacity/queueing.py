"""Simulation of instances with workers and queues, event by event (simpy): latencies and refused requests.

An instance is a TorchServe with a queue of limited length, and workers that take batches from it. A worker takes the
request that waited longest, and then later ones until the batch is full or its delay is over. Only one worker gathers a
batch at any moment (TorchServe 0.12 does so under a lock). The batch then takes a service time measured for its size.

To simulate a large fleet, a sample of its instances gets a share of the requests. This is exact for random routing,
because a randomly split Poisson process consists of independent Poisson processes. If requests go to the instance with
the fewest outstanding requests, the choice from a sample is slightly worse than the choice from the fleet.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import msgspec
import numpy as np
import simpy

from spoter.errors import SpoterError

ROUTINGS = ("random", "least")  # SageMaker's RANDOM and LEAST_OUTSTANDING_REQUESTS
SAMPLED = 16  # maximum number of simulated instances
_WARM_UP = 0.1  # share of the requests that do not count, because they found empty queues


class Instance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """Settings and service times of an instance; `--measure` writes them to a file."""

    machine: str = "no machine"
    date: str = "not measured"
    request: str = ""  # the kind of requests
    workers: int
    batch: int = 1  # maximum number of requests in a batch
    queue: int = 100  # TorchServe's job_queue_size: more waiting requests are refused
    delay_ms: float = 0.0  # time that a worker waits for a batch to fill
    overhead_ms: float = 0.0  # time of a request outside of its worker: front end and network
    service_ms: dict[int, list[float]]  # times of a worker by size of the batch; needs the sizes 1 and `batch`

    def __post_init__(self) -> None:
        if 1 not in self.service_ms or not all(values and min(values) > 0 for values in self.service_ms.values()):
            raise SpoterError(f"service_ms: found sizes {list(self.service_ms)}, expected 1 among them, times above 0")

    @cached_property
    def _service_s(self) -> np.ndarray:
        """Quantiles of the seconds of batches of 1, 2, 3, … (sizes, levels), interpolated between measured sizes."""
        sizes = sorted(self.service_ms)
        count = max(map(len, self.service_ms.values()))
        levels = (np.arange(count) + 0.5) / count
        quantiles = np.array([np.quantile(self.service_ms[size], levels, method="hazen") for size in sizes]) / 1e3
        return np.transpose([np.interp(np.arange(1, sizes[-1] + 1), sizes, level) for level in quantiles.T])

    def service_seconds(self, size: int) -> np.ndarray:
        """Return service times of a batch of `size` in seconds, all with the same probability."""
        if size > len(self._service_s):
            largest = len(self._service_s)
            raise SpoterError(f"found batches of {size}, expected at most {largest}, the largest measured size")
        return self._service_s[size - 1]

    @property
    def capacity(self) -> float:
        """The maximum number of answers per second: all workers are busy with full batches."""
        return float(self.workers * self.batch / self.service_seconds(self.batch).mean())

    def describe(self) -> str:
        """Return two lines of text."""
        return (
            f"An instance with {self.workers} workers, batches of {self.batch}, a delay of {self.delay_ms:g} ms and a "
            f"queue of {self.queue}\nanswers at most {self.capacity:.0f} requests/s ({self.request}; {self.machine}, "
            f"{self.date}).\n"
        )


@dataclass(frozen=True)
class Outcome:
    """Latencies of all answered requests in seconds, and the numbers of refused and of all requests."""

    seconds: np.ndarray
    refused: int
    requests: int

    @property
    def refused_share(self) -> float:
        """Refused requests as a share of all."""
        return self.refused / self.requests

    def percentile(self, percent: float) -> float:
        """Return a percentile of the latency in seconds; NaN if no request was answered."""
        return float(np.percentile(self.seconds, percent)) if len(self.seconds) else float("nan")


def simulate_fleet(
    instance: Instance, instances: int, rate: float, requests: int, routing: str = "random", seed: int = 0
) -> Outcome:
    """Simulate a fleet that gets `rate` requests per second at random times (a Poisson process)."""
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
            if routing == "least":  # start at the random choice to break ties, or the first instance would win them all
                target = min(fleet[choice:] + fleet[:choice], key=lambda one: one.outstanding)
            accepted = target.accept(counted=number >= first)
            refused += number >= first and not accepted

    environment.run(environment.process(send_requests()))
    while any(one.outstanding for one in fleet):
        environment.step()
    return Outcome(np.array([seconds for one in fleet for seconds in one.answered]), refused, requests - first)


@dataclass(eq=False)
class _SimulatedInstance:
    """An instance in a simulation; `answered` has the latencies of counted answers in seconds."""

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
        """Put a request into the queue; return False if the queue is full."""
        if len(self.waiting.items) >= self.settings.queue:
            return False
        self.outstanding += 1
        self.waiting.put((self.environment.now, counted))
        return True

    def _work(self) -> Iterator[simpy.Event]:
        seconds_by_size = [self.settings.service_seconds(size) for size in range(1, self.settings.batch + 1)]
        while True:
            with self.gathering.request() as turn:
                yield turn
                batch = yield from self._gather()
            seconds = seconds_by_size[len(batch) - 1]
            yield self.environment.timeout(float(seconds[int(self.rng.random() * len(seconds))]))
            self.outstanding -= len(batch)
            now = self.environment.now + self.settings.overhead_ms / 1e3
            self.answered += [now - arrived for arrived, counted in batch if counted]

    def _gather(self) -> Iterator[simpy.Event]:
        batch = [(yield self.waiting.get())]
        deadline = self.environment.now + self.settings.delay_ms / 1e3
        while len(batch) < self.settings.batch:
            next_request = self.waiting.get()
            if not next_request.triggered:
                remaining = deadline - self.environment.now
                if remaining > 0:
                    yield next_request | self.environment.timeout(remaining)
                if not next_request.triggered:
                    next_request.cancel()
                    break
            batch.append(next_request.value)
        return batch
