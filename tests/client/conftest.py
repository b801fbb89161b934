"""Both clients with one calling convention, and a server with the answers that a test sets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest

from spoter.client import AsyncClient, Client, Retry
from tests.http_double import Double, serving

QUICK = Retry(attempts=3, first=0.0, longest=0.1)


class Awaited:
    """An `AsyncClient` with the blocking methods of a `Client`; each call runs in a new event loop."""

    def __init__(self, *arguments, **options):
        self._arguments, self._options = arguments, options

    def __getattr__(self, name: str) -> Callable:
        def call(*arguments, **options):
            async def run():
                async with AsyncClient(*self._arguments, **self._options) as client:
                    return await getattr(client, name)(*arguments, **options)

            return asyncio.run(run())

        return call


@pytest.fixture(params=[Client, Awaited], ids=["sync", "async"])
def connect(request) -> Callable:
    """Create a client that hardly waits between attempts and knows the layout."""

    def make(url: str, **options):
        return request.param(url, **{"retry": QUICK, "layout": 54} | options)

    return make


@pytest.fixture(scope="session")
def served() -> Iterator[Double]:
    with serving() as double:
        yield double


@pytest.fixture
def double(served: Double) -> Iterator[Double]:
    """The double in its initial state."""
    served.reset()
    yield served
    served.finished.set()
