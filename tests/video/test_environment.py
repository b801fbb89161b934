"""The environment that videos are read in: found, made, and made anew where it was not finished."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from spoter.errors import SpoterError
from spoter.video import environment, install

pytestmark = pytest.mark.video


@pytest.fixture
def nowhere(tmp_path, monkeypatch) -> Path:
    """No environment anywhere; one that is made lies in the folder returned."""
    monkeypatch.delenv(environment.PYTHON_VARIABLE, raising=False)
    monkeypatch.delenv("PIP_ARGS", raising=False)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "venv"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "venv").mkdir()
    return tmp_path / "venv" / "video"


def test_the_real_one_has_mediapipe_and_is_not_made_twice(python):
    told: list[str] = []
    assert install.install_environment(told.append) == python and told == []
    install.check_mediapipe(python)


def test_an_interpreter_that_is_named_goes_first_and_has_to_be_one(python, monkeypatch, tmp_path):
    monkeypatch.setenv(environment.PYTHON_VARIABLE, sys.executable)
    assert environment.find_python() == Path(sys.executable)
    with pytest.raises(SpoterError, match="MediaPipe cannot be imported"):
        install.check_mediapipe(Path(sys.executable))
    monkeypatch.setenv(environment.PYTHON_VARIABLE, str(tmp_path / "absent"))
    with pytest.raises(SpoterError, match=r"found SPOTER_VIDEO_PYTHON=.*absent, expected a Python interpreter"):
        environment.find_python()


def test_what_is_not_finished_or_of_other_requirements_is_not_found(nowhere):
    assert environment.find_python() is None
    python = nowhere / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    with pytest.raises(SpoterError, match="found a folder that is no virtual environment"):
        install.install_environment()
    assert environment.find_python() is None
    (nowhere / ".whole").write_text("other requirements")
    assert environment.find_python() is None
    (nowhere / ".whole").write_bytes(environment.requirements_digest())
    assert environment.find_python() == python


def test_making_says_what_and_where_and_leaves_nothing_half_made_in_use(nowhere, monkeypatch, tmp_path):
    nowhere.mkdir()
    (nowhere / "pyvenv.cfg").touch()  # as a crash leaves it
    # pip does all that it is asked to, and still MediaPipe does not start: seen before it is called finished.
    monkeypatch.setattr(environment, "REQUIREMENTS", tmp_path / "nothing.txt")
    monkeypatch.setattr(install, "REQUIREMENTS", tmp_path / "nothing.txt")
    environment.REQUIREMENTS.write_text("")
    monkeypatch.setenv("PIP_ARGS", "--no-index --quiet")
    told: list[str] = []
    with pytest.raises(SpoterError, match="MediaPipe cannot be imported"):
        install.install_environment(told.append)
    assert "MediaPipe 0.10.21" in told[0] and f"in {nowhere} (" in told[0] and "400 MB on disk" in told[0]
    assert (nowhere / "bin" / "python").exists() and environment.find_python() is None


def test_an_older_python_that_does_not_run_is_passed_over(monkeypatch, tmp_path):
    """As pyenv's command for a version that is not active."""
    for name, status in (("python3.12", 127), ("python3.11", 0)):
        (tmp_path / name).write_text(f"#!/bin/sh\nexit {status}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setattr(install, "NEWEST_PYTHON", (3, 10))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert install._base_python() == str(tmp_path / "python3.11")
    (tmp_path / "python3.11").unlink()
    with pytest.raises(SpoterError, match=r"no python3\.12 or python3\.11 with venv"):
        install._base_python()


def test_what_pip_says_when_it_fails_is_handed_on(nowhere, monkeypatch):
    monkeypatch.setattr(install, "_remove", lambda folder: None)  # nor is one made: this one has a pip already
    monkeypatch.setattr(install, "_base_python", lambda: "true")
    nowhere.mkdir()
    for name in ("bin", "lib", "pyvenv.cfg"):
        (nowhere / name).symlink_to(Path(sys.executable).parents[1] / name)
    with pytest.raises(SpoterError, match=r"pip failed with status \d+: .*no such option: --nonsense"):
        install.install_environment(pip_options=["--nonsense"])
    assert environment.find_python() is None


def test_the_users_cache_takes_the_place_of_a_folder_that_cannot_be_written(nowhere, monkeypatch, tmp_path):
    nowhere.parent.rmdir()
    nowhere.parent.write_text("a file in the folder's place")
    monkeypatch.setattr(install, "_base_python", lambda: "false")  # the program: where is all that is asked here
    told: list[str] = []
    with pytest.raises(SpoterError, match="venv failed with status 1"):
        install.install_environment(told.append)
    assert f"in {tmp_path / 'cache' / 'spoter' / 'video'} (" in told[0]


def test_the_command_says_what_keeps_it_from_working(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "spoter.video.install"],
        env={"SPOTER_VIDEO_PYTHON": "/absent/python"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: found SPOTER_VIDEO_PYTHON=/absent/python") and done.stderr.count("\n") == 1
