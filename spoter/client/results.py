"""Typed answers of a server."""

from collections.abc import Sequence
from typing import TypeVar

import msgspec

from spoter.client.errors import RequestError, UnexpectedAnswerError
from spoter.errors import InputError
from spoter.fewshot.enrolled import EnrolledGlosses
from spoter.formats.response import Prediction
from spoter.landmarks.layouts import BUILT_IN, Landmark, Layout, load_layout
from spoter.limits import Limits
from spoter.messages import Response

SEVERAL_ERRORS = "several"
"""Replaces the error code of a response in which each clip has an error."""

_T = TypeVar("_T")


class LayoutDescription(msgspec.Struct, frozen=True):
    """A model's input landmarks, in order, with their indices in MediaPipe's 544 points (the last is the neck)."""

    name: str
    landmarks: tuple[str, ...]
    mediapipe: tuple[int | None, ...]

    def to_layout(self) -> Layout:
        """Return a `Layout` that selects from clips.

        A custom layout has only MediaPipe's indices; clips of other estimators are sent with all points.
        """
        if self.name in BUILT_IN:
            return load_layout(self.name)
        landmarks = (
            Landmark(name, name.partition("_")[0], None, {} if index is None else {"mediapipe": index})
            for name, index in zip(self.landmarks, self.mediapipe, strict=True)
        )
        return Layout(self.name, tuple(landmarks))


class Description(msgspec.Struct, frozen=True):
    """Description of a server's model, written by `spoter.serving.service.describe`."""

    name: str
    version: str
    glosses: tuple[str, ...]  # by label index; the enrolled ones come last
    enrolled: tuple[str, ...]
    layout: LayoutDescription
    estimator: str  # source of the landmarks that the model was trained on
    tells_unknown: bool  # whether the model detects unknown signs
    enrolment: bool  # whether it can learn signs from clips
    limits: Limits  # limits of videos apply only if `video` is true
    content_types: tuple[str, ...]
    video: bool  # whether the server reads video
    spoter: str  # version of the server's code


class Enrolment(msgspec.Struct, frozen=True):
    """A sign learned from clips, for `predict`, for the next `enroll`, or for enrolled.json in a model folder.

    `agreement` is the smallest cosine between two of its clips: about 0 for clips of different signs, 1 for a single
    clip. `similarity` is the cosine between the new gloss and `nearest`, the gloss most easily confused with it.
    """

    enrolled: EnrolledGlosses  # content of enrolled.json: the glosses passed to `enroll`, then the new one
    agreement: float
    nearest: str
    similarity: float


class ErrorBody(msgspec.Struct):
    """The JSON document of an error."""

    code: str
    message: str
    where: str | None = None


class _MaybeError(msgspec.Struct):
    error: ErrorBody | None = None


class _Answers(msgspec.Struct):
    answers: list[msgspec.Raw]


def parse_result(response: Response, kind: type[_T]) -> _T:
    """Return a response's document.

    Raise `RequestError` if the server refused the request, `UnexpectedAnswerError` for another kind of document.
    """
    if response.status != 200:
        raise _refusal(response)
    return _decode(response.body, kind)


def parse_results(response: Response, numbers: Sequence[int]) -> list[Prediction | InputError]:
    """Return the answers to a request with several clips; an unusable clip has an error in its place.

    `numbers` are the caller's numbers of the clips, for the places of errors. If the body is too large for the server,
    each of its clips gets that error, because other requests may be smaller. Raise the errors of `parse_result` if the
    server refused the request for a reason other than its clips.
    """
    if response.status == 413:
        refusal = _refusal(response)
        return [RequestError(refusal.code, refusal.message, f"clip {number}", 413) for number in numbers]
    if response.status != 200 and response.error_code != SEVERAL_ERRORS:
        raise _refusal(response)
    answers = _decode(response.body, _Answers).answers
    if len(answers) != len(numbers):
        raise _unexpected(f"{len(answers)} answers to {len(numbers)} clips")
    return [_parse_one(raw, i, number) for i, (raw, number) in enumerate(zip(answers, numbers, strict=True))]


def _parse_one(raw: msgspec.Raw, position: int, number: int) -> Prediction | InputError:
    error = _decode(raw, _MaybeError).error
    if error is None:
        return _decode(raw, Prediction)
    inner = (error.where or "").removeprefix(f"clip {position}").removeprefix(", ")
    return RequestError(error.code, error.message, ", ".join(filter(None, (f"clip {number}", inner))), 400)


def _refusal(response: Response) -> RequestError | UnexpectedAnswerError:
    error = _decode(response.body, _MaybeError).error
    if error is None:
        return _unexpected("an error without a code")
    return RequestError(error.code, error.message, error.where, response.status)


def _decode(body: bytes | msgspec.Raw, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        raise _unexpected(str(error)) from None


def _unexpected(problem: str) -> UnexpectedAnswerError:
    return UnexpectedAnswerError("unexpected_answer", f"found an unknown kind of answer ({problem}); check the address")
