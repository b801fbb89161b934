"""What a server answers, typed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import msgspec

from spoter.client.errors import RequestError, UnexpectedAnswerError
from spoter.errors import InputError
from spoter.fewshot.enrolled import EnrolledGlosses
from spoter.formats.response import Ranked
from spoter.landmarks.layouts import BUILT_IN, Landmark, Layout, load_layout
from spoter.limits import Limits
from spoter.messages import Response

SEVERAL = "several"
"""In place of an error's code: each clip of a request has an error of its own."""

_T = TypeVar("_T")


class ModelName(msgspec.Struct, frozen=True):
    """Which model answered."""

    name: str
    version: str


class Prediction(msgspec.Struct, frozen=True, rename={"glosses": "instances"}):
    """What a model says about one clip.

    Attributes
    ----------
    glosses : tuple of Ranked
        Each with `gloss`, `score` (a probability among the glosses the model knows) and `index` (the label index), best
        first.
    known : bool or None
        Whether the sign looks like the clips of the gloss that comes first; False means "none of my signs", whatever
        the scores are; None that this model cannot tell.
    frames : int
        Length of the clip, as the server read it.
    model : ModelName
    similarity : float or None
        The cosine by which `known` was decided, where the server sends it.
    """

    glosses: tuple[Ranked, ...]
    known: bool | None
    frames: int
    model: ModelName
    similarity: float | None = None

    @property
    def gloss(self) -> str:
        """The gloss that comes first."""
        return self.glosses[0].gloss

    @property
    def score(self) -> float:
        """Its score."""
        return self.glosses[0].score


class LayoutOf(msgspec.Struct, frozen=True):
    """The landmarks a model is fed, in order, and where MediaPipe's array has each (544 points, the last the neck)."""

    name: str
    landmarks: tuple[str, ...]
    mediapipe: tuple[int | None, ...]


class Description(msgspec.Struct, frozen=True):
    """What a server's model knows and reads; `spoter.serving.describe` tells it.

    Attributes
    ----------
    name, version : str
        The model's.
    glosses : tuple of str
        By label index, those that were enrolled last.
    enrolled : tuple of str
        Those of them that were enrolled.
    layout : LayoutOf
    estimator : str
        Whose landmarks the model was trained on.
    tells_unknown, enrolment, video : bool
        Whether it tells a sign that is none of its own, learns signs from clips, and reads video.
    limits : spoter.formats.Limits
        Those of videos count only where `video` is true.
    content_types : tuple of str
    spoter : str
        Version of the server's code.
    """

    name: str
    version: str
    glosses: tuple[str, ...]
    enrolled: tuple[str, ...]
    layout: LayoutOf
    estimator: str
    tells_unknown: bool
    enrolment: bool
    limits: Limits
    content_types: tuple[str, ...]
    video: bool
    spoter: str

    def table(self) -> Layout:
        """Return the layout as something that selects from clips.

        A layout of one's own is known by MediaPipe's indices only: clips of the other estimators are sent whole.
        """
        if self.layout.name in BUILT_IN:
            return load_layout(self.layout.name)
        rows = zip(self.layout.landmarks, self.layout.mediapipe, strict=True)
        landmarks = (
            Landmark(name, name.partition("_")[0], None, {} if index is None else {"mediapipe": index})
            for name, index in rows
        )
        return Layout(self.layout.name, tuple(landmarks))


class Enrolment(msgspec.Struct, frozen=True):
    """A sign that was learned from clips: for `predict`, for the next `enroll`, and for a model folder's enrolled.json.

    Attributes
    ----------
    enrolled : spoter.fewshot.enrolled.EnrolledGlosses
        What enrolled.json holds: the new gloss, after those that `enroll` was handed.
    agreement : float
        Least cosine between two of its clips, around 0 for clips of different signs; 1 for a single clip.
    nearest, similarity : str, float
        The gloss it is likeliest to be confused with, and the cosine between the two.
    """

    enrolled: EnrolledGlosses
    agreement: float
    nearest: str
    similarity: float


class _Refused(msgspec.Struct):
    code: str
    message: str
    where: str | None = None


class _Place(msgspec.Struct):
    error: _Refused | None = None


class _Places(msgspec.Struct):
    answers: list[msgspec.Raw]


def read(response: Response, kind: type[_T]) -> _T:
    """Return what a response says.

    Raises
    ------
    RequestError
        Where the request was refused.
    UnexpectedAnswerError
        Where the document is of another kind.
    """
    if response.status != 200:
        raise _refused(_convert(response.body, _Place).error, response.status)
    return _convert(response.body, kind)


def read_several(response: Response, numbers: Sequence[int]) -> list[Prediction | InputError]:
    """Return the answers to a request of several clips, with an error in the place of a clip that is wrong.

    Parameters
    ----------
    response : Response
    numbers : sequence of int
        The caller's numbers of the request's clips, which errors are to name. A body that is too large for the server
        is an error of all clips in it: elsewhere there may be smaller ones.

    Raises
    ------
    RequestError, UnexpectedAnswerError
        As `read`, where the request was refused for another reason than its clips.
    """
    if response.status != 200 and response.error_code != SEVERAL:
        refused = _refused(_convert(response.body, _Place).error, response.status)
        if response.status != 413:
            raise refused
        return [RequestError(refused.code, refused.message, f"clip {number}", 413) for number in numbers]
    answers = _convert(response.body, _Places).answers
    if len(answers) != len(numbers):
        raise _unexpected(f"{len(answers)} answers to {len(numbers)} clips")
    return [_in_place(raw, i, number) for i, (raw, number) in enumerate(zip(answers, numbers, strict=True))]


def _in_place(raw: msgspec.Raw, position: int, number: int) -> Prediction | RequestError:
    error = _convert(raw, _Place).error
    if error is None:
        return _convert(raw, Prediction)
    inner = (error.where or "").removeprefix(f"clip {position}").removeprefix(", ")
    return RequestError(error.code, error.message, ", ".join(filter(None, (f"clip {number}", inner))), 400)


def _refused(error: _Refused | None, status: int) -> RequestError | UnexpectedAnswerError:
    if error is None:
        return _unexpected("an error without a code")
    return RequestError(error.code, error.message, error.where, status)


def _convert(body: bytes | msgspec.Raw, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        raise _unexpected(str(error)) from None


def _unexpected(what: str) -> UnexpectedAnswerError:
    return UnexpectedAnswerError(
        "unexpected_answer", f"found an answer that this client does not understand ({what}): is the address right?"
    )
