"""The function's package, built with pip for this machine's architecture, and run with the function's Python."""

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

# Answers the events on stdin, one per line, as Lambda's runtime does; then prints the answers and the imported modules.
_RUNTIME = """
import json, logging, os, sys
logging.basicConfig()  # Lambda's runtime also writes the log to stderr
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
    """Skip the tests if pip's package index does not answer; otherwise a failing build is a failing test."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pip", "index", "versions", "numpy"], capture_output=True, timeout=120
        )
    except subprocess.TimeoutExpired:
        pytest.skip("pip's package index does not answer: the function's package cannot be built")
    if done.returncode:
        pytest.skip("pip cannot reach its package index: the function's package cannot be built")


@pytest.fixture(scope="session")
def model(tmp_path_factory, dgs11, samples) -> Path:
    """The bundled model with one enrolled gloss."""
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
        pytest.skip(f"the package runs only on Linux with {', '.join(Architecture)}")
    interpreter = find_python(None)
    if interpreter is None:
        pytest.skip(f"found no Python {PYTHON}, with which the package runs")
    return interpreter


@pytest.fixture(scope="session")
def tree(package, tmp_path_factory) -> Path:
    """The unpacked package, as in the function."""
    folder = tmp_path_factory.mktemp("task")
    with zipfile.ZipFile(package.path) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture(scope="session")
def run(python, tree) -> Callable[..., dict]:
    """Run events in a new process of the function's Python that can import only the package's files."""

    def run(events: list, environment: dict[str, str] | None = None) -> dict:
        done = subprocess.run(
            [python, "-I", "-S", "-B", "-c", _RUNTIME, str(tree)],
            input="\n".join(map(json.dumps, events)), env=environment or {}, cwd=tree.parent,
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) | {"tree": str(tree), "log": done.stderr}

    return run
