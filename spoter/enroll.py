"""Adding a gloss to a model folder from a few clips, without training: `spoter enroll`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spoter.clip import Clip
from spoter.enrolled import ENROLLED, Enrolled, write_enrolled
from spoter.errors import ModelFolderError
from spoter.files import alone_in
from spoter.model_folder import ModelFolder, load_model_folder
from spoter.recognizer import Recognizer
from spoter.torch_forward import TorchForward


@dataclass(frozen=True)
class Enrolment:
    """What a gloss was learned from.

    Attributes
    ----------
    clips : int
    agreement : float
        Least cosine between two of its clips, around 0 for clips of different signs; 1 for a single clip.
    nearest, similarity : str, float
        The gloss whose prototype is nearest to the new one, and their cosine: the likeliest to be confused with it.
    """

    clips: int
    agreement: float
    nearest: str
    similarity: float


def enroll(
    folder: Path, gloss: str, clips: Sequence[Clip], replace: bool = False, places: Sequence[str] = ()
) -> Enrolment:
    """Add `gloss` to a model folder.

    Its label index is the first free one. Servers that run have to load the folder, or the archive, anew.

    Parameters
    ----------
    folder : Path
    gloss : str
    clips : sequence of Clip
        Of that sign, each of one whole sign as in training; more clips, by more people, make a better prototype.
    replace : bool
        Whether an enrolled gloss of this name gives way.
    places : sequence of str
        Where each clip comes from, for errors; "clip 0" and so on where not given.

    Raises
    ------
    ModelFolderError
        For a folder without prototypes, a gloss that the model was trained on, and one that is enrolled already.
    InputError
        For a clip that cannot be used; nothing is written then.
    """
    gloss = gloss.strip()
    if not gloss.isprintable():  # it goes into tables and logs, a line each
        raise ModelFolderError(f"found the gloss {gloss!r}, expected a name without tabs, line breaks and the like")
    if not gloss:
        raise ModelFolderError("found an empty gloss, expected a name for the sign")
    if not clips:
        raise ModelFolderError(f"found no clip of {gloss}, expected at least one")
    with alone_in(folder):
        return _enroll(Path(folder), gloss, clips, replace, places)


def _enroll(folder: Path, gloss: str, clips: Sequence[Clip], replace: bool, places: Sequence[str]) -> Enrolment:
    loaded = _with_prototypes(folder)
    if gloss in loaded.glosses:
        raise ModelFolderError(f"{folder}: found {gloss} among the glosses it was trained on, expected another name")
    others = [known for known in loaded.enrolled if known.gloss != gloss]
    if len(others) < len(loaded.enrolled) and not replace:
        raise ModelFolderError(f"{folder}: found {gloss} enrolled already; say --replace to learn it from new clips")
    embeddings = Recognizer(loaded, TorchForward(loaded.model)).embed(clips, places)
    prototype = loaded.prototypes.prototype(embeddings)
    # Not with the prototype: it is made of them, so that even clips of different signs are near it.
    directions = loaded.prototypes.directions(embeddings)
    agreement = min(1.0, float((directions @ directions.T).min()))
    rivals = np.concatenate([loaded.prototypes.trained, *(known.direction for known in others)]) @ prototype
    names = [*loaded.glosses, *(known.gloss for known in others)]
    new = Enrolled(gloss, len(clips), tuple(round(float(value), 6) for value in prototype))
    kept = [new if known.gloss == gloss else known for known in loaded.enrolled]  # a replaced one keeps its label index
    write_enrolled(folder / ENROLLED, kept if new in kept else [*kept, new], loaded.prototypes)
    return Enrolment(len(clips), agreement, names[int(rivals.argmax())], float(rivals.max()))


def unenroll(folder: Path, gloss: str) -> None:
    """Take an enrolled gloss out of a model folder; those that were enrolled after it move up by one label index.

    Raises
    ------
    ModelFolderError
        For a gloss that is not enrolled there.
    """
    folder, gloss = Path(folder), gloss.strip()
    with alone_in(folder):
        loaded = _with_prototypes(folder)
        others = [known for known in loaded.enrolled if known.gloss != gloss]
        if len(others) == len(loaded.enrolled):
            there = ", ".join(known.gloss for known in others) or "none"
            raise ModelFolderError(
                f"{folder}: found no enrolled gloss {gloss}, expected one of those enrolled: {there}"
            )
        write_enrolled(folder / ENROLLED, others, loaded.prototypes)


def _with_prototypes(folder: Path) -> ModelFolder:
    loaded = load_model_folder(folder)
    if loaded.prototypes is None:
        raise ModelFolderError(
            f"{folder}: found no prototypes, expected those of the trained glosses to compare with: "
            "`spoter calibrate` makes them from labelled clips"
        )
    return loaded
