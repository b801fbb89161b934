"""Videos for tests: drawn ones, clips of people beside the checkout, and the interpreter that makes and reads them."""

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
# With OpenCV, which the environment has and the one of the tests has not: a cloud that drifts.
_DRAW = """
import sys, cv2, numpy as np
path, codec, (width, height, frames) = sys.argv[1], sys.argv[2], map(int, sys.argv[3:])
writer = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*codec), 25, (width, height))
assert writer.isOpened()
few = np.random.default_rng(0).integers(0, 255, (6, 8, 3), dtype=np.uint8)
picture = cv2.resize(few, (width, height), interpolation=cv2.INTER_CUBIC)
for number in range(frames):
    writer.write(np.roll(picture, number, axis=1))
writer.release()
"""


def find_python() -> Path:
    """Return the interpreter with MediaPipe, made where there is none, which takes minutes; skip where it cannot be."""
    try:
        return install_environment()
    except SpoterError as error:
        pytest.skip(f"no environment with MediaPipe can be made here: {error}")


def draw(path: Path, width: int = 64, height: int = 48, frames: int = 10) -> Path:
    """Draw a video without a person, at 25 frames a second; .webm or .mp4."""
    codec = "VP80" if path.suffix == ".webm" else "mp4v"
    command = [find_python(), "-c", _DRAW, path, codec, width, height, frames]
    subprocess.run([str(word) for word in command], check=True, capture_output=True)
    return path


def sign(path: Path) -> Path:
    """Film a drawn figure that signs HALLO."""
    return films.write(find_python(), path, films.figure("HALLO"))


def clip_of_a_person(name: str = "lsp-casa.mp4") -> Path:
    """Return a clip of a signing person; skip where there is none."""
    if not (CLIPS / name).is_file():
        pytest.skip("../shared/clips is not here: no video of a person is recognised")
    return CLIPS / name


def children() -> list[psutil.Process]:
    """Return the processes below this one that read a video; other tests' servers have children too, and dead ones."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            command = process.cmdline()
        except psutil.NoSuchProcess:  # a zombie among them
            continue
        if any(Path(word).parts[-2:] == ("video", "worker") for word in command):
            found.append(process)
    return found
