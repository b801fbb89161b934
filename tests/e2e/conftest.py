"""A real TorchServe, started once for all tests: by hand, and in an environment without this project.

The environment is a new virtual one that holds torch, TorchServe, what the archive's requirements.txt asks for, and
what those need themselves, by links to the packages that the tests run with. Neither `spoter` nor any other package of
the project's is in it, so that an archive which is not self-contained does not start.
"""

from __future__ import annotations

import tempfile
import venv
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from spoter.torchserve.pack import build
from tests.e2e.live import RunningServer, torchserve


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
    folder = scratch / "env"
    venv.create(folder, symlinks=True, with_pip=False)
    site = next((folder / "lib").glob("python*/site-packages"))
    with zipfile.ZipFile(model_store / "spoter.mar") as archive:
        lines = archive.read("requirements.txt").decode().splitlines()
    wanted = [Requirement(line) for line in lines if line and not line.startswith("#")]
    wanted += [Requirement("torch"), Requirement("torchserve")]
    seen: set[str] = set()
    while wanted:
        name = wanted.pop().name.lower()
        if name in seen:
            continue
        seen.add(name)
        package = metadata.distribution(name)
        needs = [Requirement(line) for line in package.requires or []]
        wanted += [need for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
        for top in {path.parts[0] for path in package.files or []} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(package.locate_file(top))
    return folder / "bin" / "python"


@pytest.fixture(scope="session")
def server(scratch: Path, model_store: Path, bare_python: Path) -> Iterator[RunningServer]:
    """TorchServe with one worker, the project's config.properties and the default model; it reads no videos."""
    folder = scratch / "server"
    with torchserve(folder, model_store, bare_python, XDG_CACHE_HOME=str(folder)) as running:
        yield running
