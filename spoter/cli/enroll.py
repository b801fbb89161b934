"""The commands `spoter enroll`, `spoter enrolled` and `spoter unenroll`: glosses that need no training."""

from pathlib import Path
from typing import Annotated

import typer

from spoter.cli.options import Height, Model, Width, note

Gloss = Annotated[str, typer.Argument(metavar="GLOSS", help="Name of the sign.")]


def enroll(
    model: Model,
    gloss: Gloss,
    files: Annotated[
        list[Path], typer.Argument(metavar="CLIP…", help="Landmarks (.json, .csv, .npy, .jsonl) or videos.")
    ],
    replace: Annotated[bool, typer.Option("--replace", help="Learn an enrolled GLOSS again.")] = False,
    width: Width = None,
    height: Height = None,
) -> None:
    """Add GLOSS to MODEL from a few clips of it, without training; five clips by several people are a good start."""
    from spoter.formats import Options
    from spoter.model.folder import read_model_folder
    from spoter.serving.enroll import enroll as run
    from spoter.sources.clip_files import read_clips

    layout, options = read_model_folder(model).layout, Options(width=width, height=height)
    found = [
        (clip, str(file))
        for file in files
        for clip in read_clips([file], layout, options, lambda text: note(f"note: {text}"))
    ]
    clips, places = zip(*found, strict=True) if found else ((), ())
    done = run(model, gloss, clips, replace, places)
    count = done.learned.clips
    print(f"{model}: enrolled {done.learned.gloss} from {count} clip{'s' * (count > 1)}")
    if count > 1:
        print(
            f"likeness of its clips: {done.agreement:.2f} between the two that differ most; 1 is alike, around 0 they "
            "show different signs"
        )
    print(f"nearest to it: {done.nearest}, {done.similarity:.2f}; the nearer to 1, the likelier the two are confused")


def enrolled(model: Model) -> None:
    """List the glosses that were added to MODEL by enrolling them: label index, gloss, number of clips."""
    from spoter.model.folder import read_model_folder

    folder = read_model_folder(model)
    for index, gloss in enumerate(folder.enrolled, start=len(folder.glosses)):
        print(f"{index}\t{gloss.gloss}\t{gloss.clips}")


def unenroll(model: Model, gloss: Gloss) -> None:
    """Take an enrolled GLOSS out of MODEL again."""
    from spoter.serving.enroll import unenroll as run

    run(model, gloss)
    print(f"{model}: {gloss} is no longer enrolled")
