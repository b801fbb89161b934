"""Every command of README.md is run, in a copy of the checkout, and answers what README.md says it does."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from spoter.ops.ports import free_port
from tests import ROOT, videos
from tests.e2e.live import send, server_environment, wait_ready
from tests.training.datasets import generated_clips, write_hdf5

pytestmark = pytest.mark.server

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```bash\n(.*?)^```\n(?:\n```json\n(.*?)^```\n)?", README, re.DOTALL | re.MULTILINE)
INLINE = re.findall(r"(?<!`)`((?:make|curl|\.venv/bin/\w+) [^`]+)`", README)
COMMANDS = [line for block, _ in BLOCKS for line in block.splitlines()]
NAMES = ("SPOTER_PORT", "SPOTER_MANAGEMENT_PORT", "SPOTER_METRICS_PORT")


@pytest.fixture(scope="module")
def checkout(scratch: Path) -> Path:
    """A copy of the files that git knows, or would, with the tests' own environment as its .venv."""
    # An environment that is not up to date would be installed anew from the copy, and point to it ever after.
    stale = subprocess.run(["make", "--question", ".venv/dev.stamp"], cwd=ROOT, capture_output=True).returncode
    if stale or Path(sys.prefix).resolve() != (ROOT / ".venv").resolve():
        pytest.skip("README's commands need the .venv that make makes, up to date: run make test")
    folder = scratch / "checkout"
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / ".venv").symlink_to(sys.prefix)
    # One clip of each gloss by each signer: README's recipe is for a real model, and takes its time.
    write_hdf5(folder / "my-signs.hdf5", generated_clips(per_gloss=1))
    return folder


