"""The endpoint proxy from its zip file, for all tests that need it."""

from __future__ import annotations

import importlib.util
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

from spoter.aws.functions.build_proxy import build


@pytest.fixture(scope="session")
def proxy_package(dgs11: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked zip file, as in Lambda."""
    folder = tmp_path_factory.mktemp("task")
    with zipfile.ZipFile(build(dgs11, tmp_path_factory.mktemp("zip"))) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture
def proxy(proxy_package: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module `endpoint_proxy` of the zip file, newly imported, as in a new execution environment."""
    path = proxy_package / "spoter" / "aws" / "functions" / "endpoint_proxy.py"
    spec = importlib.util.spec_from_file_location("spoter.aws.functions.endpoint_proxy", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module
