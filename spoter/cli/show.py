"""The command `spoter show`: a clip as a picture and in figures, to look at first when a prediction is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spoter.errors import InputError, SpoterError

# Pillow, torch and pandas are imported by the command: `spoter --help` shall not wait for them.


def show(
    file: Annotated[
        Path,
        typer.Argument(metavar="CLIP", help="Landmarks, a video, or a folder of OpenPose's or MMPose's frames."),
    ],
    out: Annotated[
        Path, typer.Option(help="Picture to write: .png for a strip of frames, .gif to see it move.")
    ] = Path("clip.png"),
    model: Annotated[
        Path | None, typer.Option(help="Model folder: shows the clip as this model is fed it, and what it answers.")
    ] = None,
    layout: Annotated[
        str, typer.Option(help="29, 54, 71, spoter54, or the path of a layout's CSV; or --model.")
    ] = "54",
    scheme: Annotated[str, typer.Option("--normalize", help="box, none or bohacek; or --model.")] = "box",
    clip: Annotated[int, typer.Option(min=0, help="Which clip of a file that holds several, from 0.")] = 0,
    frames: Annotated[int, typer.Option(min=1, max=64, help="Frames in a strip, evenly chosen.")] = 8,
    width: Annotated[float | None, typer.Option(min=1, help="Image width in pixels.")] = None,
    height: Annotated[float | None, typer.Option(min=1, help="Image height in pixels.")] = None,
    fps: Annotated[float | None, typer.Option(min=0.1, max=1000, help="Frames per second.")] = None,
) -> None:
    """Draw CLIP as it was sent and as SPOTER is fed it, and say what looks wrong with it.

    A clip that a server would refuse is shown as far as it can be read, with the reason.
    """
    import numpy as np

    from spoter.files import atomic_write_bytes
    from spoter.formats import Limits, Options
    from spoter.inspection import findings, picture
    from spoter.inspection.reader import read
    from spoter.landmarks.layouts import load_layout
    from spoter.landmarks.normalize import check_scheme

    ending = out.suffix.lower()
    if ending not in picture.ENDINGS:
        raise SpoterError(f"{out}: found {ending or 'no ending'}, expected {' or '.join(picture.ENDINGS)}")
    table, limits, recognizer = load_layout(layout), Limits(), None
    if model is not None:
        from spoter.serving.recognizer import Recognizer

        recognizer = Recognizer.load(model)
        table, limits, scheme = recognizer.layout, recognizer.limits, recognizer.config.normalize
    check_scheme(table, scheme)
    shown = read(file, clip, table, scheme, limits, Options(width=width, height=height, fps=fps))

    count, rate = len(shown.points), shown.clip.fps
    heading = f"{file.name}: clip {shown.number} of {shown.clips}, " if shown.clips > 1 else f"{file.name}: "
    heading += f"{count} frame{'s' * (count > 1)}"
    heading += f" at {rate:g} per second ({count / rate:.1f} s)" if rate else ", frames per second not said"
    source = f"landmarks of {shown.clip.estimator or 'an estimator not said'}; layout {shown.layout.name}, {scheme}"
    print(heading)
    print(source)
    for line in findings.figures(shown.points, shown.layout):
        print(line)
    for note in shown.notes:
        print(f"note: {note}")
    if shown.refused:
        print(f"refused: a server answers {shown.refused}")
    wrong = findings.findings(shown.points, shown.layout, rate)
    for line in wrong:
        print(f"look: {line}")
    if not wrong:
        print("nothing looks wrong with it")
    if recognizer is not None and not shown.refused:
        _tell(recognizer, shown.clip)

    aspect = height / width if width and height else 1.0
    title = [heading, source if width and height else f"{source}; drawn square: the picture's size is not said"]
    if shown.refused:
        title.append(f"refused: {shown.refused}")
    if ending == ".gif":
        content = picture.animation(shown, title, scheme, aspect, _progress)
    else:
        chosen = np.unique(np.linspace(0, count - 1, frames).round().astype(int)).tolist()
        content = picture.strip(shown, title, chosen, scheme, aspect)
    atomic_write_bytes(out, content)
    print(f"wrote {out}")


def _tell(recognizer, clip) -> None:
    """Print what a model makes of a clip."""
    (answer,) = recognizer.recognize([clip], 1)
    if isinstance(answer, InputError):
        print(f"refused: a server answers {answer.code}: {answer}")
        return
    if clip.estimator not in (None, recognizer.config.estimator):
        print(
            f"look: landmarks of {clip.estimator}, but the model was trained on those of {recognizer.config.estimator}"
        )
    best = answer.glosses[0]
    known = {True: "one of its signs", False: "none of its signs", None: "cannot tell whether it is one of its signs"}
    print(f"answer: {best.gloss}, score {best.score:.2f}; {known[answer.known]}")


def _progress(frames):
    """Show a bar while a long GIF is drawn, on a terminal."""
    from tqdm import tqdm

    return tqdm(frames, unit="frame", leave=False, disable=None)
