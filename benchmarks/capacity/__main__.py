"""What a rate of requests takes on SageMaker: `python -m benchmarks.capacity.__main__`, after `python -m benchmarks.capacity.__main__ --measure FILE`.

Instances are simulated at several loads, request by request, and then an hour or a day of an endpoint that scales by
itself. docs/scaling.md says how to read it and what is left out.

`--measure FILE` starts a TorchServe here and writes its service times; `--validate` also asks it at 30, 60 and 80 % of
what it can do and puts what it did beside what is simulated.
"""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import numpy as np
import typer

from benchmarks import ROOT
from benchmarks.capacity.queueing import Times

if TYPE_CHECKING:
    from benchmarks.capacity.autoscaling import Hour, Policy
    from benchmarks.capacity.queueing import Instance, Outcome, ServiceTimes

LOADS = (0.3, 0.5, 0.6, 0.7, 0.8, 0.9)
_CURVE = (0.1, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)  # loads that an hour's latencies are put together from
_ROWS = 12  # of an hour's table


def read_times(path: Path) -> Times:
    """Read what `--measure` wrote; raises `SpoterError` for what is none."""
    from spoter.errors import SpoterError

    try:
        return msgspec.json.decode(path.read_bytes(), type=Times)
    except (OSError, msgspec.MsgspecError) as error:
        raise SpoterError(
            f"{path}: {error}; expected what `python -m benchmarks.capacity.__main__ --measure FILE` writes"
        ) from None


