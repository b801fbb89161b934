"""Plan a SageMaker endpoint for a rate of requests: `python -m benchmarks.capacity`.

Instances are simulated at several loads, request by request, and then an hour or a day of an endpoint that scales by
itself. docs/scaling.md says how to read it and what is left out.

`--measure FILE` starts a TorchServe here and writes its service times, which `--times FILE` reads; `--validate` also
puts that server under 30, 60 and 80 % of its full load and prints its latencies next to simulated ones.
"""

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import typer

from benchmarks import MODEL
from benchmarks.capacity.autoscaling import Policy, Timeline, latency_percentiles, make_arrivals, simulate_endpoint
from benchmarks.capacity.queueing import Instance, Outcome, simulate_fleet
from benchmarks.capacity.server import comparison_table, measure_server
from benchmarks.command import ModelOption, run_command
from benchmarks.tables import markdown_table
from spoter.errors import SpoterError
from spoter.files import atomic_write_bytes

LOADS = (0.3, 0.5, 0.6, 0.7, 0.8, 0.9)
_CURVE = (0.1, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)  # loads from which an hour's latencies are interpolated
_ROWS = 12  # of the table of an hour


@dataclass(frozen=True)
class Plan:
    """A rate of requests to instances of one kind, and how the simulation is made."""

    instance: Instance
    rate: float
    requests: int
    routing: str
    seed: int
    price: float | None

    def instances(self, load: float) -> int:
        """Return how many instances are loaded to a share of their capacity."""
        return math.ceil(self.rate / (load * self.instance.capacity))

    def simulate(self, load: float, requests: int) -> Outcome:
        """Simulate a fleet at a load."""
        return simulate_fleet(self.instance, self.instances(load), self.rate, requests, self.routing, self.seed)


def report_fleets(plan: Plan) -> str:
    """Return the Markdown of fleets of a fixed size, one for each of `LOADS`."""
    rows = []
    for load in LOADS:
        count, outcome = plan.instances(load), plan.simulate(load, plan.requests)
        latencies = [f"{1e3 * outcome.percentile(percent):.1f}" for percent in (50, 95, 99)]
        cost = "-"
        if plan.price is not None:
            cost = f"{plan.price * count / 3600 / plan.rate * 1e6 / (1 - outcome.refused_share):.3f}"
        rows.append((f"{100 * load:.0f} %", count, *latencies, f"{100 * outcome.refused_share:.2f}", cost))
    columns = ("load", "instances", "p50 ms", "p95 ms", "p99 ms", "refused %", "cost per million")
    title = f"{plan.rate:.0f} requests/s, {plan.routing} routing"
    return f"{plan.instance.describe()}\n{markdown_table(columns, rows, title, left=0)}"


