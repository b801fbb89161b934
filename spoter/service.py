"""Bytes in, bytes out: the one way in which a batch of requests is answered, whichever door they came through.

A door hands over bodies with their headers and gets back bodies with their status; it decides nothing itself, so that
`spoter predict`, TorchServe's handler and SageMaker's functions give the same answers to the same bytes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec

from spoter.errors import InputError
from spoter.formats import JSON, Request, choose_accept, decode, encode, parse_attributes
from spoter.formats.answers import Answer
from spoter.recognizer import Costs, Recognizer

# What is wrong with how a request is sent rather than with what it holds; docs/errors.md lists the codes.
_OF_THE_SENDER = ("bad_attributes", "not_acceptable", "too_many_clips", "unsupported_content_type")


@dataclass(frozen=True)
class Incoming:
    """A request as it arrives.

    Attributes
    ----------
    body : bytes, bytearray, str, or what JSON can hold
        As the model server hands it over; parsed JSON where the server insists on parsing.
    content_type, accept, attributes : str or None
        The headers Content-Type, Accept and X-Amzn-SageMaker-Custom-Attributes.
    """

    body: bytes | bytearray | memoryview | str | dict | list | float | None
    content_type: str | None = None
    accept: str | None = None
    attributes: str | None = None


@dataclass(frozen=True)
class Response:
    """An answer as it leaves; `error_code` is None where at least one clip was answered."""

    status: int
    content_type: str
    body: bytes
    error_code: str | None = None


def respond(recognizer: Recognizer, incoming: Sequence[Incoming]) -> tuple[list[Response], Costs]:
    """Answer a batch of requests, all of their clips together.

    A wrong request gets its 4xx and leaves the others alone. A request of several clips is answered with 200 where at
    least one of them could be read, with the errors in the others' places, and with the first clip's status otherwise.

    Returns
    -------
    list of Response, Costs
        One response for each request, in order, and what the whole batch took.
    """
    costs = Costs()
    started = time.perf_counter()
    decoded = [_decode(recognizer, item) for item in incoming]
    costs.decode_ms = 1e3 * (time.perf_counter() - started)

    good = [item for item in decoded if not isinstance(item, InputError)]
    clips = [clip for request, _ in good for clip in request.clips]
    answers = recognizer.recognize(clips, max((request.top_k for request, _ in good), default=1), costs)

    responses, position = [], 0
    for item in decoded:
        if isinstance(item, InputError):
            costs.bad_inputs += 1
            responses.append(error_response(item))
            continue
        request, accept = item
        mine = answers[position : position + len(request.clips)]
        position += len(mine)
        costs.bad_inputs += sum(isinstance(answer, InputError) for answer in mine)
        responses.append(_respond(request, mine, accept))
    return responses, costs


def error_response(error: InputError) -> Response:
    """Return the response to a request that is wrong as a whole."""
    return Response(error.status, JSON, msgspec.json.encode(error.to_dict()), error.code)


def as_record(response: Response) -> Response:
    """Return a response as one record of a job that any status but 200 would end, and that joins all bodies.

    A record that is wrong gets 200, with its error in its place. What would be wrong with every record of the job, and
    a failure of our own, keep their status. A body ends in exactly one line end, so that joined lines stay lines.
    """
    wrong_record = 400 <= response.status < 500 and response.error_code not in _OF_THE_SENDER
    status = 200 if wrong_record else response.status
    return replace(response, status=status, body=response.body.rstrip(b"\n") + b"\n")


def _decode(recognizer: Recognizer, item: Incoming) -> tuple[Request, str] | InputError:
    try:
        options = parse_attributes(item.attributes)
        request = decode(item.body, item.content_type, recognizer.layout, recognizer.limits, options)
        return request, choose_accept(item.accept, request)
    except InputError as error:
        return error


def _respond(request: Request, answers: list[Answer | InputError], accept: str) -> Response:
    answers = [
        answer
        if isinstance(answer, InputError)
        else msgspec.structs.replace(answer, instances=answer.instances[: request.top_k])
        for answer in answers
    ]
    errors = [answer for answer in answers if isinstance(answer, InputError)]
    if errors and not request.many:
        return error_response(errors[0])
    failed = len(errors) == len(answers)
    status = errors[0].status if failed else 200
    return Response(status, accept, encode(request, answers, accept), errors[0].code if failed else None)
