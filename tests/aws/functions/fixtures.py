"""Lambda's door out of its zip file, for all tests that ask for it."""

from __future__ import annotations

import importlib
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from spoter.aws.functions.build_proxy import MODULES, pack


@pytest.fixture(scope="session")
def door_package(dgs11: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The zip file, unpacked as Lambda does."""
    folder = tmp_path_factory.mktemp("task")
    with zipfile.ZipFile(pack(dgs11, tmp_path_factory.mktemp("zip"))) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture
def door(door_package: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module ``lambda_function`` of the zip file, new, as in an execution environment that just started."""
    names = [name.removesuffix(".py") for name in MODULES]
    monkeypatch.syspath_prepend(str(door_package))
    for name in names:
        sys.modules.pop(name, None)
    yield importlib.import_module(names[0])
    for name in names:
        sys.modules.pop(name, None)
