"""A Lambda function that contains the model, without torch and SageMaker: ``spoter.aws.functions.standalone.handler``.

It costs nothing while idle. `build_standalone` zips it with the parts of the `spoter` package that serving needs, their
Python packages, and the model as an ONNX graph in ``model/``. The code is the server's except for the forward pass.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spoter.aws.functions.events import Reply, Request, handle_event

if TYPE_CHECKING:
    from spoter.serving.recognizer import Recognizer

MODEL = Path(__file__).resolve().parents[3] / "model"


@cache
def load() -> Recognizer:
    """Return the function's model, which is loaded once per process; raises `spoter.errors.ModelFolderError`."""
    from spoter.serving.recognizer import Recognizer

    return Recognizer.load(MODEL, runtime="onnx")


def handler(event: Any, context: object) -> Any:
    """Answer an event of API Gateway or a function URL, or a direct invocation, with `handle_event`."""
    from spoter.messages import RawRequest
    from spoter.serving.service import respond

    recognizer = load()
    log_fields: dict[str, object] = {}

    def respond_to_one(request: Request) -> Reply:
        [response], timings = respond(recognizer, [RawRequest(*request)])
        log_fields.update(clips=timings.clips, frames=timings.frames, forward_ms=round(timings.forward_ms, 1))
        if response.error_code is not None:
            log_fields["error"] = response.error_code
        return Reply(response.status, response.content_type, response.body)

    about = {"model": recognizer.config.name, "version": recognizer.config.version}
    return handle_event(event, respond_to_one, about, log_fields)


# The import loads the model in Lambda only. There it runs in the init phase, which has ten seconds in addition to the
# timeout, and which provisioned concurrency runs before the first request (AWS Lambda Developer Guide, "Lambda
# execution environment"; the variable is listed in "Defined runtime environment variables").
if "AWS_LAMBDA_INITIALIZATION_TYPE" in os.environ:
    load()
