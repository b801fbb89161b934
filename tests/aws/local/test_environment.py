"""The environment of the container code: installed once, completed by code/requirements.txt, on several Pythons."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import venv
from pathlib import Path

import psutil
import pytest

from spoter.aws.choices import EntryPoint
from spoter.aws.local.endpoint import LocalEndpoint
from spoter.aws.local.environment import FOLDER, locked_environment, stamp_content
from spoter.torchserve.process import StartError
from tests import ROOT
from tests.aws.local.fixtures import invoke, runtime_client

pytestmark = pytest.mark.server

SAMPLE = (ROOT / "samples" / "hallo.json").read_bytes()
VARIABLE = "SPOTER_CONTAINER_PYTHONS"
# Packages in the archive's code/requirements.txt that the image lacks, and their dependencies.
MISSING = {"msgspec", "threadpoolctl", "onnxruntime", "flatbuffers", "protobuf"}
# No package index, as with network isolation or in a VPC without internet access.
NO_NETWORK = {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": ""}


def test_second_start_installs_nothing(local_endpoint):
    steps: list[str] = []
    with locked_environment(FOLDER, steps.append) as python:
        assert python.is_file() and steps == []


def test_unfinished_environment_is_not_used(tmp_path, monkeypatch):
    for name, value in NO_NETWORK.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "old file").touch()
    for _ in range(2):
        steps: list[str] = []
        with pytest.raises(StartError, match=r"ERROR: "):
            locked_environment(tmp_path, steps.append).__enter__()
        assert str(tmp_path) in steps[0] and not (tmp_path / "stamp").exists()
    assert not (tmp_path / "env" / "old file").exists()


def test_environment_without_its_interpreter_is_installed_again(tmp_path, monkeypatch):
    for name, value in NO_NETWORK.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "env" / "bin").mkdir(parents=True)
    (tmp_path / "env" / "bin" / "python").symlink_to(tmp_path / "removed")
    (tmp_path / "stamp").write_bytes(stamp_content())
    with pytest.raises(StartError, match="ERROR: "), locked_environment(tmp_path):
        pass


def test_ctrl_c_during_installation_leaves_no_process_and_no_temporary_folder(tmp_path):
    program = "from pathlib import Path; from spoter.aws.local.environment import locked_environment\n"
    program += f"with locked_environment(Path({str(tmp_path / 'environment')!r})): pass"
    (tmp_path / "temp").mkdir()
    environ = os.environ | NO_NETWORK | {"TMPDIR": str(tmp_path / "temp")}
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, env=environ, stderr=subprocess.DEVNULL, start_new_session=True
    )
    while not list((tmp_path / "temp").iterdir()):  # until the installation of pip has started
        assert process.poll() is None
        time.sleep(0.01)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) != 0 and children
    _, alive = psutil.wait_procs(children, timeout=30)  # an ended process may still be a zombie without a parent
    assert [child for child in alive if child.status() != psutil.STATUS_ZOMBIE] == []
    assert list((tmp_path / "temp").iterdir()) == [] and not (tmp_path / "environment" / "stamp").exists()


def test_concurrent_starts_wait_for_each_other(local_endpoint):
    """Both may install packages into the environment."""
    waiting, done = threading.Event(), threading.Event()

    def second() -> None:
        with locked_environment(FOLDER, lambda line: waiting.set() if "waiting" in line else None):
            done.set()

    with locked_environment(FOLDER):
        thread = threading.Thread(target=second, daemon=True)
        thread.start()
        assert waiting.wait(30) and not done.is_set()
    assert done.wait(30)


@pytest.fixture
def image(local_endpoint, tmp_path) -> Path:
    """Interpreter of an environment like AWS's image: links to the local container's packages except `MISSING`."""
    with locked_environment() as python:
        source = next((python.parent.parent / "lib").glob("python*/site-packages"))
        script = (python.parent / "torchserve").read_text()
    venv.create(tmp_path / "image", symlinks=True, with_pip=False)
    site = next((tmp_path / "image" / "lib").glob("python*/site-packages"))
    # New folders with links to files: changes by pip do not affect the linked environment.
    excluded = shutil.ignore_patterns(*(f"{name}*" for name in MISSING), "google", "__pycache__")
    shutil.copytree(source, site, copy_function=os.symlink, ignore=excluded, dirs_exist_ok=True)
    python = tmp_path / "image" / "bin" / "python"
    torchserve = python.with_name("torchserve")
    torchserve.write_text(re.sub(r"^#!.*", f"#!{python}", script))
    torchserve.chmod(0o755)
    return python


def versions(python: Path) -> dict[str, str]:
    listed = subprocess.run([python, "-m", "pip", "list", "--format=json"], capture_output=True, text=True, check=True)
    return {package["name"]: package["version"] for package in json.loads(listed.stdout)}


def test_start_installs_exactly_the_missing_packages(image, archive):
    before = versions(image)
    assert not MISSING & set(before) and {"numpy", "pandas", "torch", "torchserve"} <= set(before)
    with LocalEndpoint(archive, workers=1, python=image) as endpoint:
        assert invoke(runtime_client(endpoint), SAMPLE, "application/json")[0] == 200
    after = versions(image)
    assert after == before | {name: after[name] for name in MISSING}


def test_start_without_a_network_names_the_missing_package(image, archive):
    with (
        pytest.raises(StartError, match=r"msgspec"),
        LocalEndpoint(archive, workers=1, python=image, environ=NO_NETWORK),
    ):
        pass


def has_container_packages(python: str) -> bool:
    """Return whether an interpreter has AWS's container code and the torch of its image."""
    program = "import sagemaker_pytorch_serving_container, ts, torch; assert torch.__version__.startswith('2.6.')"
    return subprocess.run([python, "-c", program], capture_output=True).returncode == 0


def pythons() -> list[str]:
    configured = [name for name in os.environ.get(VARIABLE, "").split(os.pathsep) if name]
    python = shutil.which("python3.12")
    return configured or ([python] if python and has_container_packages(python) else [])


@pytest.mark.parametrize("entry_point", EntryPoint)
@pytest.mark.parametrize("python", pythons() or [None])
def test_archive_answers_with_other_versions_of_python_and_torch(archive, local_endpoint, python, entry_point):
    """Mainly Python 3.12 with torch 2.6.0, as in AWS's image."""
    if python is None:
        pytest.skip(
            f"found no python3.12 with torch 2.6 and sagemaker-pytorch-inference: list such interpreters in {VARIABLE}"
        )
    expected = json.loads(invoke(runtime_client(local_endpoint), SAMPLE, "application/json")[2])
    with LocalEndpoint(archive, workers=1, python=Path(python), entry_point=entry_point) as endpoint:
        status, _, body = invoke(runtime_client(endpoint), SAMPLE, "application/json")
        assert invoke(runtime_client(endpoint), b"{nonsense", "application/json")[0] == 400
    answer = json.loads(body)
    assert status == 200 and answer["frames"] == expected["frames"] and answer["known"] == expected["known"]
    for actual, wanted in zip(answer["instances"], expected["instances"], strict=True):
        assert actual["gloss"] == wanted["gloss"] and actual["score"] == pytest.approx(wanted["score"], abs=2e-4)
