"""Both clients, called in one way, and a server that says what a test wants."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest

from spoter.client import AsyncClient, Client, Retry
from tests.http_double import Double, serving

QUICK = Retry(attempts=3, first=0.0, longest=0.1)


class Awaited:
    """An `AsyncClient` whose methods are called, and run in a loop of their own, as those of a `Client`."""

    def __init__(self, *arguments, **options):
        self._made = (arguments, options)

    def __getattr__(self, name: str) -> Callable:
        def call(*arguments, **options):
            async def run():
                async with AsyncClient(*self._made[0], **self._made[1]) as client:
                    return await getattr(client, name)(*arguments, **options)

            return asyncio.run(run())

        return call


@pytest.fixture(params=[Client, Awaited], ids=["sync", "async"])
def connect(request) -> Callable:
    """Make a client that waits for nothing between attempts, and knows the layout."""

    def make(url: str, **options):
        return request.param(url, **{"retry": QUICK, "layout": 54} | options)

    return make


@pytest.fixture(scope="session")
def served() -> Iterator[Double]:
    with serving() as double:
        yield double


@pytest.fixture
def double(served: Double) -> Iterator[Double]:
    """The double, as if it had just been started."""
    served.reset()
    yield served
    served.over.set()
