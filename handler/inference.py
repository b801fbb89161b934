"""SageMaker's functions: the four that AWS's inference toolkit looks for in code/inference.py.

The AWS container uses them only where it does not find MAR-INF/MANIFEST.json at the root of the unpacked model. With
it, as `build_mar.py` writes it, the container runs spoter_handler.py instead, which is better: there requests share a
forward. The toolkit (sagemaker-pytorch-inference 2.0.25) hands `context` to a function that takes one argument more
than it has; by hand, the functions are called without it.
"""

from __future__ import annotations

import os
import sys
from functools import cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spoter.formats.video_format import Fetch
    from spoter.messages import RawRequest, Response
    from spoter.serving.recognizer import Recognizer


def model_fn(model_dir: str, context: Any = None) -> Recognizer:
    """Load the model from the folder that model.tar.gz was unpacked in, on the worker's GPU or else on the CPU.

    Raises `ValueError` where the deployment asks for batches, which the toolkit cannot answer: it gives all requests of
    a batch the first one's headers and status.
    """
    batch = os.environ.get("SAGEMAKER_TS_BATCH_SIZE", "1")
    if batch != "1":
        raise ValueError(
            f"found SAGEMAKER_TS_BATCH_SIZE={batch}, expected 1 or none: code/inference.py answers one by one; "
            "the archive as build_mar.py writes it, with MAR-INF, answers batches"
        )
    sys.path.insert(0, model_dir)  # spoter_handler.py and the spoter package lie there, beside code/
    from spoter_handler import load

    _keep_bodies_as_bytes()
    return load(model_dir, 0 if context is None else context.system_properties.get("gpu_id"))


def _keep_bodies_as_bytes() -> None:
    """Make the toolkit pass bodies unchanged.

    It decodes JSON and CSV itself, and where that fails answers 500 with a traceback; here that is a 400 with a reason.
    """
    types: Any = sys.modules.get("sagemaker_inference.content_types")
    if types is not None:
        types.UTF8_TYPES = []


def input_fn(body: bytes | str | None, content_type: str | None, context: Any = None) -> RawRequest:
    """Return the raw request; `predict_fn`, which has the model's layout and limits, decodes it."""
    from spoter_handler import to_raw_request

    if context is None:
        headers = {"content-type": content_type}
    else:
        headers = context.request_processor[0].get_request_properties()
    return to_raw_request({} if body is None else {"body": body}, headers)  # None: a form without a part of that name


def predict_fn(raw: RawRequest, recognizer: Recognizer) -> Response:
    """Answer one request; a wrong one gets an answer too, with a 4xx status and the reason."""
    from spoter_handler import as_records, in_transform_job, respond_each

    responses, _ = respond_each(recognizer, [raw], _stored_videos())
    return (as_records(responses) if in_transform_job() else responses)[0]


@cache
def _stored_videos() -> Fetch | None:
    from spoter_handler import stored_videos

    return stored_videos()


def output_fn(response: Response, accept: str | None, context: Any = None) -> tuple[bytes, str]:
    """Return body and content type; `accept` was heeded in `predict_fn` already, from the request's own header."""
    if context is not None:
        context.set_response_status(response.status, HTTPStatus(response.status).phrase, 0)
    return response.body, response.content_type
