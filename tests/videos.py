"""Videos for tests: drawn ones and clips of people in ../shared; and the interpreter that writes and reads videos."""

from __future__ import annotations

import subprocess
from pathlib import Path

import psutil
import pytest

from spoter.errors import SpoterError
from spoter.video.install import install_environment
from tests.conftest import SHARED
from tests.video import films

CLIPS = SHARED / "clips"
# Draws a drifting cloud, with OpenCV, which only the video environment has.
_DRAW = """
import sys, cv2, numpy as np
path, codec, (width, height, frames) = sys.argv[1], sys.argv[2], map(int, sys.argv[3:])
writer = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*codec), 25, (width, height))
assert writer.isOpened()
colors = np.random.default_rng(0).integers(0, 255, (6, 8, 3), dtype=np.uint8)
picture = cv2.resize(colors, (width, height), interpolation=cv2.INTER_CUBIC)
for number in range(frames):
    writer.write(np.roll(picture, number, axis=1))
writer.release()
"""


def find_python() -> Path:
    """Return the interpreter of the video environment; create it if missing, which takes minutes, or skip the test."""
    try:
        return install_environment()
    except SpoterError as error:
        pytest.skip(f"the video environment cannot be created: {error}")


def draw(path: Path, width: int = 64, height: int = 48, frames: int = 10) -> Path:
    """Draw a video without a person, with 25 frames per second; .webm or .mp4."""
    codec = "VP80" if path.suffix == ".webm" else "mp4v"
    command = [find_python(), "-c", _DRAW, path, codec, width, height, frames]
    subprocess.run([str(word) for word in command], check=True, capture_output=True)
    return path


def sign(path: Path) -> Path:
    """Write a video of a drawn figure that signs HALLO."""
    return films.write(find_python(), path, films.figure("HALLO"))


def clip_of_a_person(name: str = "lsp-casa.mp4") -> Path:
    """Return a video of a signing person; skip the test if it is missing."""
    if not (CLIPS / name).is_file():
        pytest.skip("../shared/clips is missing: no test with a video of a person")
    return CLIPS / name


def children() -> list[psutil.Process]:
    """Return the descendants of this process that read a video; servers of other tests have children, too."""
    workers = []
    for process in psutil.Process().children(recursive=True):
        try:
            command = process.cmdline()
        except psutil.NoSuchProcess:  # a zombie
            continue
        if any(Path(word).parts[-2:] == ("video", "worker") for word in command):
            workers.append(process)
    return workers