class Served:
    """A `make serve …` of README.md, on free ports."""

    def __init__(self, command: str, checkout: Path):
        self.ports = [free_port() for _ in NAMES]
        ports = dict(zip(NAMES, map(str, self.ports), strict=True))
        command = re.sub(r"SPOTER_\w*PORT=\d+", "", command)
        self.process = subprocess.Popen(
            [*command.split(), *(f"{name}={port}" for name, port in ports.items())],
            cwd=checkout, stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        self.greeting = ""
        for line in self.process.stdout:
            self.greeting += line
            if line.startswith("Ctrl-C"):
                return
        raise AssertionError(f"{command} ended with {self.process.wait()}: {self.greeting}")

    def end(self) -> int:
        os.killpg(self.process.pid, signal.SIGINT)  # as a terminal does
        self.process.communicate(timeout=60)
        return self.process.returncode


@pytest.fixture(scope="module")
def served(checkout: Path) -> Iterator[Served]:
    served = Served("make serve", checkout)
    yield served
    served.end()


def run(command: str, checkout: Path, environ: dict | None = None) -> str:
    done = subprocess.run(
        ["bash", "-ec", command], cwd=checkout, env=environ, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def find(commands: list[str], start: str) -> list[str]:
    found = [command for command in commands if command.startswith(start)]
    assert found, f"README.md has no command {start!r}: adapt this test"
    return found


def test_every_command_is_of_a_kind_that_is_tested_here():
    kinds = (
        "make serve",
        "make demo",  # tests/web
        "make test",
        "make bench",  # that and make bench-peers: tests/benchmarks/test_peers.py
        "make fuzz",  # tests/attacks and test_fuzz.py, which also are for the next
        "make attack",
        "make sbom",  # tests/scripts/test_sbom.py
        "make audit",  # asks the internet
        "make training",
        "make video",
        "make deploying",
        "make lambda",  # tests/aws/functions
        "make image",  # make image-test
        "curl ",
        ".venv/bin/",
        "python build_mar.py",
        "torchserve ",
        "PYTHONPATH=$PWD/handler/worker_path torchserve ",
        ". .venv/",
    )
    assert [command for command in COMMANDS + INLINE if not command.startswith(kinds)] == []
    assert re.findall(r"^```(?!bash|json|python|js|\n)(.*)$", README, re.MULTILINE) == []


def test_make_serve_shows_what_readme_shows(served):
    (hallo,) = [answer for block, answer in BLOCKS if "samples/hallo.json" in block and block.startswith("curl")]
    assert json.loads(next(line for line in served.greeting.splitlines() if line.startswith("{"))) == json.loads(hallo)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed here")
@pytest.mark.parametrize("command", find(COMMANDS + INLINE, "curl "))
def test_curl_answers_what_readme_shows(served, checkout, command):
    shown = next((answer for block, answer in BLOCKS if block == f"{command}\n" and answer), None)
    for usual, port in zip((8080, 8081, 8082), served.ports, strict=True):
        command = command.replace(f":{usual}/", f":{port}/")
    answer = run(command, checkout)
    if shown is not None:
        assert json.loads(answer) == json.loads(shown)
    elif "/metrics" in command:
        assert "DecodeTime" in answer
    else:
        assert "HALLO" in json.loads(answer)[0]["customizedMetadata"]["glosses"]


def test_the_commands_of_spoter(checkout, served):
    run(*find(COMMANDS, "make training"), checkout)  # installs nothing where all is there
    run(*find(COMMANDS, "make deploying"), checkout)
    videos.sign(checkout / "my-video.mp4")
    run(*find(COMMANDS, "make video"), checkout)
    for command in find(COMMANDS + INLINE, ".venv/bin/"):
        if "python deploy.py" in command:  # tests/aws/deploy/test_documented.py
            continue
        command = command.replace(":8080", f":{served.ports[0]}")
        # whatever else listens on this machine's 8080
        said = run(f"{command} --port {free_port()}" if command.endswith(" doctor") else command, checkout)
        if command.endswith("--json"):
            assert set(json.loads(said.splitlines()[-1])) == {"top1", "top5", "ece", "clips"}


@pytest.mark.parametrize("command", [c for c in find(COMMANDS + INLINE, "make serve ") if "PIP_ARGS" not in c])
def test_make_serve_with_variables(checkout, command):
    if "my-model" in command:  # made by `spoter convert`, above it
        run(find(COMMANDS, ".venv/bin/spoter convert")[0], checkout)
        if "SPOTER_RUNTIME" in command:
            run(find(COMMANDS, ".venv/bin/spoter export")[0], checkout)
    served = Served(command, checkout)
    try:
        headers = {"Content-Type": "application/json"}
        reply = send(
            served.ports[0], "POST", "/predictions/spoter", (ROOT / "samples/hallo.json").read_bytes(), headers
        )
        guarded = "0.0.0.0" in command
        assert reply.status == (400 if guarded else 200)
        assert ("TOKEN=" in served.greeting) == guarded
    finally:
        assert served.end() in (0, -signal.SIGINT)  # by make's version


def test_by_hand(checkout, scratch):
    (block,) = [block for block, _ in BLOCKS if "torchserve --start" in block]
    lines = block.splitlines()
    folder = scratch / "readme-by-hand"
    folder.mkdir()
    ports = (free_port(), free_port(), free_port())
    environ = server_environment(folder, ports)
    del environ["TS_METRICS_CONFIG"]
    activate, build, start, stop = lines
    run(f"{activate}\n{build}", checkout, environ)
    try:
        run(f"{activate}\n{start} > {folder}/out 2>&1", checkout, environ)
        assert wait_ready(ports[1])
    finally:
        run(f"{activate}\n{stop}", checkout, environ)


def test_make_bench(checkout):
    assert "make bench" in INLINE
    said = run("make bench BENCH_ARGS='--seconds 0'", checkout)
    assert "whole request, full" in said and "through the server, compact" in said


def test_make_test_is_what_ci_runs():
    assert find(COMMANDS, "make test") == ["make test"]
    assert (ROOT / ".ci" / "run").read_text().rstrip().endswith('exec make test PYTHON="$python"')
