"""What stands behind an endpoint of `cloud`: a function from a request to the container to its answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import httpx

from spoter.messages import RawRequest
from spoter.serving.recognizer import Recognizer
from spoter.serving.service import respond, to_record

# body, headers (lower case) -> status, content type, body
Container = Callable[[bytes, Mapping[str, str | None]], tuple[int, str, bytes]]


def in_process(model: Path, in_job: bool = False) -> Container:
    """Answer with a model folder, through the function that every door calls; no container's code is run.

    Parameters
    ----------
    model : Path
    in_job : bool
        Answer as the containers of a transform job do.
    """
    recognizer = Recognizer.load(model)

    def answer(body: bytes, headers: Mapping[str, str | None]) -> tuple[int, str, bytes]:
        attributes = headers.get("x-amzn-sagemaker-custom-attributes")
        incoming = RawRequest(body, headers.get("content-type"), headers.get("accept"), attributes)
        response = respond(recognizer, [incoming])[0][0]
        response = to_record(response) if in_job else response
        return response.status, response.content_type, response.body

    return answer


def over_http(url: str) -> Container:
    """Hand requests on to a URL: /invocations of a container, or /endpoints/NAME/invocations of `deploy.py --local`."""

    def answer(body: bytes, headers: Mapping[str, str | None]) -> tuple[int, str, bytes]:
        kept = {name: value for name, value in headers.items() if value and name in _PASSED}
        response = httpx.post(url, content=body, headers=kept, timeout=60, trust_env=False)
        return response.status_code, response.headers.get("content-type", ""), response.content

    return answer


_PASSED = ("content-type", "accept", "x-amzn-sagemaker-custom-attributes")
