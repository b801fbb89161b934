"""Fixtures: the video environment, and videos of a drawn figure."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from spoter.video.reader import VideoLandmarks, read
from tests.video import films
from tests.videos import find_python


@pytest.fixture(scope="session")
def python() -> Path:
    """The interpreter of the video environment, which is created if missing; that takes minutes."""
    return find_python()


@pytest.fixture(scope="session")
def film(python, tmp_path_factory) -> Path:
    """A video of a drawn figure that signs HALLO."""
    return films.write(python, tmp_path_factory.mktemp("film") / "hallo.mp4", films.figure("HALLO"))


@pytest.fixture(scope="session")
def read_once(film) -> VideoLandmarks:
    """The landmarks of `film`."""
    return read(film)


@pytest.fixture(scope="session")
def short(python, tmp_path_factory) -> list[Path]:
    """Four short videos with small differences."""
    folder = tmp_path_factory.mktemp("short")
    pictures = films.figure("HALLO")
    return [films.write(python, folder / f"{n}.mp4", pictures[6 + n : 12 + n]) for n in range(4)]


@pytest.fixture
def signs(tmp_path, short) -> Path:
    """A folder of three videos: two glosses, one of them by two signers."""
    for film, name in zip(short, ("ana/HOLA/1", "ana/ADIOS/1", "ben/HOLA/1"), strict=False):
        (tmp_path / "signs" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(film, tmp_path / "signs" / f"{name}.mp4")
    return tmp_path / "signs"
