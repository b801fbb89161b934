"""SageMaker's door to SPOTER: the four functions that AWS's inference toolkit looks for in code/inference.py.

The AWS container uses them only where it does not find MAR-INF/MANIFEST.json at the root of the unpacked model. With
it, as `build_mar.py` writes it, the container runs spoter_handler.py instead, which is better: there requests share a
forward. The toolkit hands `context` to a function that takes one argument more than it has.
"""

from __future__ import annotations

import sys
from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spoter.recognizer import Recognizer
    from spoter.service import Incoming, Response


def model_fn(model_dir: str) -> Recognizer:
    """Load the model from the folder that model.tar.gz was unpacked in, on the first GPU or else on the CPU."""
    sys.path.insert(0, model_dir)  # the spoter package lies there, beside code/; the container knows only code/
    import torch

    from spoter.recognizer import Recognizer

    torch.set_num_threads(1)  # the container starts a worker for each core
    return Recognizer.load(model_dir, "cuda:0" if torch.cuda.is_available() else "cpu")


def input_fn(body: bytes | str, content_type: str | None, context=None) -> Incoming:
    """Take up a request; it is read in `predict_fn`, which knows the model's layout and limits."""
    from spoter.service import Incoming

    headers = context.request_processor[0].get_request_properties() if context is not None else {}
    headers = {name.lower(): value for name, value in headers.items()}
    return Incoming(
        body,
        content_type=content_type,
        accept=headers.get("accept"),
        attributes=headers.get("x-amzn-sagemaker-custom-attributes"),
    )


def predict_fn(incoming: Incoming, recognizer: Recognizer) -> Response:
    """Answer one request; a wrong one gets an answer too, with a 4xx status and the reason."""
    from spoter_handler import respond_each  # it lies beside the spoter package

    responses, _ = respond_each(recognizer, [incoming])
    return responses[0]


def output_fn(response: Response, accept: str | None, context=None) -> tuple[bytes, str]:
    """Return body and content type; `accept` was heeded in `predict_fn` already, from the request's own header."""
    if context is not None:
        context.set_response_status(response.status, HTTPStatus(response.status).phrase, 0)
    return response.body, response.content_type
