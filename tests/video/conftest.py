"""The environment with MediaPipe, and a film of a drawn figure that is read once."""

from __future__ import annotations

from pathlib import Path

import pytest
from video import films

from spoter.errors import SpoterError
from spoter.video import Extracted, environment, read


@pytest.fixture(scope="session")
def python() -> Path:
    """The interpreter that reads videos; its environment is made where there is none, which takes minutes."""
    try:
        return environment.make()
    except SpoterError as error:
        pytest.skip(f"no environment with MediaPipe can be made here: {error}")


@pytest.fixture(scope="session")
def film(python, tmp_path_factory) -> Path:
    """HALLO signed by a drawn figure."""
    return films.write(python, tmp_path_factory.mktemp("film") / "hallo.mp4", films.figure("HALLO"))


@pytest.fixture(scope="session")
def read_once(film) -> Extracted:
    """What is found in `film`."""
    return read(film)
