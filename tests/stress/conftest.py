"""A real TorchServe for short forms of the attacks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from spoter.torchserve.server import TorchServe
from stress.harness import attacked_server, wait_workers
from stress.runtime_faults import MODEL_API


@pytest.fixture(scope="session")
def attacked() -> Iterator[TorchServe]:
    """Yield a server with two workers, a short queue and an open model API.

    Its workers have the default batch delay: requests that a worker is collecting get no answer when it is killed.
    """
    with attacked_server(settings=MODEL_API | {"TS_JOB_QUEUE_SIZE": "20"}) as server:
        yield server


@pytest.fixture
def unharmed(attacked: TorchServe) -> TorchServe:
    """Return the server after all workers are ready again."""
    assert wait_workers(attacked)
    return attacked
