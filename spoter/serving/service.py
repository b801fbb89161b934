"""Bytes in, bytes out: every entry point answers its batches of requests with this code.

An entry point passes bodies with headers and gets bodies with a status. It makes no decision itself, so that
`spoter predict`, TorchServe's handler and SageMaker's functions give the same answers to the same bytes, except for the
rounding of scores (docs/formats.md).
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice

import msgspec

from spoter import __version__
from spoter.error_codes import ErrorCode
from spoter.errors import InputError
from spoter.fewshot.enrolled import EnrolledGloss, EnrolledGlosses, Vocabulary, merge_enrolled
from spoter.formats import Request, content_types, decode
from spoter.formats.request import JSON, VIDEOS, parse_attributes, quote
from spoter.formats.response import PredictionOrError, choose_accept, encode, encode_enrolment
from spoter.formats.video_format import Fetch, read_videos
from spoter.landmarks.estimators import MEDIAPIPE
from spoter.limits import VIDEO_SECONDS
from spoter.messages import RawRequest, Response, error_response
from spoter.serving.recognizer import Recognizer, Timings

# Errors in how requests are sent, not in their content: all records of a batch job have the same error.
_ERRORS_OF_ALL_RECORDS = (
    ErrorCode.BAD_ATTRIBUTES,
    ErrorCode.NO_STORED_VIDEOS,
    ErrorCode.NOT_ACCEPTABLE,
    ErrorCode.TOO_MANY_CLIPS,
    ErrorCode.UNSUPPORTED_CONTENT_ENCODING,
    ErrorCode.UNSUPPORTED_CONTENT_TYPE,
)


@dataclass(frozen=True)
class _ParsedRequest:
    """A request, its response's content type, and the glosses to choose from: the folder's and the request's."""

    request: Request
    accept: str
    enrolled: tuple[EnrolledGloss, ...]
    vocabulary: Vocabulary


def respond(
    recognizer: Recognizer, raw: Sequence[RawRequest], fetch: Fetch | None = None, deadline: float | None = None
) -> tuple[list[Response], Timings]:
    """Answer a batch of requests; compute all of their clips together.

    A wrong request gets its 4xx status and does not affect the others. The response to a request with several clips has
    status 200 if at least one clip is usable, with errors in the places of the others; otherwise it has the first
    clip's status.

    Parameters
    ----------
    recognizer, raw
        The loaded model and the requests.
    fetch : callable, optional
        Fetches videos that requests name by key; without it such requests are refused.
    deadline : float, optional
        Time of `time.monotonic` at which to give up on videos; by default `VIDEO_SECONDS` from now.

    Returns
    -------
    list of Response, Timings
        One response for each request, in order, and the timings of the whole batch.
    """
    timings = Timings()
    started = time.perf_counter()
    batch = [_parse(recognizer, item) for item in raw]
    timings.decode_ms = 1e3 * (time.perf_counter() - started)
    parsed = [item for item in batch if isinstance(item, _ParsedRequest)]
    _read_videos(
        recognizer, [item.request for item in parsed], fetch, deadline or time.monotonic() + VIDEO_SECONDS, timings
    )

    to_recognize = [item for item in parsed if item.request.enroll is None]
    clips = [clip for item in to_recognize for clip in item.request.clips]
    vocabularies = [item.vocabulary for item in to_recognize for _ in item.request.clips]
    top_k = max((item.request.top_k for item in to_recognize), default=1)
    answers = iter(recognizer.recognize(clips, top_k, timings, vocabularies))

    responses, errors = [], []
    for item in batch:
        if isinstance(item, InputError):
            response, bad = error_response(item), [item]
        elif item.request.describe:
            response, bad = Response(200, JSON, msgspec.json.encode(describe(recognizer))), []
        elif item.request.enroll is not None:
            response, bad = _enroll(recognizer, item, item.request.enroll, timings)
        else:
            response, bad = _encode(item, list(islice(answers, len(item.request.clips))))
        responses.append(response)
        errors += bad
    timings.bad_inputs = sum(error.status < 500 for error in errors)
    return responses, timings


def to_record(response: Response) -> Response:
    """Return a response as a record of a batch job, which stops at any status except 200 and joins all bodies.

    A wrong record gets status 200, with its error in its place. Errors of all records and failures of the server keep
    their status. A body ends with exactly one newline, so that each joined body remains one line.
    """
    wrong_record = 400 <= response.status < 500 and response.error_code not in _ERRORS_OF_ALL_RECORDS
    status = 200 if wrong_record else response.status
    return replace(response, status=status, body=response.body.rstrip(b"\n") + b"\n")


