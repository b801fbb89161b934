"""Enrolled glosses: glosses added to a model from a few clips each, without training.

They come from enrolled.json in the model folder or from a request. Both use the same JSON and the same checks. Trained
and enrolled glosses together are the vocabulary of a model.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np

from spoter.error_codes import ErrorCode
from spoter.errors import InputError, ModelFolderError
from spoter.fewshot.prototypes import Prototypes, include_enrolled
from spoter.files import atomic_write_bytes, read_text
from spoter.landmarks.arrays import Float32Array

ENROLLED = "enrolled.json"
MAX_GLOSS_LENGTH = 100
"""The most characters in the name of an enrolled gloss; it keeps responses small."""

# A prototype is a unit vector. Rounding to 6 decimals changes the length of 10,000 numbers by at most 5e-5.
_DECIMALS = 6
_LENGTH_TOLERANCE = 1e-3


class EnrolledGloss(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A gloss, the number of clips it was learned from, and its prototype: a unit vector of E numbers."""

    gloss: str
    clips: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
    prototype: tuple[float, ...]

    @property
    def direction(self) -> Float32Array:
        """The prototype as a row: (1, E), float32."""
        return np.array([self.prototype], dtype=np.float32)


class EnrolledGlosses(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of enrolled.json; `space` identifies the space of the prototypes (`Prototypes.space`)."""

    space: str
    glosses: tuple[EnrolledGloss, ...]


@dataclass(frozen=True)
class Enrolment:
    """A gloss learned from clips, and measures of its quality."""

    learned: EnrolledGloss
    agreement: float  # least cosine between two clips: around 0 for different signs, 1 for a single clip
    nearest: str  # the gloss with the nearest prototype, the most likely to be confused
    similarity: float  # the cosine of both prototypes


def check_gloss(gloss: str, trained: Collection[str]) -> str:
    """Return a new gloss without surrounding white space.

    Raises ``bad_gloss`` for a name that is empty, too long or not printable; ``trained_gloss`` for one in `trained`.
    """
    gloss = gloss.strip()
    code, problem = ErrorCode.BAD_GLOSS, ""
    if not gloss:
        problem = "found an empty gloss, expected a name for the sign"
    elif len(gloss) > MAX_GLOSS_LENGTH:
        problem = f"found a gloss of {len(gloss)} characters, expected at most {MAX_GLOSS_LENGTH}"
    elif not gloss.isprintable():  # tables and logs print it on one line
        problem = f"found the gloss {gloss!r}, expected a name without tabs, line breaks or control characters"
    elif gloss in trained:
        code = ErrorCode.TRAINED_GLOSS
        problem = f"found {gloss} among the glosses the model was trained on, expected another name"
    if problem:
        raise InputError(code, problem)
    return gloss


def check_enrolled(
    enrolled: EnrolledGlosses, trained: Collection[str], prototypes: Prototypes
) -> tuple[EnrolledGloss, ...]:
    """Return the glosses of `enrolled` after checking them against the model's trained glosses and prototypes.

    Raises ``enrolled_of_another_model``; ``bad_enrolled`` for a repeated gloss, or a prototype that is not a unit
    vector of the model's space; and the errors of `check_gloss`.
    """
    if enrolled.space != prototypes.space:
        message = "found glosses enrolled in another model, expected glosses enrolled in this one: enroll them again"
        raise InputError(ErrorCode.ENROLLED_OF_ANOTHER_MODEL, message)
    size = len(prototypes.centre)
    earlier: set[str] = set()
    for number, gloss in enumerate(enrolled.glosses):
        where = f"glosses, item {number}"
        try:
            name = check_gloss(gloss.gloss, trained)
        except InputError as error:
            raise error.within(where) from None
        if name in earlier or name != gloss.gloss:
            message = f"found gloss {gloss.gloss!r}, expected each gloss once, without surrounding spaces"
            raise InputError(ErrorCode.BAD_ENROLLED, message, where)
        earlier.add(name)
        length = math.hypot(*gloss.prototype) if len(gloss.prototype) == size else 0.0
        if not abs(length - 1) < _LENGTH_TOLERANCE:
            message = f"found no prototype for {name}, expected a unit vector of {size} numbers"
            raise InputError(ErrorCode.BAD_ENROLLED, message, where)
    return enrolled.glosses


def merge_enrolled(enrolled: Sequence[EnrolledGloss], added: Sequence[EnrolledGloss]) -> tuple[EnrolledGloss, ...]:
    """Return `enrolled` followed by `added`; an added gloss takes the place of an enrolled gloss of the same name."""
    return tuple({gloss.gloss: gloss for gloss in (*enrolled, *added)}.values())


def learn_gloss(
    gloss: str,
    embeddings: Float32Array,
    trained: Sequence[str],
    prototypes: Prototypes,
    enrolled: Sequence[EnrolledGloss],
) -> Enrolment:
    """Learn a gloss, checked by `check_gloss`, from the embeddings of its clips: (clips, E), float32.

    The nearest gloss is one of `trained` and `enrolled`, but not the enrolled gloss that this one replaces.
    """
    prototype = prototypes.prototype(embeddings)
    # Compare clips with each other, not with their mean, the prototype: even clips of different signs are near it.
    directions = prototypes.directions(embeddings)
    agreement = min(1.0, float((directions @ directions.T).min()))
    others = [other for other in enrolled if other.gloss != gloss]
    similarities = np.concatenate([prototypes.trained, *(other.direction for other in others)]) @ prototype
    names = [*trained, *(other.gloss for other in others)]
    learned = EnrolledGloss(gloss, len(embeddings), tuple(round(float(value), _DECIMALS) for value in prototype))
    return Enrolment(learned, agreement, names[int(similarities.argmax())], float(similarities.max()))


def read_enrolled(path: Path, trained: Sequence[str], prototypes: Prototypes) -> tuple[EnrolledGloss, ...]:
    """Read an enrolled.json; raise `ModelFolderError` if it is invalid or does not fit the model (`check_enrolled`)."""
    try:
        return check_enrolled(msgspec.json.decode(read_text(path), type=EnrolledGlosses), trained, prototypes)
    except msgspec.MsgspecError as error:
        raise ModelFolderError(f"{path}: {error}; expected a file written by `spoter enroll`") from None
    except InputError as error:
        raise ModelFolderError(f"{path}: {error}; correct the file, or delete it") from None


def write_enrolled(path: Path, glosses: Sequence[EnrolledGloss], prototypes: Prototypes) -> None:
    """Write an enrolled.json atomically; without glosses, delete the file."""
    if not glosses:
        path.unlink(missing_ok=True)
        return
    atomic_write_bytes(path, msgspec.json.encode(EnrolledGlosses(prototypes.space, tuple(glosses))) + b"\n")


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The glosses that a model can answer with, and the direction of each gloss in the model's space.

    The trained glosses come first, then the glosses enrolled in the model folder or by a request.
    """

    glosses: tuple[str, ...]  # (G,), by label index
    prototypes: Prototypes | None  # the model's; None if it has none
    directions: Float32Array  # (G, E), float32, to compare clips with; empty without prototypes

    @classmethod
    def build(
        cls, trained: Sequence[str], prototypes: Prototypes | None, enrolled: Sequence[EnrolledGloss] = ()
    ) -> Vocabulary:
        """Combine trained glosses and enrolled glosses; enrolled glosses need prototypes."""
        glosses = (*trained, *(gloss.gloss for gloss in enrolled))
        if prototypes is None:
            return cls(glosses, None, np.empty((0, 0), dtype=np.float32))
        # Cosines with prototypes of few clips are too small; scale them up so that all glosses compete as equals.
        enrolled_directions = [gloss.direction / prototypes.attenuation(gloss.clips) for gloss in enrolled]
        return cls(glosses, prototypes, np.concatenate([prototypes.trained, *enrolled_directions]))

    def score(self, probabilities: Float32Array, embeddings: Float32Array) -> tuple[Float32Array, Float32Array | None]:
        """Return the probability of each gloss and the cosine with its direction, each (B, G).

        `probabilities` (B, C) are the head's, for the trained glosses. Without prototypes, `embeddings` (B, E) are
        ignored and the cosines are None.
        """
        if self.prototypes is None:
            return probabilities, None
        similarities = self.prototypes.directions(embeddings) @ self.directions.T
        if len(self.glosses) > probabilities.shape[1]:
            probabilities = include_enrolled(probabilities, similarities, self.prototypes.scale)
        return probabilities, similarities
