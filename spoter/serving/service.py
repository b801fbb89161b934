"""Bytes in, bytes out: the one way in which a batch of requests is answered, whichever door they came through.

A door hands over bodies with their headers and gets back bodies with their status; it decides nothing itself, so that
`spoter predict`, TorchServe's handler and SageMaker's functions give the same answers to the same bytes, up to the
rounding of scores (docs/formats.md).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec

from spoter.error_codes import ErrorCode
from spoter.errors import InputError
from spoter.fewshot.enrolled import EnrolledGloss, EnrolledGlosses, merge_enrolled
from spoter.fewshot.vocabulary import Vocabulary
from spoter.formats import JSON, Request, choose_accept, decode, encode, parse_attributes
from spoter.formats.request import Video, quote
from spoter.formats.response import Prediction, encode_enrolment
from spoter.formats.video_format import Fetch, read_videos
from spoter.limits import VIDEO_SECONDS
from spoter.messages import RawRequest, Response, error_response
from spoter.serving.describe import describe
from spoter.serving.recognizer import Recognizer, Timings

# What is wrong with how a request is sent rather than with what it holds; docs/errors.md lists the codes.
_OF_THE_SENDER = (
    "bad_attributes",
    "no_stored_videos",
    "not_acceptable",
    "too_many_clips",
    "unsupported_content_encoding",
    "unsupported_content_type",
)


@dataclass(frozen=True)
class _ParsedRequest:
    """A request that was read.

    Attributes
    ----------
    request : Request
    accept : str
        Type of its answer.
    enrolled : tuple of EnrolledGloss
        The model folder's and the request's own, checked.
    vocabulary : Vocabulary
        What its clips are named with.
    """

    request: Request
    accept: str
    enrolled: tuple[EnrolledGloss, ...]
    vocabulary: Vocabulary


def respond(
    recognizer: Recognizer, raw: Sequence[RawRequest], fetch: Fetch | None = None, deadline: float | None = None
) -> tuple[list[Response], Timings]:
    """Answer a batch of requests, all of their clips together.

    A wrong request gets its 4xx and leaves the others alone. A request of several clips is answered with 200 where at
    least one of them could be read, with the errors in the others' places, and with the first clip's status otherwise.

    Parameters
    ----------
    recognizer : Recognizer
    incoming : sequence of RawRequest
    fetch : callable, optional
        Gets videos that are named by a key; without it such requests are refused.
    deadline : float, optional
        Of `time.monotonic`: videos that are not read by then are given up. `VIDEO_SECONDS` from now unless given.

    Returns
    -------
    list of Response, Timings
        One response for each request, in order, and what the whole batch took.
    """
    timings = Timings()
    started = time.perf_counter()
    decoded = [_decode(recognizer, item) for item in raw]
    timings.decode_ms = 1e3 * (time.perf_counter() - started)
    _read_videos(recognizer, decoded, fetch, deadline or time.monotonic() + VIDEO_SECONDS, timings)

    named = [item for item in decoded if isinstance(item, _ParsedRequest) and item.request.enroll is None]
    clips = [clip for asked in named for clip in asked.request.clips]
    vocabularies = [asked.vocabulary for asked in named for _ in asked.request.clips]
    top_k = max((asked.request.top_k for asked in named), default=1)
    answers = recognizer.recognize(clips, top_k, timings, vocabularies)

    responses, position = [], 0
    for item in decoded:
        if isinstance(item, InputError):
            timings.bad_inputs += item.status < 500
            responses.append(error_response(item))
            continue
        request = item.request
        if request.describe:
            responses.append(Response(200, JSON, msgspec.json.encode(describe(recognizer))))
            continue
        if request.enroll is not None:
            responses.append(_enroll(recognizer, item, timings))
            continue
        mine = answers[position : position + len(request.clips)]
        position += len(mine)
        timings.bad_inputs += sum(isinstance(answer, InputError) and answer.status < 500 for answer in mine)
        responses.append(_respond(request, mine, item.accept))
    return responses, timings


def _read_videos(
    recognizer: Recognizer,
    decoded: list[_ParsedRequest | InputError],
    fetch: Fetch | None,
    deadline: float,
    timings: Timings,
) -> None:
    """Put clips, or errors, in the places of the videos in a batch's requests; all of them are read side by side."""
    started = time.perf_counter()
    requests = [item.request for item in decoded if not isinstance(item, InputError)]
    waiting = [request for request in requests if any(isinstance(clip, Video) for clip in request.clips)]
    if not waiting:
        return
    videos = [request.clips[0] for request in waiting]  # its only clip
    clips = read_videos(videos, recognizer.layout, recognizer.limits, fetch, deadline)
    for request, clip in zip(waiting, clips, strict=True):
        request.clips = [clip]
    timings.videos = len(videos)
    timings.video_ms = 1e3 * (time.perf_counter() - started)


