"""The environment with MediaPipe, and a film of a drawn figure that is read once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from spoter.video.reader import VideoLandmarks, read
from tests.video import films
from tests.videos import find_python


@pytest.fixture(scope="session")
def python() -> Path:
    """The interpreter that reads videos; its environment is made where there is none, which takes minutes."""
    return find_python()


@pytest.fixture(scope="session")
def film(python, tmp_path_factory) -> Path:
    """HALLO signed by a drawn figure."""
    return films.write(python, tmp_path_factory.mktemp("film") / "hallo.mp4", films.figure("HALLO"))


@pytest.fixture(scope="session")
def read_once(film) -> VideoLandmarks:
    """What is found in `film`."""
    return read(film)


@pytest.fixture(scope="session")
def short(python, tmp_path_factory) -> list[Path]:
    """Four short films, each a little different."""
    folder = tmp_path_factory.mktemp("short")
    pictures = films.figure("HALLO")
    return [films.write(python, folder / f"{n}.mp4", pictures[6 + n : 12 + n]) for n in range(4)]


@pytest.fixture
def signs(tmp_path, short) -> Path:
    """Three films: two glosses, and two signers of one of them."""
    for film, name in zip(short, ("ana/HOLA/1", "ana/ADIOS/1", "ben/HOLA/1"), strict=False):
        (tmp_path / "signs" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(film, tmp_path / "signs" / f"{name}.mp4")
    return tmp_path / "signs"
