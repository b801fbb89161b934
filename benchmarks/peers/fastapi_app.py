"""The recognizer behind FastAPI and uvicorn, started by `uvicorn --factory benchmarks.peers.fastapi_app:create`.

As uvicorn's documentation has it for production: worker processes, uvloop, httptools, no access log (ours writes one).
It has no batching. `create` computes in the thread pool, as FastAPI's documentation has it for work that blocks;
`create_on_loop` on the event loop, which spares the way to another thread. Which is faster depends on the load.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool

from benchmarks.peers.shared import answer, incoming, load
from spoter.serving import service

PATH = "/predict"


def create() -> FastAPI:
    """Load the model in this worker process and return an application that computes in the thread pool."""
    recognizer = load()

    async def ask(asked: service.RawRequest) -> list[service.Response]:
        return await run_in_threadpool(answer, recognizer, [asked])

    return _application(ask)


def create_on_loop() -> FastAPI:
    """Load the model in this worker process and return an application that computes on the event loop."""
    recognizer = load()

    async def ask(asked: service.RawRequest) -> list[service.Response]:
        return answer(recognizer, [asked])

    return _application(ask)


def _application(ask: Callable[[service.RawRequest], Awaitable[list[service.Response]]]) -> FastAPI:
    app = FastAPI()

    @app.post(PATH)
    async def predict(request: Request) -> Response:
        [response] = await ask(incoming(await request.body(), request.headers))
        return Response(response.body, response.status, media_type=response.content_type)

    return app
