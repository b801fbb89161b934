"""A Lambda function with the model inside, without torch and SageMaker: ``spoter.aws.functions.standalone.handler``.

It costs nothing while idle. `build_standalone` zips it with the parts of the `spoter` package that serve, their Python
packages, and the model as a graph in ``model/``. The answers are the server's: all code but the forward is the same.
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
    """Return the model of this function, read once in a process; raises `spoter.errors.ModelFolderError`."""
    from spoter.serving.recognizer import Recognizer

    return Recognizer.load(MODEL, runtime="onnx")


def handler(event: Any, context: object) -> Any:
    """Answer an event of API Gateway, of a function URL, or a direct invocation (`handle_event`)."""
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


# An import loads the model in Lambda only: there it is the init phase, which has ten seconds in addition to the
# timeout, and which provisioned concurrency runs before the first request (AWS Lambda Developer Guide, "Lambda
# execution environment"; the variable is one of its "Defined runtime environment variables").
if "AWS_LAMBDA_INITIALIZATION_TYPE" in os.environ:
    load()
