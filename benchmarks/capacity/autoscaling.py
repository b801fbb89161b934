"""Simulation of an endpoint with automatic scaling, second by second: number of instances and cost.

This simulation treats requests as a flow. In each second, the serving instances answer as many requests as they can;
the others wait, and requests that exceed the queues are refused. Random variation within a second comes from the
simulation of single requests (`benchmarks.capacity.queueing`) at the same load; the wait of the flow is added to it.
Near full load both simulations contain some of the same waiting, so latencies there are slightly too high.

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
    """A policy that scales an endpoint between `least` and `most` instances; defaults as in `spoter deploy`."""

    target: float  # requests per minute and instance
    least: int
    most: int
    start_s: float = 300.0  # from the decision until a new instance answers
    period_s: int = 60  # period of the metric
    above: int = 3  # periods above the target before instances are added
    below: int = 15  # periods under `slack` times the target before instances are removed
    slack: float = 0.9
    out_cooldown_s: float = 300.0  # pause after instances were added
    in_cooldown_s: float = 600.0  # pause after instances were removed

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.most:
            raise SpoterError(f"found {self.least} to {self.most} instances, expected 1 <= minimum <= maximum")

    def wanted(self, metrics: Sequence[float], serving: int) -> int:
        """Return the number of instances that target tracking requests; `metrics` has a value per period so far."""
        fitted = self.clip(serving * metrics[-1] / self.target)
        short_window, long_window = metrics[-self.above :], metrics[-self.below :]
        if len(short_window) == self.above and min(short_window) > self.target:
            return max(fitted, serving)
        if len(long_window) == self.below and max(long_window) < self.slack * self.target:
            return min(fitted, serving)
        return serving

    def clip(self, instances: float) -> int:
        """Round a number of instances up, and clip it to the bounds."""
        return min(max(math.ceil(instances), self.least), self.most)


@dataclass(frozen=True)
class Timeline:
    """An endpoint over time: arrays with one value per second."""

    arrived: np.ndarray  # requests
    answered: np.ndarray
    refused: np.ndarray
    serving: np.ndarray  # instances that answer
    paid: np.ndarray  # instances that answer or are starting
    wait_s: np.ndarray  # wait of a request in the flow, without random variation
    load: np.ndarray  # arrivals as a share of the serving capacity

    @property
    def refused_share(self) -> float:
        """Refused requests as a share of all."""
        return float(self.refused.sum() / self.arrived.sum())

    def cost_per_million(self, price: float) -> float:
        """Return the cost of a million answers, given the price of an instance-hour."""
        return price * self.paid.sum() / 3600 / self.answered.sum() * 1e6


def make_arrivals(profile: str, peak: float, seconds: int) -> np.ndarray:
    """Return the requests in each second for a profile: ``steady``, ``burst`` or ``day``."""
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
    """Simulate requests to an endpoint; an instance answers `capacity` requests per second, and `queue` can wait."""
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
            # Only one change of an endpoint can be in progress.
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
    """Return percentiles of the latency of all answers, in seconds, interpolated between outcomes at `loads`."""
    levels = (np.arange(200) + 0.5) / 200
    quantiles = np.array([np.quantile(at_load(load).seconds, levels) for load in loads])  # (loads, 200)
    position = np.interp(timeline.load, loads, np.arange(len(loads)))
    below = np.minimum(position.astype(int), len(loads) - 2)
    share = (position - below)[:, None]
    seconds = (1 - share) * quantiles[below] + share * quantiles[below + 1] + timeline.wait_s[:, None]  # (time, 200)
    order = np.argsort(seconds, axis=None)
    weights = np.cumsum(np.repeat(timeline.answered, len(levels))[order])
    indices = np.searchsorted(weights, np.asarray(percents) / 100 * weights[-1])
    return seconds.ravel()[order][np.minimum(indices, len(order) - 1)].tolist()
