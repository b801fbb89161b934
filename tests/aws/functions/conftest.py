"""The endpoint that the proxy invokes, and what it logs."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spoter.serving.recognizer import Recognizer
from tests.aws.functions.lambda_runtime import Runtime, set_environment


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