def to_record(response: Response) -> Response:
    """Return a response as one record of a job that any status but 200 would end, and that joins all bodies.

    A record that is wrong gets 200, with its error in its place. What would be wrong with every record of the job, and
    a failure of our own, keep their status. A body ends in exactly one line end, so that joined lines stay lines.
    """
    wrong_record = 400 <= response.status < 500 and response.error_code not in _OF_THE_SENDER
    status = 200 if wrong_record else response.status
    return replace(response, status=status, body=response.body.rstrip(b"\n") + b"\n")


def _decode(recognizer: Recognizer, item: RawRequest) -> _ParsedRequest | InputError:
    try:
        _check_encoding(item.content_encoding)
        options = parse_attributes(item.attributes)
        request = decode(item.body, item.content_type, recognizer.layout, recognizer.limits, options)
        accept = choose_accept(item.accept, request)
        enrolled, vocabulary = recognizer.enrolled, recognizer.vocabulary
        if request.enrolled is not None:
            enrolled = recognizer.check_enrolled(request.enrolled)
            vocabulary = Vocabulary.build(recognizer.trained, recognizer.prototypes, enrolled)
        return _ParsedRequest(request, accept, enrolled, vocabulary)
    except InputError as error:
        return error


def _check_encoding(coding: str | None) -> None:
    """Refuse a compressed body: what a few bytes of it may unpack to has no bound that its sender would know."""
    if coding is not None and coding.strip().lower() not in ("", "identity"):
        raise InputError(
            ErrorCode.UNSUPPORTED_CONTENT_ENCODING,
            f"found {quote(coding, 40)}, expected a body that is not compressed; the compact form is 50 times smaller "
            "than full landmarks",
            "header Content-Encoding",
        )


def _enroll(recognizer: Recognizer, asked: _ParsedRequest, timings: Timings) -> Response:
    """Learn a gloss from a request's clips and hand it back with those that the request brought: nothing is kept."""
    request = asked.request
    try:
        for clip in request.clips:
            if isinstance(clip, InputError):
                raise clip
        done = recognizer.enroll(request.enroll, request.clips, asked.enrolled, timings=timings)
        brought = request.enrolled.glosses if request.enrolled else ()
        glosses = merge_enrolled(brought, [done.learned])
        recognizer.limits.check_enrolled(len(glosses))
    except InputError as error:
        timings.bad_inputs += error.status < 500
        return error_response(error)
    enrolled = EnrolledGlosses(recognizer.prototypes.space, glosses)
    return Response(200, JSON, encode_enrolment(done, enrolled))


def _respond(request: Request, answers: list[Prediction | InputError], accept: str) -> Response:
    answers = [
        answer
        if isinstance(answer, InputError)
        else msgspec.structs.replace(answer, instances=answer.glosses[: request.top_k])
        for answer in answers
    ]
    errors = [answer for answer in answers if isinstance(answer, InputError)]
    if errors and not request.many:
        return error_response(errors[0])
    failed = len(errors) == len(answers)
    status = errors[0].status if failed else 200
    return Response(status, accept, encode(request, answers, accept), errors[0].code if failed else None)
