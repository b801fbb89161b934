"""The four functions that AWS's inference toolkit calls in code/inference.py.

The AWS container uses them only if the unpacked model has no MAR-INF/MANIFEST.json at its root. Archives of
`spoter pack` have this file: with it the container runs spoter_handler.py, which is faster because requests share a
forward pass. The toolkit (sagemaker-pytorch-inference 2.0.25) passes `context` to functions that accept it as an
additional argument; callers without the toolkit leave it out.
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
    """Load the model of an unpacked model.tar.gz, on the worker's GPU or else on the CPU.

    Raises `ValueError` if the deployment asks for batches. The toolkit cannot answer them: it gives all requests of a
    batch the headers and the status of the first request.
    """
    batch = os.environ.get("SAGEMAKER_TS_BATCH_SIZE", "1")
    if batch != "1":
        raise ValueError(
            f"found SAGEMAKER_TS_BATCH_SIZE={batch}, expected 1 or no value: code/inference.py answers requests one by "
            "one; use the archive of `spoter pack`, with MAR-INF, for batches"
        )
    sys.path.insert(0, model_dir)  # holds spoter_handler.py and the spoter package, next to code/
    from spoter_handler import load

    _keep_bodies_as_bytes()
    return load(model_dir, 0 if context is None else context.system_properties.get("gpu_id"))


def _keep_bodies_as_bytes() -> None:
    """Make the toolkit pass bodies unchanged.

    It would decode JSON and CSV itself and answer a failure with status 500 and a traceback, not with 400 and a reason.
    """
    types: Any = sys.modules.get("sagemaker_inference.content_types")
    if types is not None:
        types.UTF8_TYPES = []


def input_fn(body: bytes | str | None, content_type: str | None, context: Any = None) -> RawRequest:
    """Return the raw request; `predict_fn` decodes it, because it has the model's layout and limits."""
    from spoter_handler import to_raw_request

    if context is None:
        headers = {"content-type": content_type}
    else:
        headers = context.request_processor[0].get_request_properties()
    return to_raw_request({} if body is None else {"body": body}, headers)  # None: a form without the expected part


def predict_fn(raw: RawRequest, recognizer: Recognizer) -> Response:
    """Answer one request; a wrong request gets a 4xx status and the reason."""
    from spoter_handler import as_records, in_transform_job, respond_each

    responses, _ = respond_each(recognizer, [raw], _stored_videos())
    return (as_records(responses) if in_transform_job() else responses)[0]


@cache
def _stored_videos() -> Fetch | None:
    from spoter_handler import stored_videos

    return stored_videos()


def output_fn(response: Response, accept: str | None, context: Any = None) -> tuple[bytes, str]:
    """Return body and content type; `predict_fn` has already applied the Accept header of the request."""
    if context is not None:
        context.set_response_status(response.status, HTTPStatus(response.status).phrase, 0)
    return response.body, response.content_type
