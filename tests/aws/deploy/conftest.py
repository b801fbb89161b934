"""AWS on loopback, empty before each test; the environment variables of this process point to it."""

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
    """Let botocore read its API models once instead of once per session, which takes half the time of a deployment."""
    loader = botocore.loaders.create_loader()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.session, "create_loader", lambda search_path_string=None: loader)
        yield


@pytest.fixture(scope="session")
def shared_cloud() -> Iterator[Cloud]:
    cloud = Cloud()
    yield cloud
    cloud.close()


@pytest.fixture
def cloud(shared_cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    """An empty AWS, the only one that this process and its children reach."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in shared_cloud.environment.items():
        monkeypatch.setenv(name, value)
    shared_cloud.reset()
    return shared_cloud


@pytest.fixture(scope="session")
def model_container(dgs11: Path) -> Container:
    """A container that answers with the bundled model in this process."""
    return in_process(dgs11)


@pytest.fixture
def ready(cloud: Cloud, model_container: Container) -> Cloud:
    """An account with a role and quotas, and a container that answers."""
    make_role(cloud)
    cloud.container = model_container
    cloud.quotas = QUOTAS
    return cloud


@pytest.fixture
def changed_model(dgs11: Path, tmp_path: Path) -> str:
    """The bundled model with another version, which gives another archive."""
    folder = tmp_path / "changed"
    shutil.copytree(dgs11, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"version": "9.9"}))
    return str(folder)
