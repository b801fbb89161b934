"""The wheel: built, checked, installed without torch, and used from an empty folder."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from spoter.ops.doctor import requirements
from spoter.ops.ports import free_port
from spoter.webpage.npm import installed
from tests import ROOT
from tests.environments import linked_environment

pytestmark = [pytest.mark.server, pytest.mark.slow]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Return the wheel, built from the source distribution, which must therefore be complete."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT]
    subprocess.run(command, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def program(wheel: Path, scratch: Path) -> Path:
    """Return the program `spoter` in an environment with the extras serve, demo and deploy."""
    python = linked_environment(scratch / "wheel", requirements({"serve", "demo", "deploy"}))
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel]
    subprocess.run(install, check=True)
    return python.with_name("spoter")


@pytest.fixture(scope="module")
def empty(scratch: Path) -> Path:
    (scratch / "empty").mkdir()
    return scratch / "empty"


@pytest.fixture(scope="module")
def environ(scratch: Path) -> dict[str, str]:
    names = ("SPOTER_PORT", "SPOTER_MANAGEMENT_PORT", "SPOTER_METRICS_PORT", "SPOTER_DEMO_PORT")
    ports = {name: str(free_port()) for name in names}
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("SPOTER_", "TS_", "PYTHON"))}
    return clean | ports | {"SPOTER_WORKERS": "1", "TMPDIR": str(scratch), "TEMP": str(scratch)}


@contextmanager
def running(command: list[object], folder: Path, environ: dict[str, str]) -> Iterator[str]:
    """Start a command that runs until Ctrl-C; yield its output until it is ready, and end it."""
    process = subprocess.Popen(
        command, cwd=folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        lines: list[str] = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("Ctrl-C"):
                break
        else:
            raise AssertionError("".join(lines) + process.stderr.read())
        yield "".join(lines)
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


def run(program: Path, *arguments: str, folder: Path, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [program, *arguments]
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=120)


def test_the_wheel_passes_twine_and_check_wheel_contents(wheel):
    distributions = sorted(wheel.parent.iterdir())
    assert len(distributions) == 2
    subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *distributions], check=True)
    subprocess.run([Path(sys.executable).with_name("check-wheel-contents"), wheel], cwd=ROOT, check=True)


def test_links_of_the_readme_in_the_metadata_are_absolute(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        text = archive.read(name).decode()
    links = re.findall(r"\]\(([^)#]+)\)", text)
    assert len(links) > 10 and [link for link in links if not link.startswith("https://")] == []


def test_the_environment_has_no_torch(program):
    python = program.with_name("python")
    assert subprocess.run([python, "-c", "import torch"], capture_output=True).returncode == 1


def test_serve_and_demo_work_from_an_empty_folder(program, empty, environ):
    with running([program, "serve"], empty, environ) as printed:
        answer = json.loads(next(line for line in printed.splitlines() if line.startswith("{")))
        assert answer["instances"][0]["gloss"] == "HALLO"
        assert (empty / "model_store" / "spoter.mar").is_file() and (empty / "logs").is_dir()
        if not installed(ROOT / "web"):
            pytest.skip("the page's packages are not installed: `spoter demo` of the wheel is not tested")
        web = next(program.parent.parent.glob("lib/python*/site-packages/spoter/_resources/web"))
        shutil.copytree(ROOT / "web" / "node_modules", web / "node_modules")
        with running([program, "demo"], empty, environ) as printed:
            page = re.search(r"page: (http://\S+)", printed)[1]
            with urllib.request.urlopen(page, timeout=30) as response:
                assert b"<html" in response.read()


@pytest.mark.parametrize(
    ("arguments", "output"),
    [
        (("pack",), "model.tar.gz"),
        (("deploy", "--dry-run", "--region", "eu-central-1"), "create_endpoint"),
        (("doctor",), "packages"),
        (("predict", "MODEL", "SAMPLE"), '"HALLO"'),
    ],
    ids=["pack", "deploy", "doctor", "predict"],
)
def test_other_commands_work_from_an_empty_folder(program, empty, environ, arguments, output):
    resources = next(program.parent.parent.glob("lib/python*/site-packages/spoter/_resources"))
    places = {"MODEL": str(resources / "models" / "dgs11"), "SAMPLE": str(resources / "samples" / "hallo.json")}
    done = run(program, *(places.get(word, word) for word in arguments), folder=empty, environ=environ)
    assert (done.returncode, output in done.stdout) == (0, True), done.stdout + done.stderr


def test_an_error_about_missing_torch_names_the_command_that_installs_it(program, empty, environ):
    done = run(program, "serve", "--runtime", "torch", folder=empty, environ=environ)
    assert done.returncode == 2 and "pip install 'spoter[torch]'" in done.stderr
    assert "Traceback" not in done.stderr
