"""Ranked glosses, and the bytes they are answered in: JSON, JSON Lines or CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

import msgspec

from spoter.error_codes import ErrorCode
from spoter.errors import InputError
from spoter.fewshot.enrolled import EnrolledGlosses, Enrolment
from spoter.formats.request import CSV, JSON, JSONLINES, SYNONYMS, Request, quote


class Ranked(msgspec.Struct, frozen=True):
    """A gloss with its probability and its label index."""

    gloss: str
    score: float
    index: int


class ModelName(msgspec.Struct, frozen=True):
    """Which model answered."""

    name: str
    version: str


class Prediction(msgspec.Struct, frozen=True, omit_defaults=True, rename={"glosses": "instances"}):
    """What a model recognizes in one clip.

    Attributes
    ----------
    glosses : tuple of Ranked
        Best first. A score is a probability among all glosses that the model knows.
    known : bool or None
        Whether the sign looks like the clips of the first gloss; False means "none of my signs", whatever the scores
        are. None where the model cannot tell.
    frames : int
        Length of the clip.
    model : ModelName
    similarity : float or None
        The cosine that decides `known` (`spoter.fewshot.prototypes`), raised by its attenuation for a gloss of few
        clips. It is not sent.
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
        """The score of the gloss that comes first."""
        return self.glosses[0].score


PredictionOrError = Prediction | InputError
"""The answer to one clip: the error stands in the place of a clip that cannot be used."""

# Of a score. The last bits of a sum depend on the other clips of a batch, so that a score close to the middle between
# two such numbers can be rounded to either (docs/formats.md).
_DECIMALS = 4

_OFFERED = (JSON, JSONLINES, CSV)
CSV_COLUMNS = ("clip", "rank", "gloss", "score", "index", "known", "error")


def choose_accept(accept: str | None, request: Request) -> str:
    """Choose the type of the answer by the header ``Accept``.

    Without one, and where anything will do, it is JSON, or JSON Lines where the request was. What is no ranked gloss,
    a description or an enrolled gloss, comes in JSON only.

    Raises
    ------
    InputError
        ``not_acceptable`` (406) where the header names none of JSON, JSON Lines and CSV.
    """
    possible = (JSON,) if request.describe or request.enroll is not None else _OFFERED
    default = JSONLINES if request.content_type == JSONLINES else JSON
    if accept is None or not accept.strip():
        return default
    qualities = _qualities(accept)
    best: str | None = None
    best_quality = 0.0
    for offered in (default, *possible):
        # the most specific range that fits counts (RFC 9110, 12.5.1)
        ranges = (offered, f"{offered.partition('/')[0]}/*", "*/*")
        quality = next((qualities[name] for name in ranges if name in qualities), 0.0)
        if quality > best_quality:
            best, best_quality = offered, quality
    if best is None:
        raise InputError(
            ErrorCode.NOT_ACCEPTABLE,
            f"found {quote(accept, 80)}, expected one of {', '.join(possible)}",
            "header Accept",
        )
    return best


def encode(request: Request, answers: Sequence[PredictionOrError], content_type: str) -> bytes:
    """Write the answers to a request.

    Parameters
    ----------
    request : Request
    answers : sequence of Answer or InputError
        One for each of the request's clips, in order.
    content_type : str
        Of `choose_accept`.

    Returns
    -------
    bytes
        UTF-8. JSON: the answer, or ``{"answers": […]}`` where the request may hold several clips. JSON Lines: a line
        a clip. CSV: a row a gloss, ranks from 1; a row with an error for a clip that has none.
    """
    if content_type == CSV:
        return _csv(answers)
    documents = [_document(answer) for answer in answers]
    if content_type == JSONLINES:
        return b"".join(msgspec.json.encode(document) + b"\n" for document in documents)
    return msgspec.json.encode({"answers": documents} if request.many else documents[0])


def encode_enrolment(done: Enrolment, enrolled: EnrolledGlosses) -> bytes:
    """Write what was learned from the clips of a request, as JSON in UTF-8.

    Parameters
    ----------
    done : Enrolment
    enrolled : EnrolledGlosses
        What enrolled.json of a model folder would hold: the glosses that the request brought along, and the new one.
    """
    document = {
        "enrolled": enrolled,
        "agreement": round(done.agreement, _DECIMALS),
        "nearest": done.nearest,
        "similarity": round(done.similarity, _DECIMALS),
    }
    return msgspec.json.encode(document)


def _document(answer: PredictionOrError) -> object:
    if isinstance(answer, InputError):
        return answer.to_dict()
    rounded = tuple(Ranked(ranked.gloss, round(ranked.score, _DECIMALS), ranked.index) for ranked in answer.glosses)
    return Prediction(rounded, answer.known, answer.frames, answer.model)


def _csv(answers: Sequence[PredictionOrError]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for clip, answer in enumerate(answers):
        if isinstance(answer, InputError):
            writer.writerow((clip, "", "", "", "", "", f"{answer.code}: {answer}"))
            continue
        known = {True: "true", False: "false", None: ""}[answer.known]
        for rank, ranked in enumerate(answer.glosses, 1):
            writer.writerow((clip, rank, ranked.gloss, round(ranked.score, _DECIMALS), ranked.index, known, ""))
    return text.getvalue().encode()


def _qualities(accept: str) -> dict[str, float]:
    """Return the media ranges of an Accept header with their quality values."""
    qualities = {}
    for part in accept.split(","):
        kind, *parameters = (word.strip().lower() for word in part.split(";"))
        quality = 1.0
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name.strip() == "q":
                try:
                    quality = float(value)
                except ValueError:
                    quality = 1.0  # a header that is a little wrong gets an answer all the same
        qualities[SYNONYMS.get(kind, kind)] = quality
    return qualities
