"""Films for the browser's fake camera, and video files to upload, from drawn or decoded frames."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from spoter.landmarks.layouts import load_layout
from spoter.sources.clip_files import read_clips
from spoter.video import environment
from tests.conftest import SHARED
from tests.webpage.figure import NAMES

SAMPLES = {
    "HALLO": ("hallo.json", 0),
    "DEUTSCHLAND": ("deutschland.csv", 0),
    "MAINZ": ("mainz-long.csv", 0),
    "SOFTWARE": ("software.npy", 0),
    "ICH": ("ich-welt.jsonl", 0),
    "WELT": ("ich-welt.jsonl", 1),
    "ZEIGEN": ("zeigen-compact.json", 0),
}
"""The sample file of each gloss, and the clip's index in the file."""

_BY_OPENCV = """
import sys, cv2
film = cv2.VideoCapture(sys.argv[1])
size = [int(film.get(side)) for side in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)]
video = cv2.VideoWriter(sys.argv[2], cv2.VideoWriter_fourcc(*"VP80"), film.get(cv2.CAP_PROP_FPS), size)
while (frame := film.read())[0]:
    video.write(frame[1])
video.release()
"""


def read_sample(folder: Path, gloss: str) -> np.ndarray:
    """Return a sample's points in layout 54, shape (T, 54, 2), in image units; NaN = missing."""
    file, index = SAMPLES[gloss]
    layout = load_layout("54")
    return layout.select(read_clips([folder / file], layout)[index])


def hands_up(points: np.ndarray) -> np.ndarray:
    """Return for each frame of a clip (T, 54, 2) whether a hand was found."""
    return ~np.isnan(points[:, [NAMES.index(f"{side}Hand_wrist") for side in ("left", "right")], 0]).all(axis=1)


def read_person(name: str, size: tuple[int, int], count: int) -> np.ndarray:
    """Return at most `count` frames of a clip in ../shared/clips, shape (T, height, width, 3), uint8 RGB.

    ffmpeg decodes them because Chromium does not support the codec.
    """
    clip, ffmpeg = SHARED / "clips" / name, shutil.which("ffmpeg")
    if not clip.is_file():
        pytest.skip("found no ../shared/clips, which has recordings of people")
    if ffmpeg is None:
        pytest.skip("found no ffmpeg, which decodes ../shared/clips: apt-get install ffmpeg")
    command = [ffmpeg, "-loglevel", "error", "-i", clip, "-vf", "scale={}:{}".format(*size), "-f", "rawvideo"]
    raw = subprocess.run([*command, "-pix_fmt", "rgb24", "-"], capture_output=True, check=True).stdout
    frames = np.frombuffer(raw, np.uint8).reshape(-1, size[1], size[0], 3)
    return frames[np.linspace(0, len(frames) - 1, min(count, len(frames))).astype(int)]


def write_y4m(path: Path, frames: np.ndarray, rate: int) -> Path:
    """Write frames (T, H, W, 3), uint8 RGB, H and W even, as uncompressed YUV 4:2:0 (BT.601, full range).

    The fake camera plays the file in real time, in a loop. At a low `rate`, in frames per second, a slow machine gets
    every frame.
    """
    height, width = frames.shape[1:3]
    red, green, blue = np.moveaxis(frames.astype(np.float32), 3, 0)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    planes = [luma, 128 + (blue - luma) * 0.564, 128 + (red - luma) * 0.713]
    halved = [plane.reshape(-1, height // 2, 2, width // 2, 2).mean(axis=(2, 4)) for plane in planes[1:]]
    parts = [np.clip(plane.round(), 0, 255).astype(np.uint8) for plane in (planes[0], *halved)]
    with path.open("wb") as file:
        file.write(f"YUV4MPEG2 W{width} H{height} F{rate}:1 Ip A1:1 C420jpeg\n".encode())
        for number in range(len(frames)):
            file.write(b"FRAME\n" + b"".join(part[number].tobytes() for part in parts))
    return path


def write_webm(path: Path, frames: np.ndarray, rate: int) -> Path | None:
    """Write a VP8 video with ffmpeg or the OpenCV of the video environment; return None if both are missing."""
    raw = write_y4m(path.with_suffix(".y4m"), frames, rate)
    ffmpeg, python = shutil.which("ffmpeg"), environment.find_python()
    if ffmpeg is not None:
        command = [ffmpeg, "-loglevel", "error", "-y", "-i", raw, "-c:v", "libvpx", "-b:v", "2M", "-auto-alt-ref", "0"]
    elif python is not None:
        command = [python, "-c", _BY_OPENCV, raw]
    else:
        return None
    subprocess.run([*command, path], check=True, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return path
