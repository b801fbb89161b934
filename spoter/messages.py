"""Requests as they arrive and responses as they leave, for all transports: HTTP, the command line, a batch."""

from dataclasses import dataclass

import msgspec

from spoter.errors import InputError
from spoter.formats.request import JSON


@dataclass(frozen=True)
class RawRequest:
    """A request as it arrives: its body and the relevant headers."""

    body: bytes
    content_type: str | None = None
    accept: str | None = None
    attributes: str | None = None  # X-Amzn-SageMaker-Custom-Attributes
    content_encoding: str | None = None


@dataclass(frozen=True)
class Response:
    """A response as it leaves; `error_code` is None if at least one clip has a prediction."""

    status: int
    content_type: str
    body: bytes
    error_code: str | None = None


def error_response(error: InputError) -> Response:
    """Return the response to a request that is wrong as a whole."""
    return Response(error.status, JSON, msgspec.json.encode(error.to_dict()), error.code)
