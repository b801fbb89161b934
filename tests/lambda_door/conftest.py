"""Lambda's door out of its zip file, the endpoint it asks, and what it logs."""

from __future__ import annotations

import importlib
import io
import json
import logging
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from lambda_door.runtime import Runtime, set_environment

from aws.build_lambda_door import MODULES, pack
from spoter.recognizer import Recognizer


@pytest.fixture(scope="package")
def recognizer(dgs11: Path) -> Recognizer:
    return Recognizer.load(dgs11)


@pytest.fixture(scope="package")
def listening(recognizer: Recognizer) -> Iterator[Runtime]:
    runtime = Runtime(recognizer)
    with runtime.listen():
        yield runtime


@pytest.fixture
def runtime(listening: Runtime, monkeypatch: pytest.MonkeyPatch) -> Runtime:
    """The endpoint ``spoter``, in an environment in which boto3 asks it."""
    listening.asked.clear()
    listening.troubles.clear()
    set_environment(monkeypatch, listening.url)
    return listening


@pytest.fixture(scope="package")
def package(dgs11: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The zip file, unpacked as Lambda does."""
    folder = tmp_path_factory.mktemp("task")
    with zipfile.ZipFile(pack(dgs11, tmp_path_factory.mktemp("zip"))) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture
def door(package: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module ``lambda_function`` of the zip file, new, as in an execution environment that just started."""
    names = [name.removesuffix(".py") for name in MODULES]
    monkeypatch.syspath_prepend(str(package))
    for name in names:
        sys.modules.pop(name, None)
    yield importlib.import_module(names[0])
    for name in names:
        sys.modules.pop(name, None)


@pytest.fixture
def said() -> Iterator[Callable[[], str]]:
    """What was logged until now."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logging.getLogger().addHandler(handler)
    yield stream.getvalue
    logging.getLogger().removeHandler(handler)


@pytest.fixture
def lines(said: Callable[[], str]) -> Callable[[], list[dict]]:
    """The lines of JSON among it: one for each event."""
    return lambda: [json.loads(line) for line in said().splitlines() if line.startswith("{")]
