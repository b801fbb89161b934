"""The commands `spoter enroll`, `spoter enrolled` and `spoter unenroll`: glosses added without training."""

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
    replace: Annotated[bool, typer.Option("--replace", help="Replace the clips of an enrolled GLOSS.")] = False,
    width: Width = None,
    height: Height = None,
) -> None:
    """Add GLOSS to MODEL from a few clips, without training.

    Five clips by several people are a good start. See docs/enroll.md.
    """
    from spoter.formats import Options
    from spoter.model.folder import read_model_folder
    from spoter.serving.enroll import enroll as run
    from spoter.sources.clip_files import read_clips

    layout, options = read_model_folder(model).layout, Options(width=width, height=height)
    pairs = [
        (clip, str(file))
        for file in files
        for clip in read_clips([file], layout, options, lambda text: note(f"note: {text}"))
    ]
    clips, places = zip(*pairs, strict=True) if pairs else ((), ())
    done = run(model, gloss, clips, replace, places)
    count = done.learned.clips
    print(f"{model}: enrolled {done.learned.gloss} from {count} clip{'s' * (count > 1)}")
    if count > 1:
        print(f"lowest similarity of two clips: {done.agreement:.2f} (1: identical; around 0: different signs)")
    print(f"most similar gloss: {done.nearest}, {done.similarity:.2f} (the closer to 1, the easier to confuse)")


def enrolled(model: Model) -> None:
    """List the enrolled glosses of MODEL: label index, gloss, number of clips."""
    from spoter.model.folder import read_model_folder

    folder = read_model_folder(model)
    for index, gloss in enumerate(folder.enrolled, start=len(folder.glosses)):
        print(f"{index}\t{gloss.gloss}\t{gloss.clips}")


def unenroll(model: Model, gloss: Gloss) -> None:
    """Remove an enrolled GLOSS from MODEL."""
    from spoter.serving.enroll import unenroll as run

    run(model, gloss)
    print(f"{model}: {gloss} is no longer enrolled")
