"""benchmarks.peers: figures, targets, termination of servers; peers give the same answers as the service."""

from __future__ import annotations

import importlib.util
import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable

import psutil
import pytest
import yaml
from typer.testing import CliRunner

from benchmarks.command import application
from benchmarks.load.client import Answer, Figures, Load, combine_rounds
from benchmarks.peers import __main__ as report
from benchmarks.peers import environment, in_process, matrix
from benchmarks.peers.__main__ import main
from benchmarks.peers.matrix import IN_PROCESS, Row
from benchmarks.peers.servers import ORIGINAL, OURS, PeerServer
from benchmarks.peers.shared import BATCH, DELAY, LOADED, MODEL, PATH, RUNTIME, make_request
from spoter.errors import SpoterError
from spoter.messages import RawRequest
from spoter.processes import end_process_tree
from spoter.serving.recognizer import Recognizer
from spoter.serving.service import respond
from tests import ROOT

pytestmark = pytest.mark.slow

DGS11 = ROOT / "models" / "dgs11"
SAMPLES = ROOT / "samples"
# A parent and a child in separate sessions and process groups, as BentoML starts its workers.
PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
print(child.pid, flush=True)
child.wait()
"""


def wait_until(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def load(*statuses: int | None) -> Load:
    answers = [
        Answer(0.0, (1 + index) / 1000, status, None if status else "ClientOSError: reset by 127.0.0.1:4711")
        for index, status in enumerate(statuses)
    ]
    return Load(answers, seconds=2.0, cpu_s=0.01)


def test_figures_of_a_load_separate_good_answers_from_failures():
    figures = load(200, 200, 200, 503, 503, None).summarize(cpu_s=0.6)
    assert figures.rate == 1.5 and figures.p50 == pytest.approx(2) and figures.requests == 6
    assert figures.failures == {"503": 2, "ClientOSError": 1}
    assert figures.cpu_ms == pytest.approx(100) and figures.client_cpu_ms == pytest.approx(10 / 6)


def test_rates_of_processes_are_added():
    figures = matrix.summarize_processes([([0.01] * 100, 0.9), ([0.02] * 50, 0.6)])
    assert figures.rate == pytest.approx(150) and figures.requests == 150
    assert figures.cpu_ms == pytest.approx(10)
    assert figures.p50 == pytest.approx(10) and figures.p99 == pytest.approx(20)
    assert matrix.summarize_processes([([0.25], 0.25)]).p95 == pytest.approx(250)


def test_rounds_combine_to_medians_and_sums_of_failures():
    rounds = [Figures(rate, 1, 2, 3, cpu_ms=rate, requests=10, failures={"503": 1}) for rate in (10.0, 90.0, 20.0)]
    combined = combine_rounds(rounds)
    assert (combined.rate, combined.cpu_ms, combined.client_cpu_ms) == (20, 20, None)
    assert combined.requests == 30 and combined.failures == {"503": 3}


def rows(ours: float, added_ms: float) -> list[Row]:
    figures = {
        (IN_PROCESS, 1): Figures(250, 4, 4, 4, 4.0),
        (OURS, 1): Figures(100, 4 + added_ms, 9, 9, 5.0, 0.5),
        (IN_PROCESS, 32): Figures(500, 4, 4, 4, 4.0),
        (OURS, 32): Figures(ours, 40, 50, 60, 5.0, 0.5),
        ("fastapi", 32): Figures(440, 40, 50, 60, 4.0, 0.5, failures={"503": 2}),
        (ORIGINAL, 32): Figures(8, 4000, 5000, 6000, 250.0, 0.5),
    }
    return [Row(server, "full", clients, one) for (server, clients), one in figures.items()]


@pytest.mark.parametrize(
    ("ours", "added_ms", "reached"),
    [
        (450, 3.9, [True, True, True, True]),
        (430, 3.9, [True, True, False, True]),
        (400, 4.1, [False, False, False, True]),
    ],
)
def test_targets_are_judged_by_the_figures(ours, added_ms, reached):
    assert [target.reached for target in report.judge_targets(rows(ours, added_ms), [1, 32])] == reached


def test_table_shows_failures_and_the_number_of_processes():
    table = report.loads_table("full", rows(450, 1), workers=2)
    assert "| 32 | FastAPI, thread pool | 440.0 | 40.0 | 50.0 | 60.0 | 4.00 | 0.50 | 0 | 2 x 503 |" in table
    assert "in process, 1 process |" in table and "in process, 2 processes |" in table


def test_pause_resume_and_end_include_processes_in_other_sessions():
    leader = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        child = psutil.Process(int(leader.stdout.readline()))
        running = PeerServer("fastapi", "", leader)
        running.pause()
        assert wait_until(lambda: child.status() == psutil.STATUS_STOPPED)
        running.resume()
        assert wait_until(lambda: child.status() != psutil.STATUS_STOPPED)
    finally:
        end_process_tree(leader)
        leader.stdout.close()
    # The child's new parent may not have read its exit status yet.
    assert leader.poll() is not None and (not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


def test_incomplete_environment_is_an_error(tmp_path):
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.symlink_to(sys.executable)
    with pytest.raises(SpoterError, match="make bench-peers"):
        environment.find_environment(tmp_path)
    (tmp_path / "whole").write_bytes(environment.describe_requirements())
    assert environment.find_environment(tmp_path) == python


@pytest.mark.parametrize(
    "arguments",
    [
        ["--servers", "fastapi,apache"],
        ["--requests", "huge"],
        ["--clients", "1,many"],
        ["--clients", "0"],
        ["--runtime", "jax"],
    ],
)
def test_invalid_options_are_errors_of_one_line(arguments):
    done = CliRunner().invoke(application(main), arguments)
    assert done.exit_code == 2 and done.stderr.count("\n") == 1 and done.stdout == ""
    assert arguments[0] in done.stderr


@pytest.mark.skipif(
    importlib.util.find_spec("fastapi") is None, reason="fastapi is not installed; `make bench-peers` installs it"
)
@pytest.mark.parametrize("factory", ["create", "create_on_loop"])
def test_fastapi_peer_gives_the_same_answers_as_the_service(factory, tmp_path, monkeypatch):
    from fastapi.testclient import TestClient

    from benchmarks.peers import fastapi_app

    monkeypatch.setenv(MODEL, str(DGS11))
    monkeypatch.setenv(RUNTIME, "torch")
    monkeypatch.setenv(LOADED, str(tmp_path))
    recognizer, client = Recognizer.load(DGS11), TestClient(getattr(fastapi_app, factory)())
    for body, kind in (
        ((SAMPLES / "hallo.json").read_bytes(), "application/json"),
        ((SAMPLES / "deutschland.csv").read_bytes(), "text/csv"),
        (b'{"points": "none"}', "application/json"),
    ):
        [expected] = respond(recognizer, [RawRequest(body, kind)])[0]
        response = client.post(PATH, content=body, headers={"Content-Type": kind})
        assert (response.status_code, response.content) == (expected.status, expected.body)
        assert response.headers["content-type"].startswith(expected.content_type)
    assert len(list(tmp_path.iterdir())) == 1  # this process has reported that it loaded the model


def test_batched_requests_get_the_same_answers_as_single_requests():
    recognizer = Recognizer.load(DGS11)
    hallo = make_request((SAMPLES / "hallo.json").read_bytes(), {"content-type": "application/json"})
    invalid = make_request(b"{", {"content-type": "application/json", "accept": "application/json"})
    requests = [hallo, invalid, hallo]
    responses, _ = respond(recognizer, requests)
    assert [response.status for response in responses] == [200, 400, 200]
    assert [response.body for response in responses] == [respond(recognizer, [one])[0][0].body for one in requests]


def test_in_process_measurement_ends_its_processes():
    with in_process.running_processes(DGS11, "torch", 2) as measure:
        measurements = measure("compact", 2, 0.05)
        children = multiprocessing.active_children()
    assert len(measurements) == 2 and all(seconds > 0 for process, _ in measurements for seconds in process)
    assert all(cpu_s > 0 for _, cpu_s in measurements)
    assert len(children) == 2 and not any(child.is_alive() for child in children)


def test_each_round_starts_with_another_server():
    assert [matrix.rotate(["a", "b", "c"], turn) for turn in range(4)] == [
        ["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"], ["a", "b", "c"],
    ]  # fmt: skip
    assert matrix.rotate([], 1) == []


def test_peers_have_our_batch_settings():
    ours = yaml.safe_load((ROOT / "handler" / "model-config.yaml").read_bytes())
    assert (ours["batchSize"], ours["maxBatchDelay"] / 1000) == (BATCH, DELAY)
    assert ours["handler"]["threads"] == 1


THREADS = """
import gc, sys
from pathlib import Path
from threadpoolctl import threadpool_info
from benchmarks.peers.shared import load_with_one_thread
load_with_one_thread(Path(sys.argv[1]), "torch")
import torch
print([pool["num_threads"] for pool in threadpool_info()], torch.get_num_threads(), gc.get_freeze_count() > 0)
"""


def test_peers_compute_with_one_thread_like_our_workers():
    environ = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    command = [sys.executable, "-c", THREADS, DGS11]
    pools, threads, frozen = subprocess.check_output(command, env=environ, cwd=ROOT, text=True).rsplit(maxsplit=2)
    assert set(json.loads(pools)) == {1} and (threads, frozen) == ("1", "True")


def test_figures_convert_to_json():
    assert json.loads(json.dumps([row.__dict__ | {"figures": row.figures.__dict__} for row in rows(450, 1)]))
