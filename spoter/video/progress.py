"""Videos as the command line reads them: what takes long is said on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from spoter.video import environment, install
from spoter.video.reader import Extracted, read


def say(text: str) -> None:
    """Write a line on stderr."""
    print(plain(text), file=sys.stderr)


def plain(text: str) -> str:
    """Return a text with escapes for what would move a terminal, or is no text: names of files may hold anything."""
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)


def ensure_environment() -> None:
    """Make the environment that videos are read in, where there is none, and say so."""
    if environment.find() is None:
        install.make(say)


class Bars:
    """Bars on stderr, in a terminal only: one for each video that is being read, and one for all where that is many.

    Parameters
    ----------
    videos : int
    """

    def __init__(self, videos: int = 1):
        name = TextColumn("{task.description}", markup=False)
        self._progress = Progress(
            *(name, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()),
            console=Console(stderr=True),
            transient=True,
            disable=not sys.stderr.isatty(),
            redirect_stdout=sys.stdout.isatty(),  # what is printed meanwhile goes above the bars in the same terminal
        )
        self._all = self._progress.add_task("videos", total=videos, visible=videos > 1)
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def watch(self, name: str) -> Callable[[int, int | None], None]:
        """Return what shows the frames of one video, from when it is told of them."""

        def watch(done: int, of: int | None) -> None:
            if name not in self._tasks:
                self._tasks[name] = self._progress.add_task(plain(name), total=of)
            self._progress.update(self._tasks[name], completed=done, total=of)

        return watch

    def done(self, name: str) -> None:
        """Count a video, and take its bar away."""
        self._progress.advance(self._all)
        if name in self._tasks:
            self._progress.remove_task(self._tasks.pop(name))


def read_video(path: Path, note: Callable[[str], None] = say) -> Extracted:
    """Read one video with a bar, and hand what has to be said of it to `note`.

    Raises
    ------
    InputError, SpoterError
        As `spoter.video.read`; errors about the video name it.
    """
    from spoter.errors import InputError

    ensure_environment()
    with Bars() as bars:
        try:
            extracted = read(path, progress=bars.watch(path.name))
        except InputError as error:
            raise error.within(str(path)) from None
    for text in extracted.notes:
        note(f"{path}: {text}")
    return extracted
