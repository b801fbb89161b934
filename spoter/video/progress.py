"""Reading of videos on the command line, with progress and notes on stderr."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Self, TextIO

from tqdm import tqdm

from spoter.errors import InputError
from spoter.progress import progress_bar
from spoter.video.environment import find_python
from spoter.video.install import install_environment
from spoter.video.reader import VideoLandmarks, read


def say(text: str, stream: TextIO | None = None) -> None:
    """Print a line on `stream` (by default stderr), above the progress bars."""
    tqdm.write(plain(text), file=stream or sys.stderr)


def plain(text: str) -> str:
    """Return `text` with unprintable characters escaped: file names may hold terminal control sequences."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def ensure_environment() -> None:
    """Install the video environment if it is missing, and report the steps."""
    if find_python() is None:
        install_environment(say)


class Bars:
    """Progress bars on stderr, in a terminal only: one per video being read, and one for all `videos` if several."""

    def __init__(self, videos: int = 1):
        self._shown = sys.stderr.isatty()
        self._total: tqdm[object] = progress_bar(
            shown=self._shown and videos > 1, total=videos, desc="videos", unit="video", leave=False
        )
        self._bars: dict[str, tqdm[object]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for bar in (*self._bars.values(), self._total):
            bar.close()

    def watch(self, name: str) -> Callable[[int, int | None], None]:
        """Return a callback that shows the number of frames done in a video."""

        def update(done: int, total: int | None) -> None:
            if name not in self._bars:
                self._bars[name] = progress_bar(shown=self._shown, desc=plain(name), unit="frame", leave=False)
            bar = self._bars[name]
            bar.total = total
            bar.update(done - bar.n)

        return update

    def done(self, name: str) -> None:
        """Count a video as done and remove its bar."""
        self._total.update()
        if name in self._bars:
            self._bars.pop(name).close()


def read_video(path: Path, note: Callable[[str], None] = say) -> VideoLandmarks:
    """Read one video with a progress bar and pass its warnings to `note`; an `InputError` then names the video."""
    ensure_environment()
    with Bars() as bars:
        try:
            extracted = read(path, progress=bars.watch(path.name))
        except InputError as error:
            raise error.within(str(path)) from None
    for text in extracted.notes:
        note(f"{path}: {text}")
    return extracted
