"""A generated data set, and a model with random weights for its glosses."""

from pathlib import Path

import pytest

from tests.training.datasets import GLOSSES, write_hdf5
from tests.training.evaluation.trained import write_model


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_hdf5(tmp_path_factory.mktemp("data") / "signs.hdf5")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "random", GLOSSES)
