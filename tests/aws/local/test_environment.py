"""What the container's code runs in: made once and whole, filled up by code/requirements.txt, on several Pythons."""

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
# What the archive's code/requirements.txt asks for and the image lacks, and what that needs itself.
LACKING = {"msgspec", "threadpoolctl", "onnxruntime", "flatbuffers", "protobuf"}
# Nothing to be had from anywhere: as with network isolation, or in a VPC without a way out.
NO_NETWORK = {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": ""}


def test_the_second_start_makes_nothing(local_endpoint):
    said: list[str] = []
    with locked_environment(FOLDER, said.append) as python:
        assert python.is_file() and said == []


def test_an_environment_that_was_not_finished_is_not_used(tmp_path, monkeypatch):
    for name, value in NO_NETWORK.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "left over").touch()
    for _ in range(2):
        said: list[str] = []
        with pytest.raises(StartError, match=r"(?s)could not install.*ERROR: "):
            locked_environment(tmp_path, said.append).__enter__()
        assert said[0].startswith("installing") and not (tmp_path / "stamp").exists()
    assert not (tmp_path / "env" / "left over").exists()


def test_an_environment_whose_interpreter_is_gone_is_made_anew(tmp_path, monkeypatch):
    for name, value in NO_NETWORK.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "env" / "bin").mkdir(parents=True)
    (tmp_path / "env" / "bin" / "python").symlink_to(tmp_path / "removed")
    (tmp_path / "stamp").write_bytes(stamp_content())
    with pytest.raises(StartError, match="could not install"), locked_environment(tmp_path):
        pass


def test_ctrl_c_while_it_is_made_leaves_no_process_and_no_temporary_folder(tmp_path):
    program = "from pathlib import Path; from spoter.aws.local.environment import locked_environment\n"
    program += f"with locked_environment(Path({str(tmp_path / 'made')!r})): pass"
    (tmp_path / "temp").mkdir()
    environ = os.environ | NO_NETWORK | {"TMPDIR": str(tmp_path / "temp")}
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, env=environ, stderr=subprocess.DEVNULL, start_new_session=True
    )
    while not list((tmp_path / "temp").iterdir()):  # until pip is being put into it
        assert process.poll() is None
        time.sleep(0.01)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) != 0 and children
    _, alive = psutil.wait_procs(children, timeout=30)  # what ended may still be a zombie of nobody's
    assert [child for child in alive if child.status() != psutil.STATUS_ZOMBIE] == []
    assert list((tmp_path / "temp").iterdir()) == [] and not (tmp_path / "made" / "stamp").exists()


def test_one_start_waits_for_another(local_endpoint):
    """Both may install packages into the environment."""
    waits, done = threading.Event(), threading.Event()

    def second() -> None:
        with locked_environment(FOLDER, lambda line: waits.set() if "waiting" in line else None):
            done.set()

    with locked_environment(FOLDER):
        thread = threading.Thread(target=second, daemon=True)
        thread.start()
        assert waits.wait(30) and not done.is_set()
    assert done.wait(30)


@pytest.fixture
def image(local_endpoint, tmp_path) -> Path:
    """Interpreter of an environment as AWS's image has it: the local container's by links, but for what it lacks."""
    with locked_environment() as python:
        source = next((python.parent.parent / "lib").glob("python*/site-packages"))
        script = (python.parent / "torchserve").read_text()
    venv.create(tmp_path / "image", symlinks=True, with_pip=False)
    site = next((tmp_path / "image" / "lib").glob("python*/site-packages"))
    # Links to files, in folders of its own: what pip does here, it does to nobody else.
    left_out = shutil.ignore_patterns(*(f"{name}*" for name in LACKING), "google", "__pycache__")
    shutil.copytree(source, site, copy_function=os.symlink, ignore=left_out, dirs_exist_ok=True)
    python = tmp_path / "image" / "bin" / "python"
    torchserve = python.with_name("torchserve")
    torchserve.write_text(re.sub(r"^#!.*", f"#!{python}", script))
    torchserve.chmod(0o755)
    return python


def versions(python: Path) -> dict[str, str]:
    listed = subprocess.run([python, "-m", "pip", "list", "--format=json"], capture_output=True, text=True, check=True)
    return {package["name"]: package["version"] for package in json.loads(listed.stdout)}


def test_the_start_installs_what_the_image_lacks_and_nothing_else(image, archive):
    before = versions(image)
    assert not LACKING & set(before) and {"numpy", "pandas", "torch", "torchserve"} <= set(before)
    with LocalEndpoint(archive, workers=1, python=image) as endpoint:
        assert invoke(runtime_client(endpoint), SAMPLE, "application/json")[0] == 200
    after = versions(image)
    assert after == before | {name: after[name] for name in LACKING}


def test_without_a_network_the_start_says_what_it_could_not_install(image, archive):
    with (
        pytest.raises(StartError, match=r"(?s)No matching distribution found for msgspec"),
        LocalEndpoint(archive, workers=1, python=image, environ=NO_NETWORK),
    ):
        pass


def fit(python: str) -> bool:
    """Tell whether an interpreter has AWS's code and the torch of its image."""
    program = "import sagemaker_pytorch_serving_container, ts, torch; assert torch.__version__.startswith('2.6.')"
    return subprocess.run([python, "-c", program], capture_output=True).returncode == 0


def pythons() -> list[str]:
    named = [name for name in os.environ.get(VARIABLE, "").split(os.pathsep) if name]
    found = shutil.which("python3.12")
    return named or [python for python in [found] if python and fit(python)]


@pytest.mark.parametrize("entry_point", EntryPoint)
@pytest.mark.parametrize("python", pythons() or [None])
def test_the_archive_answers_on_other_pythons_and_torches(archive, local_endpoint, python, entry_point):
    """Above all Python 3.12 with torch 2.6.0, which AWS's image has."""
    if python is None:
        pytest.skip(
            f"found no python3.12 with torch 2.6 and sagemaker-pytorch-inference: name such interpreters in {VARIABLE}"
        )
    expected = json.loads(invoke(runtime_client(local_endpoint), SAMPLE, "application/json")[2])
    with LocalEndpoint(archive, workers=1, python=Path(python), entry_point=entry_point) as endpoint:
        status, _, body = invoke(runtime_client(endpoint), SAMPLE, "application/json")
        assert invoke(runtime_client(endpoint), b"{nonsense", "application/json")[0] == 400
    answer = json.loads(body)
    assert status == 200 and answer["frames"] == expected["frames"] and answer["known"] == expected["known"]
    for ours, theirs in zip(answer["instances"], expected["instances"], strict=True):
        assert ours["gloss"] == theirs["gloss"] and ours["score"] == pytest.approx(theirs["score"], abs=2e-4)