def steady_table(
    service: ServiceTimes, instance: Instance, rate: float, requests: int, routing: str, seed: int, price: float | None
) -> str:
    """Simulate a fleet that is loaded to several shares of what it can do, and return a Markdown table."""
    from benchmarks.capacity.queueing import simulate

    lines = [
        "| load | instances | p50 ms | p95 ms | p99 ms | refused % | cost per million |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for load in LOADS:
        count = math.ceil(rate / (load * instance.capacity(service)))
        found = simulate(service, instance, count, rate, requests, routing, seed)
        cells = [f"{1e3 * found.percentile(percent):.1f}" for percent in (50, 95, 99)]
        cost = "-" if price is None else f"{price * count / 3600 / rate * 1e6 / (1 - found.refused_share):.3f}"
        lines.append(
            f"| {100 * load:.0f} % | {count} | {' | '.join(cells)} | {100 * found.refused_share:.2f} | {cost} |"
        )
    return "\n".join(lines) + "\n"


def hour_table(hour: Hour) -> str:
    """Return a Markdown table of what happened, a row a twelfth of the time."""
    lines = [
        "| minute | requests/s | instances, serving | instances, paid | most wait, ms | refused % |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    for part in np.array_split(np.arange(len(hour.arrived)), min(_ROWS, len(hour.arrived))):
        refused = 100 * hour.refused[part].sum() / hour.arrived[part].sum()
        lines.append(
            f"| {part[0] // 60} - {(part[-1] + 1) // 60} | {hour.arrived[part].mean():.0f} "
            f"| {_span(hour.serving[part])} | {_span(hour.paid[part])} | {1e3 * hour.wait_s[part].max():.0f} "
            f"| {refused:.2f} |"
        )
    return "\n".join(lines) + "\n"


def main(
    times: Annotated[Path | None, typer.Option(help="What --measure wrote.")] = None,
    service_ms: Annotated[float | None, typer.Option(min=0.001, help="Instead: constant, for each request.")] = None,
    overhead_ms: Annotated[float | None, typer.Option(min=0, help="Of each request, beside its worker.")] = None,
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
    validate: Annotated[bool, typer.Option(help="Measure one, ask it at several loads, compare and stop.")] = False,
    model: Annotated[Path, typer.Option(help="Model folder, to measure.")] = ROOT / "models" / "dgs11",
    seconds: Annotated[float, typer.Option(min=1, help="Of each part of measuring.")] = 20.0,
) -> None:
    """Plan for a rate of requests: loads, instances, latencies, refusals and costs."""
    from spoter.errors import SpoterError
    from spoter.files import atomic_write_bytes

    try:
        if measure is not None or validate:
            from benchmarks.capacity import measure as scale_server

            found, compared = scale_server.measure(model, workers or 2, seconds, validate, seed)
            if measure is not None:
                atomic_write_bytes(measure, msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
            print(scale_server.table(found, compared))
            return
        told = _times(times, service_ms)
        given = {"workers": workers, "batch": batch, "delay_ms": delay_ms, "queue": queue, "overhead_ms": overhead_ms}
        told = msgspec.structs.replace(told, **{name: value for name, value in given.items() if value is not None})
        print(plan(told, rate, requests, routing, seed, price))
        policy = _policy(told, target, least, most, start_minutes)
        print(scaling(told, policy, rate, profile, hours, requests, routing, seed, price))
    except SpoterError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None


def plan(told: Times, rate: float, requests: int, routing: str, seed: int, price: float | None) -> str:
    """Return the Markdown of fleets that do not scale."""
    service, instance = told.service(), told.instance()
    return (
        f"An instance of {instance.workers} workers, batches of {instance.batch}, a delay of {told.delay_ms:g} ms and "
        f"a queue of {instance.queue}\nanswers at most {instance.capacity(service):.0f} requests/s ({told.request}; "
        f"{told.machine}, {told.date}).\n\n### {rate:.0f} requests/s, {routing} routing\n\n"
        + steady_table(service, instance, rate, requests, routing, seed, price)
    )


def scaling(
    told: Times,
    policy: Policy,
    rate: float,
    profile: str,
    hours: float,
    requests: int,
    routing: str,
    seed: int,
    price: float | None,
) -> str:
    """Return the Markdown of an endpoint that scales."""
    from benchmarks.capacity.autoscaling import arrivals, percentiles, run
    from benchmarks.capacity.queueing import simulate

    service, instance = told.service(), told.instance()
    hour = run(arrivals(profile, rate, round(3600 * hours)), policy, instance.capacity(service), instance.queue)

    @cache
    def at_load(load: float) -> Outcome:
        count = math.ceil(rate / (load * instance.capacity(service)))
        return simulate(service, instance, count, rate, max(requests // 10, 1000), routing, seed)

    p50, p95, p99 = (1e3 * value for value in percentiles(hour, at_load, _CURVE, (50, 95, 99)))
    cost = "" if price is None else f"; {hour.cost_per_million(price):.3f} for a million answers"
    return (
        f"### Scaling by itself: {profile}, at most {rate:.0f} requests/s, target {policy.target:.0f} invocations a "
        f"minute and instance, {policy.least} to {policy.most} instances\n\n"
        + hour_table(hour)
        + f"\np50 {p50:.0f} ms, p95 {p95:.0f} ms, p99 {p99:.0f} ms; refused {100 * hour.refused_share:.2f} %{cost}.\n"
    )


def _times(times: Path | None, service_ms: float | None) -> Times:
    from spoter.errors import SpoterError

    if (times is None) == (service_ms is None):
        raise SpoterError("found both or neither of --times and --service-ms, expected one of them")
    if times is not None:
        return read_times(times)
    return Times(
        machine="no machine",
        date="not measured",
        request=f"assumed: {service_ms:g} ms a request",
        workers=1,
        batch=1,
        queue=100,
        delay_ms=0.0,
        overhead_ms=0.0,
        service_ms={size: [size * service_ms] for size in (1, 64)},
    )


def _policy(told: Times, target: float, least: int, most: int, start_minutes: float) -> Policy:
    from benchmarks.capacity.autoscaling import Policy

    each_minute = 60 * target * told.instance().capacity(told.service())
    return Policy(each_minute, least, most, start_s=60 * start_minutes)


def _span(values: np.ndarray) -> str:
    low, high = int(values.min()), int(values.max())
    return f"{low}" if low == high else f"{low} - {high}"


if __name__ == "__main__":
    from benchmarks.load.processes import end_on_signals

    end_on_signals()
    typer.run(main)