def describe(recognizer: Recognizer) -> dict[str, object]:
    """Return the description of a loaded model, for JSON: the response to ``{"describe": true}``.

    docs/http.md lists the keys. ``layout.mediapipe`` holds the index of each landmark in MediaPipe's 543 points; 543
    for the mean of the shoulders, None if MediaPipe does not have the landmark.
    """
    config, layout = recognizer.config, recognizer.layout
    types = content_types()
    video = any(kind in VIDEOS for kind in types)
    limits = asdict(recognizer.limits)
    return {
        "name": config.name,
        "version": config.version,
        "glosses": recognizer.glosses,
        "enrolled": [gloss.gloss for gloss in recognizer.enrolled],
        "layout": {
            "name": layout.name,
            "landmarks": layout.names,
            "mediapipe": [landmark.index.get(MEDIAPIPE.name) for landmark in layout.landmarks],
        },
        "estimator": config.estimator,
        "tells_unknown": config.known_threshold is not None,
        "enrolment": recognizer.prototypes is not None,
        "limits": {name: value for name, value in limits.items() if video or not name.startswith("max_video_")},
        "content_types": types,
        "video": video,
        "spoter": __version__,
    }


def _parse(recognizer: Recognizer, raw: RawRequest) -> _ParsedRequest | InputError:
    try:
        coding = (raw.content_encoding or "").strip()
        if coding.lower() not in ("", "identity"):  # a few compressed bytes may unpack to any size
            raise InputError(
                ErrorCode.UNSUPPORTED_CONTENT_ENCODING,
                f"found {quote(coding)}, expected an uncompressed body; the compact form is 50 times smaller than full "
                "landmarks",
                "header Content-Encoding",
            )
        options = parse_attributes(raw.attributes)
        request = decode(raw.body, raw.content_type, recognizer.layout, recognizer.limits, options)
        accept = choose_accept(raw.accept, request)
        enrolled, vocabulary = recognizer.enrolled, recognizer.vocabulary
        if request.enrolled is not None:
            enrolled = recognizer.combine_enrolled(request.enrolled)
            vocabulary = Vocabulary.build(recognizer.trained, recognizer.prototypes, enrolled)
        return _ParsedRequest(request, accept, enrolled, vocabulary)
    except InputError as error:
        return error


def _read_videos(
    recognizer: Recognizer, requests: Sequence[Request], fetch: Fetch | None, deadline: float, timings: Timings
) -> None:
    """Read the videos of a batch in parallel; each becomes the only clip of its request."""
    started = time.perf_counter()
    videos = {i: request.video for i, request in enumerate(requests) if request.video is not None}
    if not videos:
        return
    clips = read_videos(list(videos.values()), recognizer.layout, recognizer.limits, fetch, deadline)
    for i, clip in zip(videos, clips, strict=True):
        requests[i].clips = [clip]
    timings.videos = len(videos)
    timings.video_ms = 1e3 * (time.perf_counter() - started)


def _enroll(
    recognizer: Recognizer, parsed: _ParsedRequest, gloss: str, timings: Timings
) -> tuple[Response, list[InputError]]:
    """Learn a gloss from a request's clips; respond with it and the request's glosses. The server stores nothing."""
    request = parsed.request
    try:
        enrolment = recognizer.enroll(gloss, request.clips, parsed.enrolled, timings=timings)
        glosses = merge_enrolled(request.enrolled.glosses if request.enrolled else (), [enrolment.learned])
        recognizer.limits.check_enrolled(len(glosses))
        enrolled = EnrolledGlosses(recognizer.require_prototypes().space, glosses)
    except InputError as error:
        return error_response(error), [error]
    return Response(200, JSON, encode_enrolment(enrolment, enrolled)), []


def _encode(parsed: _ParsedRequest, answers: Sequence[PredictionOrError]) -> tuple[Response, list[InputError]]:
    """Return the response for the answers to a request's clips, and the errors among them."""
    request, accept = parsed.request, parsed.accept
    errors = [answer for answer in answers if isinstance(answer, InputError)]
    if errors and not request.many:
        return error_response(errors[0]), errors
    failed = len(errors) == len(answers)
    status, code = (errors[0].status, errors[0].code) if failed else (200, None)
    return Response(status, accept, encode(request, answers, accept), code), errors
