"""An endpoint that scales by itself, second by second: its number of instances over time, and what they cost.

Requests are a flow here: of each second's arrivals the serving instances answer what they can, the rest waits, and
what exceeds the queues is refused. Chance within a second comes from the simulation of single requests
(`benchmarks.capacity.queueing`) at the same load, to which the flow's wait is added. Near full load both count some of
the same waiting, so that latencies are a little too high there.

The policy is Application Auto Scaling's target tracking on SageMakerVariantInvocationsPerInstance, as AWS documents it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.capacity.queueing import Outcome
from spoter.errors import SpoterError

_DAY = 24 * 3600


@dataclass(frozen=True)
class Policy:
    """How an endpoint scales between `least` and `most` instances; the defaults are deploy.py's."""

    target: float  # requests a minute for each instance
    least: int
    most: int
    start_s: float = 300.0  # from the decision until a new instance answers
    period_s: int = 60  # of the metric
    above: int = 3  # periods above the target, after which instances are added
    below: int = 15  # periods under `slack` of the target, after which instances are removed
    slack: float = 0.9
    out_cooldown_s: float = 300.0  # after instances were added, until the next change
    in_cooldown_s: float = 600.0  # after instances were removed

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.most:
            raise SpoterError(f"found {self.least} to {self.most} instances, expected at least 1, and no fewer at most")

    def wanted(self, metrics: Sequence[float], serving: int) -> int:
        """Return the number of instances that target tracking asks for, of the metric of all periods so far."""
        fitted = self.clip(serving * metrics[-1] / self.target)
        lately, long = metrics[-self.above :], metrics[-self.below :]
        if len(lately) == self.above and min(lately) > self.target:
            return max(fitted, serving)
        if len(long) == self.below and max(long) < self.slack * self.target:
            return min(fitted, serving)
        return serving

    def clip(self, instances: float) -> int:
        """Round a number of instances up, and keep it within the bounds."""
        return min(max(math.ceil(instances), self.least), self.most)


@dataclass(frozen=True)
class Timeline:
    """An endpoint over time: arrays of one number a second."""

    arrived: np.ndarray  # requests
    answered: np.ndarray
    refused: np.ndarray
    serving: np.ndarray  # instances
    paid: np.ndarray  # instances, with those still starting
    wait_s: np.ndarray  # of a request, in addition to chance
    load: np.ndarray  # arrivals as a share of the serving capacity

    @property
    def refused_share(self) -> float:
        """Refused requests as a share of all."""
        return float(self.refused.sum() / self.arrived.sum())

    def cost_per_million(self, price: float) -> float:
        """Return what a million answers cost, for a price of an instance-hour."""
        return price * self.paid.sum() / 3600 / self.answered.sum() * 1e6


def make_arrivals(profile: str, peak: float, seconds: int) -> np.ndarray:
    """Return the requests of each second for a profile: ``steady``, ``burst`` or ``day``."""
    time = np.arange(seconds)
    shares = {
        "steady": np.ones(seconds),
        "burst": np.where((3 * time >= seconds) & (3 * time < 2 * seconds), 1, 1 / 3),  # the peak in the middle third
        "day": 0.55 - 0.45 * np.cos(2 * np.pi * time / _DAY),  # begins at a tenth of the peak
    }
    if profile not in shares:
        raise SpoterError(f"found profile {profile!r}, expected one of {', '.join(shares)}")
    return peak * shares[profile]


def simulate_endpoint(
    arrived: np.ndarray, policy: Policy, capacity: float, queue: int, first: int | None = None
) -> Timeline:
    """Let requests arrive at an endpoint; each instance answers `capacity` a second and lets `queue` wait."""
    serving = policy.clip(60 * arrived[0] / policy.target) if first is None else first
    starting, ready_at, quiet_until = 0, 0.0, 0.0
    backlog, in_period, instance_seconds = 0.0, 0.0, 0
    metrics: list[float] = []
    rows = []
    for second, coming in enumerate(arrived.tolist()):
        if starting and second >= ready_at:
            serving, starting = serving + starting, 0
            quiet_until = second + policy.out_cooldown_s
        able = serving * capacity
        answered = min(backlog + coming, able)
        left = backlog + coming - answered
        backlog = min(left, serving * queue)
        rows.append((coming, answered, left - backlog, serving, serving + starting, backlog / able, coming / able))
        in_period += coming
        instance_seconds += serving
        if (second + 1) % policy.period_s == 0:
            metrics.append(60 * in_period / instance_seconds)
            in_period, instance_seconds = 0.0, 0
            # An endpoint takes one change at a time.
            if not starting and second >= quiet_until:
                wanted = policy.wanted(metrics, serving)
                if wanted > serving:
                    starting, ready_at = wanted - serving, second + policy.start_s
                elif wanted < serving:
                    serving, quiet_until = wanted, second + policy.in_cooldown_s
    return Timeline(*(np.array(column, dtype=float) for column in zip(*rows, strict=True)))


def latency_percentiles(
    timeline: Timeline, at_load: Callable[[float], Outcome], loads: Sequence[float], percents: Sequence[float]
) -> list[float]:
    """Return the seconds within which each of `percents` of all answers came, interpolated between `loads`."""
    levels = (np.arange(200) + 0.5) / 200
    quantiles = np.array([np.quantile(at_load(load).seconds, levels) for load in loads])  # (loads, 200)
    place = np.interp(timeline.load, loads, np.arange(len(loads)))
    below = np.minimum(place.astype(int), len(loads) - 2)
    share = (place - below)[:, None]
    seconds = (1 - share) * quantiles[below] + share * quantiles[below + 1] + timeline.wait_s[:, None]  # (time, 200)
    order = np.argsort(seconds, axis=None)
    weights = np.cumsum(np.repeat(timeline.answered, len(levels))[order])
    indices = np.searchsorted(weights, np.asarray(percents) / 100 * weights[-1])
    return seconds.ravel()[order][np.minimum(indices, len(order) - 1)].tolist()
