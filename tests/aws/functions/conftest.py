"""The endpoint that the proxy invokes, and the proxy's log."""

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
def running_runtime(recognizer: Recognizer) -> Iterator[Runtime]:
    runtime = Runtime(recognizer)
    with runtime.listen():
        yield runtime


@pytest.fixture
def runtime(running_runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> Runtime:
    """The endpoint ``spoter``, and environment variables that make boto3 use it."""
    running_runtime.requests.clear()
    running_runtime.errors.clear()
    set_environment(monkeypatch, running_runtime.url)
    return running_runtime


@pytest.fixture
def log_text() -> Iterator[Callable[[], str]]:
    """A function that returns the log until now."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logging.getLogger().addHandler(handler)
    yield stream.getvalue
    logging.getLogger().removeHandler(handler)


@pytest.fixture
def log_lines(log_text: Callable[[], str]) -> Callable[[], list[dict]]:
    """A function that returns the JSON lines of the log, one per event."""
    return lambda: [json.loads(line) for line in log_text().splitlines() if line.startswith("{")]
