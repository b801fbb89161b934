"""Plan a SageMaker endpoint for a rate of requests: `python -m benchmarks.capacity`.

The command simulates instances at several loads, request by request, and then an hour or a day of an endpoint that
scales automatically. docs/scaling.md explains the tables and what the simulation omits.

`--measure FILE` starts a TorchServe on this machine and writes its service times, which `--times FILE` reads.
`--validate` also puts that server under 30, 60 and 80 % of its full load, and compares real and simulated latencies.
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
_CURVE = (0.1, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)  # loads for interpolating the latencies of a scaling endpoint
_ROWS = 12  # rows in the table of a scaling endpoint


@dataclass(frozen=True)
class Plan:
    """A rate of requests per second to instances of one kind, and settings of the simulation."""

    instance: Instance
    rate: float
    requests: int
    routing: str
    seed: int
    price: float | None

    def instances(self, load: float) -> int:
        """Return the number of instances for a load, a share of their capacity."""
        return math.ceil(self.rate / (load * self.instance.capacity))

    def simulate(self, load: float, requests: int) -> Outcome:
        """Simulate a fleet at a load."""
        return simulate_fleet(self.instance, self.instances(load), self.rate, requests, self.routing, self.seed)


def report_fleets(plan: Plan) -> str:
    """Return a Markdown table of fleets of a fixed size, one row for each of `LOADS`."""
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
    """Return a Markdown table of a scaling endpoint, one row for each twelfth of the time, and its latencies."""
    arrivals = make_arrivals(profile, plan.rate, round(3600 * hours))
    timeline = simulate_endpoint(arrivals, policy, plan.instance.capacity, plan.instance.queue)
    at_load = cache(lambda load: plan.simulate(load, max(plan.requests // 10, 1000)))
    p50, p95, p99 = (1e3 * value for value in latency_percentiles(timeline, at_load, _CURVE, (50, 95, 99)))
    cost = "" if plan.price is None else f"; cost per million answers {timeline.cost_per_million(plan.price):.3f}"
    title = (
        f"Automatic scaling: profile {profile}, at most {plan.rate:.0f} requests/s, target {policy.target:.0f} "
        f"invocations per minute and instance, {policy.least} to {policy.most} instances"
    )
    columns = ("minutes", "requests/s", "serving instances", "paid instances", "longest wait, ms", "refused %")
    parts = np.array_split(np.arange(len(timeline.arrived)), min(_ROWS, len(timeline.arrived)))
    table = markdown_table(columns, (_row(timeline, part) for part in parts), title, left=0)
    refused = 100 * timeline.refused_share
    return f"{table}\np50 {p50:.0f} ms, p95 {p95:.0f} ms, p99 {p99:.0f} ms; refused {refused:.2f} %{cost}.\n"


def _row(timeline: Timeline, part: np.ndarray) -> list[str]:
    refused = 100 * timeline.refused[part].sum() / timeline.arrived[part].sum()
    ranges = [np.unique([values[part].min(), values[part].max()]) for values in (timeline.serving, timeline.paid)]
    instances = [" - ".join(f"{count:.0f}" for count in each) for each in ranges]
    minutes, rate = f"{part[0] // 60} - {(part[-1] + 1) // 60}", f"{timeline.arrived[part].mean():.0f}"
    return [minutes, rate, *instances, f"{1e3 * timeline.wait_s[part].max():.0f}", f"{refused:.2f}"]


def main(
    times: Annotated[Path | None, typer.Option(help="Service times, a file of --measure.")] = None,
    service_ms: Annotated[float | None, typer.Option(min=0.001, help="Constant service time, without --times.")] = None,
    overhead_ms: Annotated[float | None, typer.Option(min=0, help="Time of a request outside of its worker.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Workers per instance.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Maximum number of requests in a batch.")] = None,
    delay_ms: Annotated[float | None, typer.Option(min=0, help="How long a batch waits to fill.")] = None,
    queue: Annotated[int | None, typer.Option(min=0, help="Requests that can wait at an instance.")] = None,
    rate: Annotated[float, typer.Option(min=0.1, help="Requests per second; the peak of a profile.")] = 10_000.0,
    requests: Annotated[int, typer.Option(min=1000, help="Simulated requests per load.")] = 200_000,
    routing: Annotated[str, typer.Option(help="random, or least (least outstanding requests).")] = "random",
    profile: Annotated[str, typer.Option(help="steady, burst or day.")] = "burst",
    hours: Annotated[float, typer.Option(min=0.05, max=168, help="Simulated hours of automatic scaling.")] = 1.0,
    target: Annotated[float, typer.Option(min=0.05, max=1, help="Target load of the scaling policy.")] = 0.5,
    least: Annotated[int, typer.Option("--min", min=1, help="Minimum number of instances.")] = 2,
    most: Annotated[int, typer.Option("--max", min=1, help="Maximum number of instances.")] = 1000,
    start_minutes: Annotated[float, typer.Option(min=0, help="Minutes until a new instance answers.")] = 5.0,
    price: Annotated[float | None, typer.Option(min=0, help="Price of an instance-hour, in any currency.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed; the same seed gives the same results.")] = 0,
    measure: Annotated[Path | None, typer.Option(help="Measure a TorchServe, write its times and exit.")] = None,
    validate: Annotated[bool, typer.Option(help="Compare a TorchServe with the simulation and exit.")] = False,
    model: ModelOption = MODEL,
    seconds: Annotated[float, typer.Option(min=1, help="Duration of each measurement.")] = 20.0,
) -> None:
    """Plan for a rate of requests: loads, instances, latencies, refused requests and cost."""
    if measure is not None or validate:
        measured, comparisons = measure_server(model, workers or 2, seconds, validate, seed)
        if measure is not None:
            atomic_write_bytes(measure, msgspec.json.format(msgspec.json.encode(measured), indent=1) + b"\n")
        print(comparison_table(measured, comparisons))
        return
    options = {"workers": workers, "batch": batch, "delay_ms": delay_ms, "queue": queue, "overhead_ms": overhead_ms}
    changes = {name: value for name, value in options.items() if value is not None}
    instance = msgspec.structs.replace(_read_instance(times, service_ms), **changes)
    plan = Plan(instance, rate, requests, routing, seed, price)
    print(report_fleets(plan))
    policy = Policy(60 * target * instance.capacity, least, most, start_s=60 * start_minutes)
    print(report_scaling(plan, policy, profile, hours))


def _read_instance(times: Path | None, service_ms: float | None) -> Instance:
    """Return the instance in the file `times`, or an instance with constant service times."""
    if (times is None) == (service_ms is None):
        raise SpoterError("found both or neither of --times and --service-ms, expected one of them")
    if times is None:
        constant = {size: [size * service_ms] for size in (1, 64)}
        return Instance(request=f"assumed: {service_ms:g} ms per request", workers=1, service_ms=constant)
    try:
        return msgspec.json.decode(times.read_bytes(), type=Instance)
    except (OSError, msgspec.MsgspecError) as error:
        expected = "expected a file written by `python -m benchmarks.capacity --measure FILE`"
        raise SpoterError(f"{times}: {error}; {expected}") from None


if __name__ == "__main__":
    run_command(main)
