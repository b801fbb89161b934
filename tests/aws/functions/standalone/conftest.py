"""The function's package, really made: with pip, for this machine's architecture, and run by the function's Python."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from spoter.aws.functions.build_standalone import PYTHON, Architecture, FunctionPackage, build, find_python
from spoter.landmarks.layouts import load_layout
from spoter.serving.enroll import enroll
from spoter.sources.clip_files import read_clips

# Answers the events on its standard input, one a line, as Lambda's runtime would; then tells what was imported.
_RUNTIME = """
import json, logging, os, sys
logging.basicConfig()  # Lambda's runtime, too, writes what is logged to the standard error
sys.path.insert(0, sys.argv[1])
from spoter.aws.functions import standalone
loaded = standalone.load.cache_info().currsize
answers = [standalone.handler(json.loads(line), None) for line in sys.stdin]
files = [getattr(module, "__file__", None) for module in sys.modules.values()]
print(json.dumps({"answers": answers, "loaded_by_import": loaded, "modules": sorted(sys.modules),
                  "files": [file for file in files if file], "library": os.path.dirname(os.__file__)}))
"""


@pytest.fixture(scope="session")
def architecture() -> Architecture:
    return next((each for each in Architecture if each.machine == platform.machine()), Architecture.x86_64)


@pytest.fixture(scope="session")
def index() -> None:
    """pip's package index, which must be asked in earnest; where it answers, a failing build is a failing test."""
    try:
        asked = subprocess.run(
            [sys.executable, "-m", "pip", "index", "versions", "numpy"], capture_output=True, timeout=120
        )
    except subprocess.TimeoutExpired:
        pytest.skip("pip's package index does not answer: the function's package is not made")
    if asked.returncode:
        pytest.skip("pip cannot reach its package index: the function's package is not made")


@pytest.fixture(scope="session")
def model(tmp_path_factory, dgs11, samples) -> Path:
    """The embedded model with one gloss more, enrolled."""
    folder = Path(shutil.copytree(dgs11, tmp_path_factory.mktemp("lambda") / "model"))
    enroll(folder, "NEW", read_clips([samples / "mainz-long.csv"], load_layout("54")))
    return folder


@pytest.fixture(scope="session")
def package(index, model, architecture, tmp_path_factory) -> FunctionPackage:
    return build(model, tmp_path_factory.mktemp("store"), architecture, find_python(None))


@pytest.fixture(scope="session")
def python() -> str:
    """The function's Python."""
    if platform.system() != "Linux" or platform.machine() not in [each.machine for each in Architecture]:
        pytest.skip(f"the package is of Linux on {', '.join(Architecture)}: it is not run here")
    found = find_python(None)
    if found is None:
        pytest.skip(f"there is no Python {PYTHON} here: the package is not run")
    return found


@pytest.fixture(scope="session")
def tree(package, tmp_path_factory) -> Path:
    """The package as it lies in the function."""
    folder = tmp_path_factory.mktemp("task")
    with zipfile.ZipFile(package.path) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture(scope="session")
def run(python, tree) -> Callable[..., dict]:
    """Run events in a fresh process of the function's Python that can import the package's files and no others."""

    def run(events: list, environment: dict[str, str] | None = None) -> dict:
        done = subprocess.run(
            [python, "-I", "-S", "-B", "-c", _RUNTIME, str(tree)],
            input="\n".join(map(json.dumps, events)), env=environment or {}, cwd=tree.parent,
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) | {"tree": str(tree), "log": done.stderr}

    return run
