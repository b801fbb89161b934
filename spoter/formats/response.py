"""Predictions, encoded as JSON, JSON Lines or CSV."""

import csv
import io
import re
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
    """The model that made a prediction."""

    name: str
    version: str


class Prediction(msgspec.Struct, frozen=True, omit_defaults=True, rename={"glosses": "instances"}):
    """A model's answer for one clip.

    `known` is True if the sign looks like the training clips of the best gloss, False if it looks like none of the
    model's signs, regardless of the scores, and None if the model cannot detect that. `similarity` is the cosine that
    decides `known` (`spoter.fewshot.prototypes`), divided by the attenuation for a gloss of few clips; it is not sent.
    """

    glosses: tuple[Ranked, ...]  # best first; a score is a probability among all glosses of the model
    known: bool | None
    frames: int  # number of frames in the clip
    model: ModelName
    similarity: float | None = None

    @property
    def gloss(self) -> str:
        """The best gloss."""
        return self.glosses[0].gloss

    @property
    def score(self) -> float:
        """The score of the best gloss."""
        return self.glosses[0].score


PredictionOrError = Prediction | InputError
"""The answer for one clip, or the error if the clip cannot be used."""

# Decimals of a score. The last bits of a sum depend on the other clips in the batch, so a score near the midpoint of
# two rounded values can become either (docs/formats.md).
_DECIMALS = 4
_QUALITY = re.compile(r";\s*q\s*=\s*(\d+(?:\.\d*)?|\.\d+)\s*(?:;|$)")

_OFFERED = (JSON, JSONLINES, CSV)
CSV_COLUMNS = ("clip", "rank", "gloss", "score", "index", "known", "error")


def choose_accept(accept: str | None, request: Request) -> str:
    """Choose the response's content type from the header ``Accept``.

    The default is JSON, or JSON Lines for a JSON Lines request. Descriptions and enrolled glosses are always JSON.
    Raises ``not_acceptable`` (406) if the header accepts none of the possible types.
    """
    possible = (JSON,) if request.describe or request.enroll is not None else _OFFERED
    default = JSONLINES if request.content_type == JSONLINES else JSON
    if accept is None or not accept.strip():
        return default
    qualities = _qualities(accept)
    best: str | None = None
    best_quality = 0.0
    for offered in (default, *possible):
        # the most specific matching range takes precedence (RFC 9110, 12.5.1)
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
    """Encode the answers to a request's clips, in order, in the content type of `choose_accept`.

    JSON: the answer, or ``{"answers": […]}`` if the request's form holds several clips. JSON Lines: one line per clip.
    CSV: one row per gloss, with ranks from 1; a failed clip has one row with the error.
    """
    answers = [answer if isinstance(answer, InputError) else _shorten(answer, request.top_k) for answer in answers]
    if content_type == CSV:
        return _encode_csv(answers)
    documents = [answer.to_dict() if isinstance(answer, InputError) else answer for answer in answers]
    if content_type == JSONLINES:
        return msgspec.json.Encoder().encode_lines(documents)
    return msgspec.json.encode({"answers": documents} if request.many else documents[0])


def encode_enrolment(enrolment: Enrolment, enrolled: EnrolledGlosses) -> bytes:
    """Encode an `Enrolment` as JSON; `enrolled` holds the glosses that came with the request, and the new gloss."""
    return msgspec.json.encode(
        {
            "enrolled": enrolled,
            "agreement": round(enrolment.agreement, _DECIMALS),
            "nearest": enrolment.nearest,
            "similarity": round(enrolment.similarity, _DECIMALS),
        }
    )


def _shorten(prediction: Prediction, top_k: int) -> Prediction:
    """Return a prediction as sent: the best glosses, with rounded scores, without the similarity."""
    glosses = (Ranked(best.gloss, round(best.score, _DECIMALS), best.index) for best in prediction.glosses[:top_k])
    return Prediction(tuple(glosses), prediction.known, prediction.frames, prediction.model)


def _encode_csv(answers: Sequence[PredictionOrError]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for clip, answer in enumerate(answers):
        if isinstance(answer, InputError):
            writer.writerow((clip, "", "", "", "", "", f"{answer.code}: {answer}"))
            continue
        known = {True: "true", False: "false", None: ""}[answer.known]
        for rank, ranked in enumerate(answer.glosses, 1):
            writer.writerow((clip, rank, ranked.gloss, ranked.score, ranked.index, known, ""))
    return text.getvalue().encode()


def _qualities(accept: str) -> dict[str, float]:
    """Return the media ranges of an Accept header and their quality values; an invalid value counts as 1."""
    qualities = {}
    for part in accept.lower().split(","):
        kind = part.partition(";")[0].strip()
        match = _QUALITY.search(part)
        qualities[SYNONYMS.get(kind, kind)] = float(match[1]) if match else 1.0
    return qualities
