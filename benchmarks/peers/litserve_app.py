"""The recognizer behind LitServe: `python -m benchmarks.peers.litserve_app` serves until it is ended.

Left to itself LitServe parses JSON in its HTTP processes and pickles the result over to the processes that compute;
here the body goes over as the bytes that it is, which our decoder wants and which costs far less.
"""

# Without `from __future__ import annotations`: LitServe hands the annotation of `decode_request` to FastAPI as it is.

import os
from typing import Annotated

import litserve
from fastapi import Depends, Request, Response

from benchmarks.peers.shared import BATCH, DELAY, PORT, WORKERS, answer, incoming, load
from spoter.serving import service

PATH = "/predict"


async def read(request: Request) -> service.RawRequest:
    """Take up a request in the HTTP process."""
    return incoming(await request.body(), request.headers)


class Api(litserve.LitAPI):
    """LitServe's four steps; decoding belongs to `spoter.serving.service.respond`, and so happens with the whole batch."""

    def setup(self, device: str) -> None:
        self.recognizer = load()

    def decode_request(self, request: Annotated[service.RawRequest, Depends(read)]) -> service.RawRequest:
        return request

    def batch(self, inputs: list[service.RawRequest]) -> list[service.RawRequest]:
        return inputs

    def predict(self, asked: list[service.RawRequest]) -> list[service.Response]:
        return answer(self.recognizer, asked)

    def unbatch(self, output: list[service.Response]) -> list[service.Response]:
        return output

    def encode_response(self, output: service.Response) -> Response:
        return Response(output.body, output.status, media_type=output.content_type)


def main() -> None:
    """Serve the model that the environment names."""
    api = Api(max_batch_size=BATCH, batch_timeout=DELAY)
    server = litserve.LitServer(
        api, accelerator="cpu", devices=1, workers_per_device=int(os.environ[WORKERS]), fast_queue=True
    )
    server.run("127.0.0.1", int(os.environ[PORT]), log_level="warning", generate_client_file=False, access_log=False)


if __name__ == "__main__":
    main()
