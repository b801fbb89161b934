"""Containers for the endpoints of `cloud`: functions from a request to its answer."""

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
    """Answer with a model folder through `respond`, which every entry point calls; no container code runs.

    Parameters
    ----------
    model : Path
        Model folder.
    in_job : bool
        Answer as a container of a transform job.
    """
    recognizer = Recognizer.load(model)

    def answer(body: bytes, headers: Mapping[str, str | None]) -> tuple[int, str, bytes]:
        attributes = headers.get("x-amzn-sagemaker-custom-attributes")
        request = RawRequest(body, headers.get("content-type"), headers.get("accept"), attributes)
        response = respond(recognizer, [request])[0][0]
        response = to_record(response) if in_job else response
        return response.status, response.content_type, response.body

    return answer


def over_http(url: str) -> Container:
    """Forward requests to a URL: /invocations of a container, or the endpoint of `spoter deploy --local`."""

    def answer(body: bytes, headers: Mapping[str, str | None]) -> tuple[int, str, bytes]:
        forwarded = {name: value for name, value in headers.items() if value and name in _FORWARDED}
        response = httpx.post(url, content=body, headers=forwarded, timeout=60, trust_env=False)
        return response.status_code, response.headers.get("content-type", ""), response.content

    return answer


_FORWARDED = ("content-type", "accept", "x-amzn-sagemaker-custom-attributes")
