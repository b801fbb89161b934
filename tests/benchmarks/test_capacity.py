"""Simulated queues agree with queueing theory, and simulated scaling follows its policy.

Formulas: L. Kleinrock, "Queueing Systems, Volume 1", 1975: M/M/1 (3.2), M/M/1/K (3.6), M/M/m (3.5), M/G/1 (5.6).
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks.capacity.__main__ import main
from benchmarks.capacity.autoscaling import Policy, latency_percentiles, make_arrivals, simulate_endpoint
from benchmarks.capacity.queueing import Instance, Outcome, simulate_fleet
from benchmarks.capacity.server import fit_instance
from benchmarks.command import application
from spoter.errors import SpoterError

pytestmark = pytest.mark.slow

REQUESTS = 25_000
COUNT = 5_000


def exponential(mean: float, workers: int = 1, queue: int = 10_000) -> Instance:
    """Return an instance whose service times are quantiles of an exponential distribution."""
    times = -1e3 * mean * np.log1p(-(np.arange(COUNT) + 0.5) / COUNT)
    return Instance(workers=workers, queue=queue, service_ms={1: times.tolist()})


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_one_worker_with_exponential_times(load):
    outcome = simulate_fleet(exponential(0.01), 1, 100 * load, REQUESTS, seed=1)
    rate = 100 - 100 * load  # M/M/1: the latency is exponential with this rate
    assert outcome.seconds.mean() == pytest.approx(1 / rate, rel=0.08)
    for percent in (50, 95):
        assert outcome.percentile(percent) == pytest.approx(-math.log(1 - percent / 100) / rate, rel=0.1)
    assert outcome.refused == 0


@pytest.mark.parametrize(("workers", "load"), [(2, 0.7), (4, 0.8)])
def test_several_workers_with_exponential_times(workers, load):
    arrivals, mean = 100 * workers * load, 0.01
    outcome = simulate_fleet(exponential(mean, workers), 1, arrivals, REQUESTS, seed=2)
    offered = arrivals * mean  # M/M/m: Erlang's C formula gives the probability of waiting
    last = offered**workers / math.factorial(workers) / (1 - load)
    wait_probability = last / (sum(offered**k / math.factorial(k) for k in range(workers)) + last)
    assert outcome.seconds.mean() == pytest.approx(mean + wait_probability / (workers / mean - arrivals), rel=0.08)


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_one_worker_with_constant_times(load):
    outcome = simulate_fleet(Instance(workers=1, queue=10_000, service_ms={1: [10]}), 1, 100 * load, REQUESTS, seed=3)
    # M/D/1: the Pollaczek-Khinchine formula
    assert outcome.seconds.mean() == pytest.approx(0.01 * (1 + load / (2 * (1 - load))), rel=0.05)


@pytest.mark.parametrize("load", [0.9, 2.0])
def test_full_queue_refuses_requests(load):
    queue = 4
    outcome = simulate_fleet(exponential(0.01, queue=queue), 1, 100 * load, REQUESTS, seed=4)
    places = queue + 1  # M/M/1/K: waiting requests, and the request at the worker
    expected = (1 - load) * load**places / (1 - load ** (places + 1))
    assert outcome.refused_share == pytest.approx(expected, rel=0.06)
    assert outcome.requests == len(outcome.seconds) + outcome.refused == REQUESTS * 0.9


def test_fleet_with_random_routing_equals_a_single_instance():
    single = simulate_fleet(exponential(0.01), 1, 60, REQUESTS, seed=5)
    fleet = simulate_fleet(exponential(0.01), 500, 500 * 60, REQUESTS, seed=6)
    assert fleet.seconds.mean() == pytest.approx(single.seconds.mean(), rel=0.08)
    least = simulate_fleet(exponential(0.01), 500, 500 * 60, REQUESTS, "least", seed=6)
    assert least.percentile(95) < 0.6 * fleet.percentile(95)  # almost every request finds an idle worker


def test_batches_fill_under_load_and_otherwise_wait_for_the_delay():
    times = {1: [10], 4: [16]}
    instance = Instance(workers=1, batch=4, delay_ms=2, queue=50, overhead_ms=1, service_ms=times)
    single = simulate_fleet(instance, 1, 0.001, 300)
    np.testing.assert_allclose(single.seconds, 0.013)  # delay, service time of one request, overhead
    assert instance.capacity == pytest.approx(250)
    full = simulate_fleet(instance, 1, 1000, 20_000)
    assert 1 - full.refused_share == pytest.approx(250 / 1000, rel=0.02)
    pairs = simulate_fleet(Instance(workers=1, batch=2, queue=50, service_ms=times), 1, 1000, 20_000)
    assert 1 - pairs.refused_share == pytest.approx(2 / 0.012 / 1000, rel=0.02)  # 12 ms: interpolated from 10 and 16


def test_same_seed_gives_the_same_outcome():
    def run(seed: int) -> np.ndarray:
        return simulate_fleet(exponential(0.01, 2, 100), 3, 400, 2000, "least", seed).seconds

    assert np.array_equal(run(7), run(7)) and not np.array_equal(run(7), run(8))


def test_invalid_settings_are_errors():
    with pytest.raises(SpoterError, match=r"service_ms: .*\b2\b"):
        Instance(workers=1, service_ms={2: [100]})
    with pytest.raises(SpoterError, match=r"8.*4"):
        _ = Instance(workers=1, batch=8, service_ms={1: [100], 4: [200]}).capacity
    with pytest.raises(SpoterError, match="'best'"):
        simulate_fleet(exponential(1), 1, 1, 10, "best")


POLICY = Policy(target=600, least=2, most=20, start_s=300)


def test_burst_is_refused_only_until_new_instances_serve():
    hour = simulate_endpoint(make_arrivals("burst", 150, 3600), POLICY, capacity=20, queue=100)
    assert hour.serving[0] == 5  # 50 requests/s at 10 requests/s per instance
    began = 1200
    assert not hour.refused[:began].any()
    # Three minutes above the target, and five minutes until the new instances answer.
    added = int(np.flatnonzero(hour.serving > 5)[0])
    assert began + 3 * 60 + 300 - 1 <= added <= began + 4 * 60 + 300
    assert hour.refused[began + 60 : added].sum() == pytest.approx(50 * (added - began - 60))  # 150 arrive, 100 leave
    assert hour.wait_s[added - 1] == pytest.approx(100 / 20)  # a full queue
    assert hour.serving[added] == 15 and not hour.refused[added + 60 :].any()
    assert hour.paid[added - 1] == 15 and hour.paid[began] == 5
    removed = int(np.flatnonzero(hour.serving[2400:] < 15)[0])
    assert removed == 15 * 60 and hour.serving[-1] == 5
    assert hour.arrived.sum() == pytest.approx(hour.answered.sum() + hour.refused.sum(), abs=1)


def test_scaling_respects_bounds_and_cooldowns():
    hour = simulate_endpoint(make_arrivals("steady", 1000, 1800), POLICY, capacity=20, queue=10, first=2)
    assert set(hour.serving) == {2, 20}
    down = simulate_endpoint(make_arrivals("steady", 0.5, 3600), POLICY, capacity=20, queue=10, first=20)
    assert set(down.serving) == {20, 2} and down.serving[-1] == 2
    slow = Policy(target=600, least=1, most=20, below=2, in_cooldown_s=1200)
    falling = np.repeat([40.0, 20.0, 10.0], 600)
    changes = np.flatnonzero(np.diff(simulate_endpoint(falling, slow, 20, 10, first=10).serving))
    assert len(changes) == 2 and changes[1] - changes[0] >= 1200
    with pytest.raises(SpoterError, match="3 to 2"):
        Policy(target=1, least=3, most=2)


def test_day_profile_has_its_peak_at_noon():
    day = make_arrivals("day", 100, 24 * 3600)
    assert day[0] == pytest.approx(10) and day[12 * 3600] == pytest.approx(100) and day.max() <= 100
    with pytest.raises(SpoterError, match="'week'"):
        make_arrivals("week", 1, 10)


def test_latencies_combine_outcomes_at_the_load_with_waits():
    def at_load(load: float) -> Outcome:
        return Outcome(np.full(100, load), 0, 100)

    calm = simulate_endpoint(
        make_arrivals("steady", 100, 600), Policy(target=600, least=1, most=10), capacity=20, queue=100
    )
    assert latency_percentiles(calm, at_load, (0.1, 0.9), (50, 99)) == pytest.approx([0.5, 0.5])
    full = simulate_endpoint(
        make_arrivals("steady", 100, 600), Policy(target=600, least=1, most=1), capacity=20, queue=100
    )
    assert latency_percentiles(full, at_load, (0.1, 0.9), (99,)) == pytest.approx([0.9 + 100 / 20])
    assert full.refused_share == pytest.approx(0.8, abs=0.01)
    assert full.cost_per_million(2.0) == pytest.approx(2 / 3600 / 20 * 1e6)


def test_cooldowns_equal_those_of_spoter_deploy():
    autoscale = pytest.importorskip("spoter.aws.deploy.autoscale", reason="deploying is not installed")
    assert (POLICY.out_cooldown_s, POLICY.in_cooldown_s) == (autoscale.OUT_COOLDOWN, autoscale.IN_COOLDOWN)


def test_measured_times_are_fitted_to_an_idle_and_a_full_server():
    instance = Instance(workers=2, batch=2, delay_ms=1, service_ms={1: [4, 6], 2: [8]})
    fitted = fit_instance(instance, rate=250, single_ms=14)
    assert fitted.capacity == pytest.approx(250)
    assert fitted.service_ms == {1: [8.0, 12.0], 2: [16.0]}
    single = simulate_fleet(fitted, 1, 0.001, 1000)
    assert single.seconds.mean() == pytest.approx(0.014, rel=0.02)


def test_command_reads_measured_times(tmp_path):
    times = {1: [4], 4: [8]}
    instance = Instance(request="signs, compact requests", workers=2, batch=4, delay_ms=1, service_ms=times)
    fitted = fit_instance(instance, rate=500, single_ms=14)
    path = tmp_path / "times.json"
    path.write_bytes(msgspec.json.encode(fitted))
    small = ["--requests", "1000", "--hours", "0.25", "--price", "0.1", "--rate", "2000"]
    done = CliRunner().invoke(application(main), ["--times", str(path), *small])
    assert done.exit_code == 0, done.output
    assert "500 requests/s (signs, compact requests" in done.output
    rows = [
        [cell.strip() for cell in line.split("|")] for line in done.output.splitlines() if line.startswith("| 50 %")
    ]
    assert rows[0][2] == "8" and rows[0][7] == f"{0.1 * 8 / 3600 / 2000 * 1e6:.3f}"
    assert "target 15000 " in done.output
    assert done.output == CliRunner().invoke(application(main), ["--times", str(path), *small]).output
    path.write_text("{}")
    for arguments in (["--times", str(path)], [], ["--times", str(path), "--service-ms", "3"]):
        failed = CliRunner().invoke(application(main), arguments)
        assert failed.exit_code == 2 and failed.output.startswith("error: ") and failed.output.count("\n") == 1
