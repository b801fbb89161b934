"""The recognizer behind FastAPI and uvicorn, started by `uvicorn --factory benchmarks.peers.fastapi_app:create`.

uvicorn runs as its documentation advises for production, with worker processes, uvloop and httptools, but without an
access log (our server writes one) and without batching. `create` computes in the thread pool, as FastAPI advises for
blocking work. `create_on_loop` computes on the event loop, without changing threads. The load decides which is faster.
"""

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool

from benchmarks.peers.shared import PATH, load_from_environment, make_request
from spoter.serving.service import respond


def create(in_threads: bool = True) -> FastAPI:
    """Load the model in this worker process, and return an application that computes in threads or the event loop."""
    recognizer, app = load_from_environment(), FastAPI()

    @app.post(PATH)
    async def predict(request: Request) -> Response:
        requests = [make_request(await request.body(), request.headers)]
        if in_threads:
            [response], _ = await run_in_threadpool(respond, recognizer, requests)
        else:
            [response], _ = respond(recognizer, requests)
        return Response(response.body, response.status, media_type=response.content_type)

    return app


def create_on_loop() -> FastAPI:
    """Load the model in this worker process, and return an application that computes on the event loop."""
    return create(in_threads=False)
