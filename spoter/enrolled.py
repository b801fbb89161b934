"""Glosses that were added to a model without training it, each from a few clips: enrolled.json of a model folder."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from spoter.embedding import Prototypes
from spoter.errors import ModelFolderError
from spoter.files import read_text, write_whole

ENROLLED = "enrolled.json"


class Enrolled(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A gloss, the number of clips it was learned from, and its prototype: a unit vector, E numbers."""

    gloss: str
    clips: int
    prototype: tuple[float, ...]

    @property
    def direction(self) -> np.ndarray:
        """The prototype as a row, shape (1, E), float32."""
        return np.array([self.prototype], dtype=np.float32)


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What enrolled.json holds; `space` tells in which space the prototypes lie."""

    space: str
    glosses: tuple[Enrolled, ...]


def read_enrolled(path: Path, trained: Sequence[str], prototypes: Prototypes) -> tuple[Enrolled, ...]:
    """Read an enrolled.json.

    Parameters
    ----------
    path : Path
    trained : sequence of str
        The glosses that the model was trained on, none of which may be enrolled again.
    prototypes : Prototypes
        The model's own.

    Raises
    ------
    ModelFolderError
        Where the file is none, belongs to other weights, or names a gloss twice.
    """
    try:
        file = msgspec.json.decode(read_text(path), type=_File)
    except msgspec.MsgspecError as error:
        raise ModelFolderError(f"{path}: {error}; expected what spoter enroll writes") from None
    if file.space != _space(prototypes):
        raise ModelFolderError(
            f"{path}: found glosses that were enrolled in another model, expected some of this one's: "
            "delete the file and enroll them anew"
        )
    size = len(prototypes.centre)
    seen = set(trained)
    for gloss in file.glosses:
        if not gloss.gloss.strip() or gloss.gloss in seen:
            raise ModelFolderError(f"{path}: found the gloss {gloss.gloss!r} empty or twice, expected each once")
        if len(gloss.prototype) != size or not np.isfinite(gloss.direction).all() or gloss.clips < 1:
            raise ModelFolderError(f"{path}: found no prototype of {size} numbers for {gloss.gloss!r}")
        seen.add(gloss.gloss)
    return file.glosses


def write_enrolled(path: Path, glosses: Sequence[Enrolled], prototypes: Prototypes) -> None:
    """Write an enrolled.json, whole or not at all; without glosses there shall be none."""
    if not glosses:
        path.unlink(missing_ok=True)
        return
    write_whole(path, msgspec.json.encode(_File(_space(prototypes), tuple(glosses))) + b"\n")


def _space(prototypes: Prototypes) -> str:
    # Of the numbers, not of prototypes.npz: another version of numpy may pack the same ones into other bytes.
    arrays = (prototypes.centre, prototypes.whitening, prototypes.trained)
    return hashlib.sha256(b"".join(array.astype("<f4").tobytes() for array in arrays)).hexdigest()