def report_scaling(plan: Plan, policy: Policy, profile: str, hours: float) -> str:
    """Return the Markdown of an endpoint that scales: a row for each twelfth of the time, and its latencies."""
    arrivals = make_arrivals(profile, plan.rate, round(3600 * hours))
    hour = simulate_endpoint(arrivals, policy, plan.instance.capacity, plan.instance.queue)
    at_load = cache(lambda load: plan.simulate(load, max(plan.requests // 10, 1000)))
    p50, p95, p99 = (1e3 * value for value in latency_percentiles(hour, at_load, _CURVE, (50, 95, 99)))
    cost = "" if plan.price is None else f"; {hour.cost_per_million(plan.price):.3f} for a million answers"
    title = (
        f"Scaling by itself: {profile}, at most {plan.rate:.0f} requests/s, target {policy.target:.0f} invocations a "
        f"minute and instance, {policy.least} to {policy.most} instances"
    )
    columns = ("minute", "requests/s", "instances, serving", "instances, paid", "most wait, ms", "refused %")
    parts = np.array_split(np.arange(len(hour.arrived)), min(_ROWS, len(hour.arrived)))
    return (
        markdown_table(columns, (_row(hour, part) for part in parts), title, left=0)
        + f"\np50 {p50:.0f} ms, p95 {p95:.0f} ms, p99 {p99:.0f} ms; refused {100 * hour.refused_share:.2f} %{cost}.\n"
    )


def _row(hour: Timeline, part: np.ndarray) -> list[str]:
    refused = 100 * hour.refused[part].sum() / hour.arrived[part].sum()
    ranges = [np.unique([values[part].min(), values[part].max()]) for values in (hour.serving, hour.paid)]
    instances = [" - ".join(f"{count:.0f}" for count in each) for each in ranges]
    minutes, rate = f"{part[0] // 60} - {(part[-1] + 1) // 60}", f"{hour.arrived[part].mean():.0f}"
    return [minutes, rate, *instances, f"{1e3 * hour.wait_s[part].max():.0f}", f"{refused:.2f}"]


def main(
    times: Annotated[Path | None, typer.Option(help="What --measure wrote.")] = None,
    service_ms: Annotated[float | None, typer.Option(min=0.001, help="Instead: constant, for each request.")] = None,
    overhead_ms: Annotated[float | None, typer.Option(min=0, help="Of each request, outside of its worker.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Of an instance.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Most requests of a batch.")] = None,
    delay_ms: Annotated[float | None, typer.Option(min=0, help="For which a batch waits to be full.")] = None,
    queue: Annotated[int | None, typer.Option(min=0, help="Requests that may wait at an instance.")] = None,
    rate: Annotated[float, typer.Option(min=0.1, help="Requests a second; of a profile its peak.")] = 10_000.0,
    requests: Annotated[int, typer.Option(min=1000, help="To simulate one by one for each load.")] = 200_000,
    routing: Annotated[str, typer.Option(help="random, or least: to the least outstanding requests.")] = "random",
    profile: Annotated[str, typer.Option(help="steady, burst or day.")] = "burst",
    hours: Annotated[float, typer.Option(min=0.05, max=168, help="Of the endpoint that scales by itself.")] = 1.0,
    target: Annotated[float, typer.Option(min=0.05, max=1, help="Load that the policy aims at.")] = 0.5,
    least: Annotated[int, typer.Option("--min", min=1, help="Instances at least.")] = 2,
    most: Annotated[int, typer.Option("--max", min=1, help="Instances at most.")] = 1000,
    start_minutes: Annotated[float, typer.Option(min=0, help="Until a new instance answers.")] = 5.0,
    price: Annotated[float | None, typer.Option(min=0, help="Of an instance-hour, in any currency.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="One seed, one outcome.")] = 0,
    measure: Annotated[Path | None, typer.Option(help="Measure a TorchServe here, write its times and stop.")] = None,
    validate: Annotated[bool, typer.Option(help="Measure one, load it to several shares, compare and stop.")] = False,
    model: ModelOption = MODEL,
    seconds: Annotated[float, typer.Option(min=1, help="Of each part of measuring.")] = 20.0,
) -> None:
    """Plan for a rate of requests: loads, instances, latencies, refusals and costs."""
    if measure is not None or validate:
        measured, comparisons = measure_server(model, workers or 2, seconds, validate, seed)
        if measure is not None:
            atomic_write_bytes(measure, msgspec.json.format(msgspec.json.encode(measured), indent=1) + b"\n")
        print(comparison_table(measured, comparisons))
        return
    given = {"workers": workers, "batch": batch, "delay_ms": delay_ms, "queue": queue, "overhead_ms": overhead_ms}
    given = {name: value for name, value in given.items() if value is not None}
    instance = msgspec.structs.replace(_read_instance(times, service_ms), **given)
    plan = Plan(instance, rate, requests, routing, seed, price)
    print(report_fleets(plan))
    policy = Policy(60 * target * instance.capacity, least, most, start_s=60 * start_minutes)
    print(report_scaling(plan, policy, profile, hours))


def _read_instance(times: Path | None, service_ms: float | None) -> Instance:
    """Return what `--measure` wrote to `times`, or else an instance with constant service times."""
    if (times is None) == (service_ms is None):
        raise SpoterError("found both or neither of --times and --service-ms, expected one of them")
    if times is None:
        constant = {size: [size * service_ms] for size in (1, 64)}
        return Instance(request=f"assumed: {service_ms:g} ms a request", workers=1, service_ms=constant)
    try:
        return msgspec.json.decode(times.read_bytes(), type=Instance)
    except (OSError, msgspec.MsgspecError) as error:
        how = "expected the file that `python -m benchmarks.capacity --measure FILE` writes"
        raise SpoterError(f"{times}: {error}; {how}") from None


if __name__ == "__main__":
    run_command(main)
