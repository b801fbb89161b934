"""A real TorchServe, started once for all tests: by hand, and in an environment without this project and without torch.

The environment is a new virtual one that holds TorchServe, what the archive's requirements.txt asks for, and what those
need themselves, by links to the packages that the tests run with. An archive that is not self-contained does not start.
"""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from spoter.torchserve.pack import build
from tests.e2e.live import RunningServer, torchserve
from tests.environments import linked_environment


@pytest.fixture(scope="session")
def scratch() -> Iterator[Path]:
    """A temporary folder of a short path: pytest's own are too long for TorchServe's sockets."""
    with tempfile.TemporaryDirectory(prefix="spoter-test-") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def model_store(scratch: Path, dgs11: Path) -> Path:
    build(dgs11, "spoter", None, scratch / "model_store")
    return scratch / "model_store"


@pytest.fixture(scope="session")
def bare_python(scratch: Path, model_store: Path) -> Path:
    """The interpreter of an environment that holds only what the archive may rely on."""
    with zipfile.ZipFile(model_store / "spoter.mar") as archive:
        lines = archive.read("requirements.txt").decode().splitlines()
    asked = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return linked_environment(scratch / "env", [*asked, Requirement("onnxruntime"), Requirement("torchserve")])


@pytest.fixture(scope="session")
def server(scratch: Path, model_store: Path, bare_python: Path) -> Iterator[RunningServer]:
    """TorchServe with one worker, the project's config.properties and the default model; it reads no videos."""
    folder = scratch / "server"
    with torchserve(folder, model_store, bare_python, XDG_CACHE_HOME=str(folder)) as running:
        yield running
