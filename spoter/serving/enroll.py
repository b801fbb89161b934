"""Adding a gloss to a model folder from a few clips, without training: `spoter enroll`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from spoter.errors import ModelFolderError
from spoter.fewshot.enrolled import ENROLLED, Enrolment, merge_enrolled, write_enrolled
from spoter.files import exclusive_lock
from spoter.landmarks.clip import Clip
from spoter.serving.recognizer import NO_PROTOTYPES, Recognizer


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
        For a folder without prototypes, and a gloss that is enrolled already.
    InputError
        For a name or a clip that cannot be used (`Recognizer.enroll`); nothing is written then.
    """
    folder, gloss = Path(folder), gloss.strip()
    if not clips:
        raise ModelFolderError(f"found no clip of {gloss}, expected at least one")
    with exclusive_lock(folder):
        recognizer = _with_prototypes(folder)
        if not replace and any(known.gloss == gloss for known in recognizer.enrolled):
            raise ModelFolderError(
                f"{folder}: found {gloss} enrolled already; say --replace to learn it from new clips"
            )
        done = recognizer.enroll(gloss, clips, recognizer.enrolled, places)
        # Of one that is replaced the label index stays.
        write_enrolled(folder / ENROLLED, merge_enrolled(recognizer.enrolled, [done.learned]), recognizer.prototypes)
    return done


def unenroll(folder: Path, gloss: str) -> None:
    """Take an enrolled gloss out of a model folder; those that were enrolled after it move up by one label index.

    Raises
    ------
    ModelFolderError
        For a gloss that is not enrolled there.
    """
    folder, gloss = Path(folder), gloss.strip()
    with exclusive_lock(folder):
        recognizer = _with_prototypes(folder)
        others = [known for known in recognizer.enrolled if known.gloss != gloss]
        if len(others) == len(recognizer.enrolled):
            there = ", ".join(known.gloss for known in others) or "none"
            raise ModelFolderError(
                f"{folder}: found no enrolled gloss {gloss}, expected one of those enrolled: {there}"
            )
        write_enrolled(folder / ENROLLED, others, recognizer.prototypes)


def _with_prototypes(folder: Path) -> Recognizer:
    """Load a folder in its own runtime: what is learned here is to be, to the last digit, what its server learns."""
    recognizer = Recognizer.load(folder)
    if recognizer.prototypes is None:
        raise ModelFolderError(f"{folder}: {NO_PROTOTYPES}")
    return recognizer
