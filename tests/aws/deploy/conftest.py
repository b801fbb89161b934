"""AWS on loopback, empty before each test, with this process's credentials and addresses pointing at it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import botocore.loaders
import botocore.session
import pytest

from tests.aws.deploy.cloud import Cloud
from tests.aws.deploy.containers import Container, in_process
from tests.aws.deploy.deploying import QUOTAS, make_role


@pytest.fixture(scope="session", autouse=True)
def _one_loader() -> Iterator[None]:
    """Let botocore read its descriptions of AWS once, not once for each session: half of a deployment's time."""
    loader = botocore.loaders.create_loader()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.session, "create_loader", lambda search_path_string=None: loader)
        yield


@pytest.fixture(scope="session")
def one_cloud() -> Iterator[Cloud]:
    cloud = Cloud()
    yield cloud
    cloud.close()


@pytest.fixture
def cloud(one_cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    """An empty AWS; this process and what it starts know no other."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in one_cloud.environment.items():
        monkeypatch.setenv(name, value)
    one_cloud.reset()
    return one_cloud


@pytest.fixture(scope="session")
def answering(dgs11: Path) -> Container:
    """What the container answers, worked out in this process."""
    return in_process(dgs11)


@pytest.fixture
def ready(cloud: Cloud, answering: Container) -> Cloud:
    """An account with a role and quotas, and a container that answers."""
    make_role(cloud)
    cloud.container = answering
    cloud.quotas = QUOTAS
    return cloud


@pytest.fixture
def changed(dgs11: Path, tmp_path: Path) -> str:
    """The embedded model under another version, which makes another archive."""
    folder = tmp_path / "changed"
    shutil.copytree(dgs11, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"version": "9.9"}))
    return str(folder)
