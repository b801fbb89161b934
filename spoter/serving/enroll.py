"""Adding a gloss to a model folder from a few clips, without training: `spoter enroll`."""

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

    Its label index is the first free one. Running servers have to load the folder, or the archive, again.

    Parameters
    ----------
    folder, gloss
    clips : sequence of Clip
        Of that sign, each of one whole sign as in training; more clips, by more people, make a better prototype.
    replace : bool
        Whether to replace an enrolled gloss of this name; its label index stays.
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
        recognizer, prototypes = _load(folder)
        if not replace and any(known.gloss == gloss for known in recognizer.enrolled):
            raise ModelFolderError(
                f"{folder}: found {gloss} enrolled already; say --replace to learn it from new clips"
            )
        enrolment = recognizer.enroll(gloss, clips, recognizer.enrolled, places)
        write_enrolled(folder / ENROLLED, merge_enrolled(recognizer.enrolled, [enrolment.learned]), prototypes)
    return enrolment


def unenroll(folder: Path, gloss: str) -> None:
    """Remove an enrolled gloss from a model folder; the label indices after it decrease by one.

    Raises `ModelFolderError` for a gloss that is not enrolled there.
    """
    folder, gloss = Path(folder), gloss.strip()
    with exclusive_lock(folder):
        recognizer, prototypes = _load(folder)
        others = [known for known in recognizer.enrolled if known.gloss != gloss]
        if len(others) == len(recognizer.enrolled):
            names = ", ".join(known.gloss for known in others) or "none"
            raise ModelFolderError(
                f"{folder}: found no enrolled gloss {gloss}, expected one of those enrolled: {names}"
            )
        write_enrolled(folder / ENROLLED, others, prototypes)


def _load(folder: Path) -> tuple[Recognizer, Prototypes]:
    """Load a folder in its own runtime, so that a gloss gets the very prototype that its server would compute."""
    recognizer = Recognizer.load(folder)
    try:
        return recognizer, recognizer.require_prototypes()
    except InputError as error:
        raise ModelFolderError(f"{folder}: {error}") from None
