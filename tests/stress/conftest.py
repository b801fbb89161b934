"""A real TorchServe for the short forms of the attacks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from spoter.torchserve.server import TorchServe
from stress.harness import attacked_server, wait_workers
from stress.runtime_faults import MODEL_API


@pytest.fixture(scope="session")
def attacked() -> Iterator[TorchServe]:
    """Two workers, a queue that is soon full, and an open model API.

    Its workers wait no longer for company than they do in earnest: what a worker holds while it waits gets no answer
    when the worker is killed.
    """
    with attacked_server(settings=MODEL_API | {"TS_JOB_QUEUE_SIZE": "20"}) as server:
        yield server


@pytest.fixture
def unharmed(attacked: TorchServe) -> TorchServe:
    """The server, with all of its workers up, whatever the test before did to it."""
    assert wait_workers(attacked)
    return attacked
