"""A real TorchServe that the short forms of attacks/ may harm."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.serving.server import running_server
from spoter.torchserve.server import TorchServe
from stress.harness import wait_workers
from stress.runtime_faults import MODEL_API, WORKERS


@pytest.fixture(scope="session")
def attacked(dgs11: Path) -> Iterator[TorchServe]:
    """Two workers, a queue that is soon full, and an open model API.

    Its workers wait no longer for company than they do in earnest: what a worker holds while it waits gets no answer
    when the worker is killed.
    """
    with running_server(dgs11, WORKERS, settings=MODEL_API | {"TS_JOB_QUEUE_SIZE": "20"}) as server:
        wait_workers(server, WORKERS)
        yield server


@pytest.fixture
def unharmed(attacked: TorchServe) -> TorchServe:
    """The server, with all of its workers up, whatever the test before did to it."""
    assert wait_workers(attacked, WORKERS)
    return attacked
