"""The command `spoter extract`: files with the landmarks of videos."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from spoter.video.extract import ExtractionResult


def extract(
    places: Annotated[list[str], typer.Argument(metavar="VIDEO…", help="Video files, folders of videos, or globs.")],
    out: Annotated[Path, typer.Option(help="Folder, or a file ending in .json, .npy, .pose or .hdf5.")],
    kind: Annotated[
        Literal["json", "npy", "pose", "hdf5"] | None,
        typer.Option("--format", help="Format of the files in a folder.", show_default="json"),
    ] = None,
    overlay: Annotated[
        Literal["mp4", "gif"] | None, typer.Option(help="Also write each video with the skeleton drawn over it.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Videos to read in parallel, one process per video.")] = 1,
    max_seconds: Annotated[float, typer.Option(min=0.1, help="Maximum length of a video in seconds.")] = 600,
    timeout: Annotated[float, typer.Option(min=1, help="Maximum time for reading one video in seconds.")] = 3600,
) -> None:
    """Extract landmarks from VIDEO… with MediaPipe Holistic.

    `spoter predict` and training read the files. Finished files are kept: run the same command again to resume a
    stopped run. See docs/video.md.
    """
    import signal
    from contextlib import closing

    from spoter.video.extract import ExtractionSettings, extract_videos, find_videos
    from spoter.video.progress import Bars, ensure_environment, say
    from spoter.video.reader import VideoLimits

    videos = find_videos(places)
    ensure_environment()
    limits = VideoLimits(max_seconds=max_seconds, timeout_s=timeout)
    finished = failed = 0
    with Bars(len(videos)) as bars:
        settings = ExtractionSettings(jobs, overlay, limits, lambda video: bars.watch(video.name))
        try:
            with closing(extract_videos(videos, out, kind, settings)) as results:
                for result in results:
                    finished += 1
                    failed += result.error is not None
                    bars.done(result.video.name)
                    _report(result)
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # the rest takes a tenth of a second
            say(f"stopped: {finished} of {len(videos)} videos are done; run the same command again to resume")
            raise typer.Exit(130) from None
    if failed:
        say(f"{failed} of {len(videos)} videos could not be read")
        raise typer.Exit(2)


def _report(result: ExtractionResult) -> None:
    """Print one line for a finished video on stdout, its error or notes on stderr."""
    from spoter.errors import InputError
    from spoter.video.progress import say

    video, error = result.video, result.error
    if error is not None:  # only an InputError does not name the video itself
        return say(
            f"error: {video.path}: {error.code}: {error}" if isinstance(error, InputError) else f"error: {error}"
        )
    rate = "unknown frame rate" if result.fps is None else f"{result.fps:.4g} frames per second"
    frames = f"{result.frames} frame{'s' * (result.frames != 1)}"
    say(f"{result.output}: {video.name}, {'made before' if result.reused else f'{frames}, {rate}'}", sys.stdout)
    for note in result.notes:
        say(f"note: {video.path}: {note}")
