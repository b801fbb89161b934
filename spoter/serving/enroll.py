"""Enrollment: add a gloss to a model folder from a few clips, without training (`spoter enroll`)."""

from collections.abc import Sequence
from pathlib import Path

from spoter.errors import InputError, ModelFolderError
from spoter.fewshot.enrolled import ENROLLED, Enrolment, merge_enrolled, write_enrolled
from spoter.fewshot.prototypes import Prototypes
from spoter.files import exclusive_lock
from spoter.landmarks.clip import Clip
from spoter.serving.recognizer import Recognizer


def enroll(
    folder: Path, gloss: str, clips: Sequence[Clip], replace: bool = False, places: Sequence[str] = ()
) -> Enrolment:
    """Add `gloss` to a model folder.

    The gloss gets the first free label index. Running servers must load the folder, or a new archive, again.

    Parameters
    ----------
    folder, gloss
        Model folder and name of the sign.
    clips : sequence of Clip
        Each shows the whole sign, as in training. More clips by more people make a better prototype.
    replace : bool
        Whether to replace an enrolled gloss with the same name; its label index stays.
    places : sequence of str
        Origin of each clip, for error messages; by default "clip 0" and so on.

    Raises
    ------
    ModelFolderError
        If the folder has no prototypes, or the gloss is already enrolled.
    InputError
        If the name or a clip is unusable (`Recognizer.enroll`). The folder is then unchanged.
    """
    folder, gloss = Path(folder), gloss.strip()
    if not clips:
        raise ModelFolderError(f"found no clip of {gloss}, expected at least one")
    with exclusive_lock(folder):
        recognizer, prototypes = _load(folder)
        if not replace and any(entry.gloss == gloss for entry in recognizer.enrolled):
            raise ModelFolderError(f"{folder}: {gloss} is already enrolled; use --replace to learn it from these clips")
        enrolment = recognizer.enroll(gloss, clips, recognizer.enrolled, places)
        write_enrolled(folder / ENROLLED, merge_enrolled(recognizer.enrolled, [enrolment.learned]), prototypes)
    return enrolment


def unenroll(folder: Path, gloss: str) -> None:
    """Remove an enrolled gloss from a model folder; the label indices after it decrease by one.

    Raise `ModelFolderError` if the gloss is not enrolled there.
    """
    folder, gloss = Path(folder), gloss.strip()
    with exclusive_lock(folder):
        recognizer, prototypes = _load(folder)
        others = [entry for entry in recognizer.enrolled if entry.gloss != gloss]
        if len(others) == len(recognizer.enrolled):
            names = ", ".join(entry.gloss for entry in others) or "none"
            raise ModelFolderError(f"{folder}: {gloss} is not enrolled; enrolled glosses: {names}")
        write_enrolled(folder / ENROLLED, others, prototypes)


def _load(folder: Path) -> tuple[Recognizer, Prototypes]:
    """Load a folder with its configured runtime, so that a gloss gets the prototype that a server would compute."""
    recognizer = Recognizer.load(folder)
    try:
        return recognizer, recognizer.require_prototypes()
    except InputError as error:
        raise ModelFolderError(f"{folder}: {error}") from None
