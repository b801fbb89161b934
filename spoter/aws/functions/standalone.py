"""The model inside a Lambda function, without torch and without SageMaker: for who wants to pay nothing while idle.

`spoter/aws/functions/build_standalone.py` zips this file, as the function's ``lambda_serve.handler``, with `lambda_events`, the parts of the
`spoter` package that serve, the packages of lambda_serve_requirements.txt, and the model as a graph in ``model/``.
The answers are the server's: all but the forward is the same code.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from spoter.aws.functions.events import answer

if TYPE_CHECKING:
    from spoter.serving.recognizer import Recognizer

MODEL = Path(__file__).resolve().parents[3] / "model"


@cache
def load() -> Recognizer:
    """Return the model of this function, read once in a process; raises `spoter.errors.ModelFolderError`."""
    from spoter.serving.recognizer import Recognizer

    return Recognizer.load(MODEL, runtime="onnx")


def handler(event: object, context: object) -> dict | list | str:
    """Answer an event of API Gateway, of a function URL, or a direct invocation (`events.answer`)."""
    from spoter.messages import RawRequest
    from spoter.serving.service import respond as serve

    recognizer = load()
    notes: dict[str, object] = {}

    def respond(body: bytes, content_type: str | None, accept: str | None, attributes: str | None):
        [response], timings = serve(recognizer, [RawRequest(body, content_type, accept, attributes)])
        notes.update(clips=timings.clips, frames=timings.frames, forward_ms=round(timings.forward_ms, 1))
        if response.error_code is not None:
            notes["error"] = response.error_code
        return response.status, response.content_type, response.body

    about = {"model": recognizer.config.name, "version": recognizer.config.version}
    return answer(event, respond, about, notes)


# Nothing happens at an import, except where Lambda imports this file: there that is the init phase, which has ten
# seconds of its own, and which provisioned concurrency goes through ahead of the first request (AWS Lambda Developer
# Guide, "Lambda execution environment"; the variable is of its "Defined runtime environment variables").
if "AWS_LAMBDA_INITIALIZATION_TYPE" in os.environ:
    load()
