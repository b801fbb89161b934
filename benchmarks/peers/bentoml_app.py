"""The recognizer behind BentoML, started by `bentoml serve benchmarks.peers.bentoml_app:Peer`.

It uses adaptive batching in one service, so each process gathers separate batches. BentoML expects lists from clients.
The types `OneBody` and `OneAnswer` turn a request's body into a list of one; BentoML's documentation advises a second
service and a second HTTP request for this. Every answer has status 200, because BentoML sets one status per batch.
"""

from __future__ import annotations

import os
from typing import Annotated

import bentoml
from bentoml.validators import ContentType
from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from benchmarks.peers.shared import BATCH, PATH, WORKERS, load_from_environment, make_request
from spoter.formats.request import JSON
from spoter.serving.service import respond

TIMEOUT = 20  # seconds until it answers 504; under load a few requests get no answer within this time
_BYTES = WithJsonSchema({"type": "string", "format": "binary"})  # or BentoML would parse the body as JSON

OneBody = Annotated[list, BeforeValidator(lambda body: [body]), _BYTES]
OneAnswer = Annotated[list, PlainSerializer(lambda bodies: bodies[0]), _BYTES, ContentType(JSON)]


@bentoml.service(workers=int(os.environ.get(WORKERS, "1")), traffic={"timeout": TIMEOUT})
class Peer:
    """The service; each of its processes loads the model once."""

    def __init__(self) -> None:
        self.recognizer = load_from_environment()

    # BentoML adapts the wait for a batch, and drops requests that would take longer than max_latency_ms.
    @bentoml.api(route=PATH, batchable=True, max_batch_size=BATCH, max_latency_ms=60_000)
    def predict(self, bodies: OneBody, /) -> OneAnswer:
        """Answer a batch."""
        requests = [make_request(body, {"content-type": JSON}) for body in bodies]
        return [response.body for response in respond(self.recognizer, requests)[0]]
