"""The command `spoter extract`: landmarks of videos, in files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from spoter.video.extract import Done

# What reads videos is imported by the command, so that `spoter --help` does not wait for it.


def extract(
    places: Annotated[list[str], typer.Argument(metavar="VIDEO…", help="Files, folders of videos, or globs.")],
    out: Annotated[Path, typer.Option(help="Folder, or a file ending in .json, .npy, .pose or .hdf5.")],
    kind: Annotated[
        Literal["json", "npy", "pose", "hdf5"] | None,
        typer.Option("--format", help="Form of the files in a folder; json unless said."),
    ] = None,
    overlay: Annotated[
        Literal["mp4", "gif"] | None, typer.Option(help="Draw the skeleton over each video as well.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Videos to read at the same time, each in a process.")] = 1,
    max_seconds: Annotated[float, typer.Option(min=0.1, help="Longest video to read.")] = 600,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds that reading one video may take.")] = 3600,
) -> None:
    """Find the landmarks in VIDEO… with MediaPipe Holistic, for `spoter predict` and for training.

    What an earlier run has made is kept; a run that was stopped goes on with the same command. See docs/video.md.
    """
    import signal
    from contextlib import closing

    from spoter.video import VideoLimits
    from spoter.video import extract as run
    from spoter.video.progress import Bars, ensure_environment, say

    videos = run.find_videos(places)
    ensure_environment()
    limits = VideoLimits(max_seconds=max_seconds, timeout_s=timeout)
    finished = failed = 0
    with Bars(len(videos)) as bars:
        settings = run.Settings(jobs, overlay, limits, lambda video: bars.watch(video.name))
        try:
            with closing(run.extract(videos, out, kind, settings)) as results:
                for done in results:
                    finished += 1
                    failed += done.error is not None
                    bars.done(done.video.name)
                    _tell(done)
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # what is left takes a tenth of a second
            say(f"stopped: {finished} of {len(videos)} videos are done; the same command goes on with the others")
            raise typer.Exit(130) from None
    if failed:
        say(f"{failed} of {len(videos)} videos could not be read")
        raise typer.Exit(2)


def _tell(done: Done) -> None:
    """Print a line for a finished video, and on stderr what has to be said of it."""
    from spoter.errors import InputError
    from spoter.video.progress import say

    if isinstance(done.error, InputError):
        return say(f"error: {done.video.path}: {done.error.code}: {done.error}")
    if done.error is not None:  # it says itself where
        return say(f"error: {done.error}")
    rate = "unknown frame rate" if done.fps is None else f"{done.fps:.4g} frames a second"
    frames = f"{done.frames} frame{'s' * (done.frames != 1)}"
    say(f"{done.output}: {done.video.name}, " + ("made before" if done.kept else f"{frames}, {rate}"), sys.stdout)
    for note in done.notes:
        say(f"note: {done.video.path}: {note}")
