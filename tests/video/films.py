"""Videos for tests: a drawn figure that MediaPipe detects, written with the video environment's OpenCV."""

from __future__ import annotations

import subprocess
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from tests import ROOT
from tests.webpage.camera import read_sample
from tests.webpage.figure import draw_clip

FPS = 12.5
SIZE = (480, 360)
_CODECS = {".mp4": "mp4v", ".avi": "MJPG", ".webm": "VP80"}
_WRITE = """
import sys, cv2, numpy as np
path, frames, codec, fps = sys.argv[1:]
frames = np.load(frames)
writer = cv2.VideoWriter(path, cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*codec), float(fps), frames.shape[2:0:-1])
assert writer.isOpened()
for frame in frames:
    writer.write(np.ascontiguousarray(frame[..., ::-1]))
writer.release()
"""


@lru_cache
def signed(gloss: str = "HALLO", step: int = 4) -> np.ndarray:
    """Return a sample's points of layout 54, every `step`-th frame: (T, 54, 2), image units."""
    return read_sample(ROOT / "samples", gloss)[::step]


@lru_cache
def figure(gloss: str = "HALLO", step: int = 4) -> np.ndarray:
    """Return the pictures of a figure that signs `gloss`: (T, H, W, 3) uint8 RGB."""
    return draw_clip(signed(gloss, step), SIZE)


def write(python: Path, path: Path, frames: np.ndarray, fps: float = FPS) -> Path:
    """Write frames (T, H, W, 3) RGB as a video in the container of the path's suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = path.with_suffix(".raw.npy")
    np.save(raw, frames)
    command = [python, "-c", _WRITE, path, raw, _CODECS[path.suffix], fps]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0 and path.stat().st_size, done.stderr
    raw.unlink()
    return path


def rotated(path: Path, film: Path) -> Path:
    """Write a copy of an .mp4 that players show rotated by 90 degrees clockwise, as phones do.

    The matrix in the box tkhd demands that: a b u / c d v / x y w, fixed-point numbers (ISO/IEC 14496-12, 8.3.2).
    """
    content = bytearray(film.read_bytes())
    start = content.index(b"tkhd") + 4 + 40  # version 0: 40 bytes of other fields precede the matrix
    matrix = (0, 1 << 16, 0, -(1 << 16), 0, 0, SIZE[1] << 16, 0, 1 << 30)
    content[start : start + 36] = b"".join(number.to_bytes(4, "big", signed=True) for number in matrix)
    path.write_bytes(content)
    return path


def enlarged(frames: np.ndarray) -> np.ndarray:
    """Return the upper middle of the frames, enlarged 1.5 times."""
    width, height = SIZE
    box = (width // 6, 0, width - width // 6, height - height // 3)
    return np.stack([np.asarray(Image.fromarray(frame).resize(SIZE, box=box)) for frame in frames])


def side_by_side(large: np.ndarray, small: np.ndarray, small_left: bool) -> np.ndarray:
    """Return frames with two videos of equal size next to each other; `small` is shown at half its size, centered."""
    frames = min(len(large), len(small))
    large, small = large[:frames], small[:frames, ::2, ::2]
    side = np.broadcast_to(large[:, :1, :1], large.shape).copy()
    top, left = (large.shape[1] - small.shape[1]) // 2, (large.shape[2] - small.shape[2]) // 2
    side[:, top : top + small.shape[1], left : left + small.shape[2]] = small
    return np.concatenate([side, large] if small_left else [large, side], axis=2)
