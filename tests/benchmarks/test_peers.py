"""benchmarks.peers: its figures and targets, the end of its servers, and that peers answer as the service does."""

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
# In sessions of their own, as BentoML starts its workers: a parent whose child is in neither its session nor its group.
PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
print(child.pid, flush=True)
child.wait()
"""


def becomes(true: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not true() and time.monotonic() < deadline:
        time.sleep(0.01)
    return true()


def load(*statuses: int | None) -> Load:
    answers = [
        Answer(0.0, (1 + index) / 1000, status, None if status else "ClientOSError: reset by 127.0.0.1:4711")
        for index, status in enumerate(statuses)
    ]
    return Load(answers, seconds=2.0, cpu_s=0.01)


def test_the_figures_of_a_load_count_good_answers_and_tell_the_others_apart():
    figures = load(200, 200, 200, 503, 503, None).summarize(cpu_s=0.6)
    assert figures.rate == 1.5 and figures.p50 == pytest.approx(2) and figures.requests == 6
    assert figures.failures == {"503": 2, "ClientOSError": 1}
    assert figures.cpu_ms == pytest.approx(100) and figures.client_cpu_ms == pytest.approx(10 / 6)


def test_the_figures_of_the_recognizer_alone_add_up_its_processes():
    figures = matrix.summarize_processes([([0.01] * 100, 0.9), ([0.02] * 50, 0.6)])
    assert figures.rate == pytest.approx(150) and figures.requests == 150
    assert figures.cpu_ms == pytest.approx(10)
    assert figures.p50 == pytest.approx(10) and figures.p99 == pytest.approx(20)
    assert matrix.summarize_processes([([0.25], 0.25)]).p95 == pytest.approx(250)


def test_rounds_become_one_by_their_medians_and_their_failures_are_added():
    rounds = [Figures(rate, 1, 2, 3, cpu_ms=rate, requests=10, failures={"503": 1}) for rate in (10.0, 90.0, 20.0)]
    together = combine_rounds(rounds)
    assert (together.rate, together.cpu_ms, together.client_cpu_ms) == (20, 20, None)
    assert together.requests == 30 and together.failures == {"503": 3}


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
def test_what_was_to_be_reached_is_judged_by_the_figures(ours, added_ms, reached):
    assert [target.reached for target in report.judge_targets(rows(ours, added_ms), [1, 32])] == reached


def test_tables_show_every_failure_and_how_many_processes_stood_alone():
    table = report.loads_table("full", rows(450, 1), workers=2)
    assert "| 32 | FastAPI, thread pool | 440.0 | 40.0 | 50.0 | 60.0 | 4.00 | 0.50 | 0 | 2 x 503 |" in table
    assert "in process, 1 process |" in table and "in process, 2 processes |" in table


def test_a_server_is_paused_resumed_and_ended_with_processes_of_other_sessions():
    leader = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        child = psutil.Process(int(leader.stdout.readline()))
        running = PeerServer("fastapi", "", leader)
        running.pause()
        assert becomes(lambda: child.status() == psutil.STATUS_STOPPED)
        running.resume()
        assert becomes(lambda: child.status() != psutil.STATUS_STOPPED)
    finally:
        end_process_tree(leader)
        leader.stdout.close()
    # Whoever has taken the child over from its dead parent may not have taken its exit status yet.
    assert leader.poll() is not None and (not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


def test_an_environment_that_was_not_finished_is_none(tmp_path):
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
def test_options_that_are_none_are_refused_in_one_line(arguments):
    done = CliRunner().invoke(application(main), arguments)
    assert done.exit_code == 2 and done.stderr.count("\n") == 1 and "expected" in done.stderr and done.stdout == ""


@pytest.mark.skipif(
    importlib.util.find_spec("fastapi") is None, reason="no fastapi here: it comes with make bench-peers"
)
@pytest.mark.parametrize("factory", ["create", "create_on_loop"])
def test_the_fastapi_peer_answers_as_the_service_does(factory, tmp_path, monkeypatch):
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
        got = client.post(PATH, content=body, headers={"Content-Type": kind})
        assert (got.status_code, got.content) == (expected.status, expected.body)
        assert got.headers["content-type"].startswith(expected.content_type)
    assert len(list(tmp_path.iterdir())) == 1  # this process has said that it holds the model


def test_peers_that_batch_answer_each_request_as_the_service_does_alone():
    recognizer = Recognizer.load(DGS11)
    asked = [
        make_request((SAMPLES / name).read_bytes(), {"content-type": "application/json"})
        for name in ("hallo.json",) * 2
    ]
    asked.insert(1, make_request(b"{", {"content-type": "application/json", "accept": "application/json"}))
    together, _ = respond(recognizer, asked)
    assert [response.status for response in together] == [200, 400, 200]
    assert [response.body for response in together] == [respond(recognizer, [one])[0][0].body for one in asked]


def test_the_recognizer_alone_works_in_processes_that_end_with_it():
    with in_process.running_processes(DGS11, "torch", 2) as measure:
        taken = measure("compact", 2, 0.05)
        children = multiprocessing.active_children()
    assert len(taken) == 2 and all(seconds > 0 for process, _ in taken for seconds in process)
    assert all(cpu_s > 0 for _, cpu_s in taken)
    assert len(children) == 2 and not any(child.is_alive() for child in children)


def test_each_round_begins_with_another_server():
    assert [matrix.rotate(["a", "b", "c"], turn) for turn in range(4)] == [
        ["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"], ["a", "b", "c"],
    ]  # fmt: skip
    assert matrix.rotate([], 1) == []


def test_peers_batch_as_our_server_does():
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


def test_peers_and_the_recognizer_alone_compute_with_one_thread_like_our_workers():
    environ = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    command = [sys.executable, "-c", THREADS, DGS11]
    pools, threads, frozen = subprocess.check_output(command, env=environ, cwd=ROOT, text=True).rsplit(maxsplit=2)
    assert set(json.loads(pools)) == {1} and (threads, frozen) == ("1", "True")


def test_figures_can_be_written_as_json():
    assert json.loads(json.dumps([row.__dict__ | {"figures": row.figures.__dict__} for row in rows(450, 1)]))
