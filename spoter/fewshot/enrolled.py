"""Glosses that were added to a model without training it, each from a few clips.

They lie in enrolled.json of a model folder, or come with a request: the same JSON, checked by the same rules.
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
from spoter.fewshot.prototypes import Prototypes
from spoter.files import atomic_write_bytes, read_text

ENROLLED = "enrolled.json"
MAX_GLOSS_LENGTH = 100
"""Of an enrolled gloss's name; a limit, so that answers stay small."""

# A prototype is a unit vector, written with 6 decimals: of 10,000 numbers that moves its length by 5e-5 at most.
_DECIMALS = 6
_LENGTH_TOLERANCE = 1e-3


class EnrolledGloss(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A gloss, the number of clips it was learned from, and its prototype: a unit vector, E numbers."""

    gloss: str
    clips: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
    prototype: tuple[float, ...]

    @property
    def direction(self) -> np.ndarray:
        """The prototype as a row, shape (1, E), float32."""
        return np.array([self.prototype], dtype=np.float32)


class EnrolledGlosses(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What enrolled.json holds; `space` tells in which space the prototypes lie (`Prototypes.space`)."""

    space: str
    glosses: tuple[EnrolledGloss, ...]


@dataclass(frozen=True)
class Enrolment:
    """A gloss that was learned from clips, and how good that looks.

    Attributes
    ----------
    learned : EnrolledGloss
    agreement : float
        Least cosine between two of its clips, around 0 for clips of different signs; 1 for a single clip.
    nearest, similarity : str, float
        The gloss whose prototype is nearest to the new one, and their cosine: the likeliest to be confused with it.
    """

    learned: EnrolledGloss
    agreement: float
    nearest: str
    similarity: float


def check_gloss(gloss: str, trained: Collection[str]) -> str:
    """Return a name for a sign without the white space around it.

    Raises
    ------
    InputError
        ``bad_gloss`` for a name that is empty, very long, or would not stay on its line; ``trained_gloss`` for one of
        `trained`, the glosses that the model was trained on.
    """
    gloss = gloss.strip()
    if not gloss:
        raise InputError(ErrorCode.BAD_GLOSS, "found an empty gloss, expected a name for the sign")
    if len(gloss) > MAX_GLOSS_LENGTH:
        raise InputError(
            ErrorCode.BAD_GLOSS, f"found a gloss of {len(gloss)} letters, expected at most {MAX_GLOSS_LENGTH}"
        )
    if not gloss.isprintable():  # it goes into tables and logs, a line each
        raise InputError(
            ErrorCode.BAD_GLOSS, f"found the gloss {gloss!r}, expected a name without tabs, line breaks and the like"
        )
    if gloss in trained:
        raise InputError(
            ErrorCode.TRAINED_GLOSS, f"found {gloss} among the glosses the model was trained on, expected another name"
        )
    return gloss


def check_enrolled(
    enrolled: EnrolledGlosses, trained: Collection[str], prototypes: Prototypes
) -> tuple[EnrolledGloss, ...]:
    """Return the glosses of `enrolled`, once it is sure that they are of this model and can be compared with.

    Parameters
    ----------
    enrolled : EnrolledGlosses
    trained : collection of str
        The glosses that the model was trained on, none of which may be enrolled again.
    prototypes : Prototypes
        The model's own.

    Raises
    ------
    InputError
        ``enrolled_of_another_model``; ``bad_enrolled`` for a gloss that comes twice, and for what is no prototype; and
        those of `check_gloss`.
    """
    if enrolled.space != prototypes.space:
        raise InputError(
            ErrorCode.ENROLLED_OF_ANOTHER_MODEL,
            "found glosses that were enrolled in another model, expected some of this one's: enroll them anew",
        )
    size = len(prototypes.centre)
    seen: set[str] = set()
    for number, gloss in enumerate(enrolled.glosses):
        where = f"glosses, item {number}"
        try:
            name = check_gloss(gloss.gloss, trained)
        except InputError as error:
            raise error.within(where) from None
        if name in seen or name != gloss.gloss:
            raise InputError(
                ErrorCode.BAD_ENROLLED, f"found the gloss {gloss.gloss!r} twice, or with spaces around it", where
            )
        seen.add(name)
        length = math.hypot(*gloss.prototype) if len(gloss.prototype) == size else 0.0
        if not abs(length - 1) < _LENGTH_TOLERANCE:
            raise InputError(
                ErrorCode.BAD_ENROLLED,
                f"found no prototype for {name}, expected a unit vector of {size} numbers",
                where,
            )
    return enrolled.glosses


def merge_enrolled(own: Sequence[EnrolledGloss], added: Sequence[EnrolledGloss]) -> tuple[EnrolledGloss, ...]:
    """Return `own` followed by `added`; of two with the same gloss, the added one in the own one's place."""
    return tuple(({known.gloss: known for known in own} | {new.gloss: new for new in added}).values())


def learn_gloss(
    gloss: str,
    embeddings: np.ndarray,
    trained: Sequence[str],
    prototypes: Prototypes,
    enrolled: Sequence[EnrolledGloss],
) -> Enrolment:
    """Learn a gloss from the embeddings of its clips, shape (clips, E), float32.

    Parameters
    ----------
    gloss : str
        Of `check_gloss`.
    embeddings : numpy.ndarray
    trained, prototypes
        The model's own.
    enrolled : sequence of EnrolledGloss
        Other glosses that the new one may be confused with; an older one of its own name is left out.
    """
    prototype = prototypes.prototype(embeddings)
    # Not with the prototype: it is made of them, so that even clips of different signs are near it.
    directions = prototypes.directions(embeddings)
    agreement = min(1.0, float((directions @ directions.T).min()))
    others = [known for known in enrolled if known.gloss != gloss]
    rivals = np.concatenate([prototypes.trained, *(known.direction for known in others)]) @ prototype
    names = [*trained, *(known.gloss for known in others)]
    learned = EnrolledGloss(gloss, len(embeddings), tuple(round(float(value), _DECIMALS) for value in prototype))
    return Enrolment(learned, agreement, names[int(rivals.argmax())], float(rivals.max()))


def read_enrolled(path: Path, trained: Sequence[str], prototypes: Prototypes) -> tuple[EnrolledGloss, ...]:
    """Read an enrolled.json.

    Parameters
    ----------
    path : Path
    trained, prototypes
        As for `check_enrolled`.

    Raises
    ------
    ModelFolderError
        Where the file is none, or does not fit the model.
    """
    try:
        return check_enrolled(msgspec.json.decode(read_text(path), type=EnrolledGlosses), trained, prototypes)
    except msgspec.MsgspecError as error:
        raise ModelFolderError(f"{path}: {error}; expected what spoter enroll writes") from None
    except InputError as error:
        raise ModelFolderError(f"{path}: {error}; mend the file, or delete it") from None


def write_enrolled(path: Path, glosses: Sequence[EnrolledGloss], prototypes: Prototypes) -> None:
    """Write an enrolled.json, whole or not at all; without glosses there shall be none."""
    if not glosses:
        path.unlink(missing_ok=True)
        return
    atomic_write_bytes(path, msgspec.json.encode(EnrolledGlosses(prototypes.space, tuple(glosses))) + b"\n")
