"""The recognizer behind LitServe: `python -m benchmarks.peers.litserve_app` serves until it is stopped.

By default LitServe parses JSON in its HTTP processes and pickles the result for the computing processes. Here the body
remains bytes for our decoder, which is much cheaper.
"""

# No `from __future__ import annotations`: LitServe passes the annotation of `decode_request` to FastAPI unchanged.

import os
from typing import Annotated

import litserve
from fastapi import Depends, Request, Response

from benchmarks.peers.shared import BATCH, DELAY, PORT, WORKERS, load_from_environment, make_request
from spoter import messages
from spoter.serving.service import respond


async def read_request(request: Request) -> messages.RawRequest:
    """Read a request in the HTTP process."""
    return make_request(await request.body(), request.headers)


class _Api(litserve.LitAPI):
    """LitServe's steps; `predict` also decodes the batch, as part of `spoter.serving.service.respond`."""

    def setup(self, device: str) -> None:
        self.recognizer = load_from_environment()

    def decode_request(self, request: Annotated[messages.RawRequest, Depends(read_request)]) -> messages.RawRequest:
        return request

    def batch(self, inputs: list[messages.RawRequest]) -> list[messages.RawRequest]:
        return inputs  # a batch stays a list

    def predict(self, requests: list[messages.RawRequest]) -> list[messages.Response]:
        return respond(self.recognizer, requests)[0]

    def unbatch(self, output: list[messages.Response]) -> list[messages.Response]:
        return output

    def encode_response(self, output: messages.Response) -> Response:
        return Response(output.body, output.status, media_type=output.content_type)


def main() -> None:
    """Serve the model named by the environment variables of `benchmarks.peers.shared`."""
    api = _Api(max_batch_size=BATCH, batch_timeout=DELAY)
    workers = int(os.environ[WORKERS])
    server = litserve.LitServer(api, accelerator="cpu", devices=1, workers_per_device=workers, fast_queue=True)
    server.run("127.0.0.1", int(os.environ[PORT]), log_level="warning", generate_client_file=False, access_log=False)


if __name__ == "__main__":
    main()
