"""The command `spoter show`: a picture and figures of a clip, the first step when a prediction is wrong."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spoter.errors import InputError, SpoterError

if TYPE_CHECKING:
    from spoter.landmarks.clip import Clip
    from spoter.serving.recognizer import Recognizer


def show(
    file: Annotated[
        Path, typer.Argument(metavar="CLIP", help="Landmarks, a video, or a folder of frames of OpenPose or MMPose.")
    ],
    out: Annotated[
        Path, typer.Option(help="Picture to write: .png for a strip of frames, .gif for an animation.")
    ] = Path("clip.png"),
    model: Annotated[
        Path | None, typer.Option(help="Model folder whose layout, normalization and answer to show.")
    ] = None,
    layout: Annotated[
        str, typer.Option(help="Without --model: layout 29, 54, 71, spoter54, or the path of a CSV.")
    ] = "54",
    scheme: Annotated[
        str, typer.Option("--normalize", help="Without --model: normalization box, none or bohacek.")
    ] = "box",
    clip: Annotated[int, typer.Option(min=0, help="Index of the clip in a file with several clips, from 0.")] = 0,
    frames: Annotated[int, typer.Option(min=1, max=64, help="Number of frames in a strip, evenly spaced.")] = 8,
    width: Annotated[float | None, typer.Option(min=1, help="Image width in pixels.")] = None,
    height: Annotated[float | None, typer.Option(min=1, help="Image height in pixels.")] = None,
    fps: Annotated[float | None, typer.Option(min=0.1, max=1000, help="Frames per second.")] = None,
) -> None:
    """Draw CLIP as sent and as the network gets it; print what looks wrong.

    For a clip that a server refuses, the readable part is shown with the reason.
    """
    import numpy as np

    from spoter.files import atomic_write_bytes
    from spoter.formats import Limits, Options
    from spoter.inspection.findings import describe_points, find_problems
    from spoter.inspection.picture import ENDINGS, draw_animation, draw_strip
    from spoter.inspection.reader import inspect_clip
    from spoter.landmarks.layouts import load_layout
    from spoter.landmarks.normalize import check_scheme
    from spoter.progress import progress_bar

    ending = out.suffix.lower()
    if ending not in ENDINGS:
        raise SpoterError(f"{out}: found {ending or 'no ending'}, expected {' or '.join(ENDINGS)}")
    table, limits, recognizer = load_layout(layout), Limits(), None
    if model is not None:
        from spoter.serving.recognizer import Recognizer

        recognizer = Recognizer.load(model)
        table, limits, scheme = recognizer.layout, recognizer.limits, recognizer.config.normalize
    check_scheme(table, scheme)
    shown = inspect_clip(file, clip, table, scheme, limits, Options(width=width, height=height, fps=fps))

    count, rate = len(shown.points), shown.clip.fps
    heading = f"{file.name}: clip {shown.number} of {shown.count}, " if shown.count > 1 else f"{file.name}: "
    heading += f"{count} frame{'s' * (count > 1)}"
    heading += f" at {rate:g} per second ({count / rate:.1f} s)" if rate else ", frame rate unknown"
    source = f"landmarks of {shown.clip.estimator or 'an unknown estimator'}; layout {shown.layout.name}, {scheme}"
    lines = [heading, source, *describe_points(shown.points, shown.layout)]
    lines += [f"note: {note}" for note in shown.notes]
    lines += [f"refused: a server answers {shown.refusal}"] * bool(shown.refusal)
    problems = find_problems(shown.points, shown.layout, rate)
    lines += [f"check: {problem}" for problem in problems] or ["nothing looks wrong"]
    print("\n".join(lines))
    if recognizer is not None and not shown.refusal:
        _print_prediction(recognizer, shown.clip)

    aspect = height / width if width and height else 1.0
    title = [heading, source if width and height else f"{source}; drawn square: the picture's size is unknown"]
    title += [f"refused: {shown.refusal}"] * bool(shown.refusal)
    if ending == ".gif":
        bar = partial(progress_bar, shown=True, desc="drawing", unit="frame", leave=False)
        content = draw_animation(shown, title, scheme, aspect, bar)
    else:
        chosen = np.unique(np.linspace(0, count - 1, frames).round().astype(int)).tolist()
        content = draw_strip(shown, title, chosen, scheme, aspect)
    atomic_write_bytes(out, content)
    print(f"wrote {out}")


def _print_prediction(recognizer: Recognizer, clip: Clip) -> None:
    (prediction,) = recognizer.recognize([clip], 1)
    if isinstance(prediction, InputError):
        print(f"refused: a server answers {prediction.code}: {prediction}")
        return
    trained = recognizer.config.estimator
    if clip.estimator not in (None, trained):
        print(f"check: landmarks of {clip.estimator}, but the model was trained on those of {trained}")
    verdict = {True: "known sign", False: "unknown sign", None: "this model cannot detect unknown signs"}
    print(f"answer: {prediction.gloss}, score {prediction.score:.2f}; {verdict[prediction.known]}")
