"""A real TorchServe for all tests of a session, in an environment without this project and without torch.

The virtual environment holds TorchServe, the packages of the archive's requirements.txt and their dependencies, as
links to the packages of the test environment. An archive that is not self-contained does not start there.
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
    """Return a temporary folder with a short path: pytest's paths are too long for TorchServe's sockets."""
    with tempfile.TemporaryDirectory(prefix="spoter-test-") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def model_store(scratch: Path, dgs11: Path) -> Path:
    build(dgs11, "spoter", None, scratch / "model_store")
    return scratch / "model_store"


@pytest.fixture(scope="session")
def bare_python(scratch: Path, model_store: Path) -> Path:
    """Return the interpreter of an environment with only the packages that an archive may need."""
    with zipfile.ZipFile(model_store / "spoter.mar") as archive:
        lines = archive.read("requirements.txt").decode().splitlines()
    required = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return linked_environment(scratch / "env", [*required, Requirement("onnxruntime"), Requirement("torchserve")])


@pytest.fixture(scope="session")
def server(scratch: Path, model_store: Path, bare_python: Path) -> Iterator[RunningServer]:
    """Run TorchServe with one worker, this project's config.properties and the bundled model, without videos."""
    folder = scratch / "server"
    with torchserve(folder, model_store, bare_python, XDG_CACHE_HOME=str(folder)) as running:
        yield running
