"""The video environment: found, created, and created again if it is incomplete."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from spoter.errors import SpoterError
from spoter.video import environment, install

pytestmark = pytest.mark.video


@pytest.fixture
def no_environment(tmp_path, monkeypatch) -> Path:
    """The folder in which an environment would be created; there is none on this machine."""
    monkeypatch.delenv(environment.PYTHON_VARIABLE, raising=False)
    monkeypatch.delenv("PIP_ARGS", raising=False)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "venv"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "venv").mkdir()
    return tmp_path / "venv" / "video"


def test_existing_environment_has_mediapipe_and_is_not_created_again(python):
    steps: list[str] = []
    assert install.install_environment(steps.append) == python and steps == []
    install.check_mediapipe(python)


def test_interpreter_in_the_variable_is_preferred_and_must_exist(python, monkeypatch, tmp_path):
    monkeypatch.setenv(environment.PYTHON_VARIABLE, sys.executable)
    assert environment.find_python() == Path(sys.executable)
    with pytest.raises(SpoterError, match="MediaPipe"):
        install.check_mediapipe(Path(sys.executable))
    monkeypatch.setenv(environment.PYTHON_VARIABLE, str(tmp_path / "absent"))
    with pytest.raises(SpoterError, match=r"SPOTER_VIDEO_PYTHON=.*absent"):
        environment.find_python()


def test_environment_that_is_incomplete_or_outdated_is_not_found(no_environment):
    assert environment.find_python() is None
    python = no_environment / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    with pytest.raises(SpoterError, match="not a virtual environment"):
        install.install_environment()
    assert environment.find_python() is None
    (no_environment / ".whole").write_text("other requirements")
    assert environment.find_python() is None
    (no_environment / ".whole").write_bytes(environment.requirements_digest())
    assert environment.find_python() == python


def test_installation_reports_version_and_folder_and_an_incomplete_one_is_not_used(
    no_environment, monkeypatch, tmp_path
):
    no_environment.mkdir()
    (no_environment / "pyvenv.cfg").touch()  # as after a crash
    # pip succeeds but installs nothing, so MediaPipe does not start: the environment must not be marked as complete.
    monkeypatch.setattr(environment, "REQUIREMENTS", tmp_path / "nothing.txt")
    monkeypatch.setattr(install, "REQUIREMENTS", tmp_path / "nothing.txt")
    environment.REQUIREMENTS.write_text("")
    monkeypatch.setenv("PIP_ARGS", "--no-index --quiet")
    steps: list[str] = []
    with pytest.raises(SpoterError, match="MediaPipe"):
        install.install_environment(steps.append)
    assert all(text in steps[0] for text in ("MediaPipe 0.10.21", str(no_environment), "400 MB"))
    assert (no_environment / "bin" / "python").exists() and environment.find_python() is None


def test_older_python_that_does_not_run_is_skipped(monkeypatch, tmp_path):
    """Such as pyenv's shim of an inactive version."""
    for name, status in (("python3.12", 127), ("python3.11", 0)):
        (tmp_path / name).write_text(f"#!/bin/sh\nexit {status}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setattr(install, "NEWEST_PYTHON", (3, 10))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert install._base_python() == str(tmp_path / "python3.11")
    (tmp_path / "python3.11").unlink()
    with pytest.raises(SpoterError, match=r"python3\.12 or python3\.11"):
        install._base_python()


def test_failure_of_pip_is_reported(no_environment, monkeypatch):
    monkeypatch.setattr(install, "_remove", lambda folder: None)  # keep this environment, which has pip
    monkeypatch.setattr(install, "_base_python", lambda: "true")
    no_environment.mkdir()
    for name in ("bin", "lib", "pyvenv.cfg"):
        (no_environment / name).symlink_to(Path(sys.executable).parents[1] / name)
    with pytest.raises(SpoterError, match=r"pip .*\d+: .*--nonsense"):
        install.install_environment(pip_options=["--nonsense"])
    assert environment.find_python() is None


def test_users_cache_is_used_if_the_other_folder_cannot_be_written(no_environment, monkeypatch, tmp_path):
    no_environment.parent.rmdir()
    no_environment.parent.write_text("a file instead of the folder")
    monkeypatch.setattr(
        install, "_base_python", lambda: "false"
    )  # the program `false`: this test only checks the folder
    steps: list[str] = []
    with pytest.raises(SpoterError, match=r"venv .*\b1\b"):
        install.install_environment(steps.append)
    assert str(tmp_path / "cache" / "spoter" / "video") in steps[0]


def test_command_prints_its_error_on_one_line(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "spoter.video.install"],
        env={"SPOTER_VIDEO_PYTHON": "/absent/python"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: SPOTER_VIDEO_PYTHON=/absent/python") and done.stderr.count("\n") == 1
