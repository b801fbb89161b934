"""The recognizer behind BentoML, started by `bentoml serve benchmarks.peers.bentoml_app:Peer`.

With adaptive batching in one service: each process gathers its own batches. BentoML makes them of lists that clients
send; the two types below let it take a request's body as a list of one, as it came, and spare the second service, and
the second HTTP request, that its documentation has for such a case. An answer has the status 200 whatever it says: of
a batch BentoML can set only one status.
"""

from __future__ import annotations

import os
from typing import Annotated

import bentoml
from bentoml.validators import ContentType
from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from benchmarks.peers.shared import BATCH, WORKERS, answer, incoming, load
from spoter.formats import JSON

PATH = "/predict"
ANSWER_S = 20  # then it answers 504; under load some request now and then gets no answer before
_BYTES = WithJsonSchema({"type": "string", "format": "binary"})  # or BentoML would parse the body as JSON

OneBody = Annotated[list, BeforeValidator(lambda body: [body]), _BYTES]
OneAnswer = Annotated[list, PlainSerializer(lambda bodies: bodies[0]), _BYTES, ContentType(JSON)]


@bentoml.service(workers=int(os.environ.get(WORKERS, "1")), traffic={"timeout": ANSWER_S})
class Peer:
    """The service; a process of it loads the model once."""

    def __init__(self) -> None:
        self.recognizer = load()

    # How long to wait for a batch it finds out by itself; it drops a request that would take longer than the latency.
    @bentoml.api(route=PATH, batchable=True, max_batch_size=BATCH, max_latency_ms=60_000)
    def predict(self, bodies: OneBody, /) -> OneAnswer:
        asked = [incoming(body, {"content-type": JSON}) for body in bodies]
        return [response.body for response in answer(self.recognizer, asked)]
