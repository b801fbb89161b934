"""Decoding: bad files, limits, frame rates, and pixels that are not square."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import psutil
import pytest

from spoter.errors import InputError
from spoter.video.reader import VideoLimits, read
from tests import ROOT

pytestmark = pytest.mark.video


def bad_files(folder: Path, film: Path) -> dict[Path, str]:
    """Return files that are not videos, each with a pattern for its error message."""
    content = film.read_bytes()
    index, pictures = content.index(b"moov"), content.index(b"mdat") + 4
    black = content[:pictures] + bytes(index - 4 - pictures) + content[index - 4 :]
    contents = {
        "empty.mp4": (b"", "empty"),
        "text.mp4": (b"this is no film", "MP4, MOV, WebM, MKV or AVI"),
        # A playlist: FFmpeg would open the files and hosts in it.
        "list.mp4": (f"#EXTM3U\n#EXTINF:2,\n{film}\n#EXT-X-ENDLIST\n".encode(), "MP4, MOV, WebM, MKV or AVI"),
        "index.mp4": (content[: index - 4], "moov"),
        "sound.mp4": (content.replace(b"vide", b"soun"), "audio"),
        "frames.mp4": (black, "MP4 .*mp4v"),
        "av1.mp4": (black.replace(b"mp4v", b"av01"), "AV1 .*MP4"),
        "short.webm": (b"\x1aE\xdf\xa3" + bytes(100), "Matroska"),
        "short.avi": (b"RIFF\xff\xff\xff\x7fAVI vids", "AVI"),
    }
    for name, (file_content, _) in contents.items():
        (folder / name).write_bytes(file_content)
    os.mkfifo(folder / "pipe.mp4")
    patterns = {name: pattern for name, (_, pattern) in contents.items()}
    patterns |= {"pipe.mp4": "regular file", "absent.mp4": "No such file"}
    return {folder / name: pattern for name, pattern in patterns.items()}


def test_file_that_is_not_a_video_is_an_error_with_its_reason(film, tmp_path):
    for path, pattern in bad_files(tmp_path, film).items():
        with pytest.raises(InputError, match=pattern) as caught:
            read(path)
        assert (caught.value.code, caught.value.status) == ("bad_video", 400), path


@pytest.mark.parametrize(
    ("limits", "code", "pattern"),
    [
        ({"max_bytes": 1000}, "video_too_large", r"bytes.*\b1000\b"),
        ({"max_pixels": 480 * 359}, "video_too_large", r"480 x 360 pixels.*\b172320\b"),
        ({"max_frames": 19}, "video_too_long", "19 frames"),
        ({"max_seconds": 1.5}, "video_too_long", "1.5 seconds"),
    ],
)
def test_video_above_a_limit_is_refused(film, limits, code, pattern):
    with pytest.raises(InputError, match=pattern) as caught:
        read(film, VideoLimits(**limits))
    assert (caught.value.code, caught.value.status) == (code, 413)


def test_false_size_in_the_header_does_not_exhaust_memory(film, tmp_path):
    content = bytearray(film.read_bytes())
    entry = content.index(b"mp4v") + 4 + 24  # width and height of the sample entry: ISO/IEC 14496-12, 12.1.3
    assert content[entry : entry + 4] == bytes([480 >> 8, 480 & 255, 360 >> 8, 360 & 255])
    content[entry : entry + 4] = (30_000).to_bytes(2, "big") * 2
    # The decoder's header holds the size again, in 13 bits each: 8191 x 8191 there.
    (tmp_path / "huge.mp4").write_bytes(content)
    before = psutil.virtual_memory().available
    try:
        result = len(read(tmp_path / "huge.mp4").clip)  # the frames are unchanged
    except InputError as error:
        result = error.code
    assert result in (20, "video_too_large", "bad_video")
    assert before - psutil.virtual_memory().available < 4 << 30


CLOCK = """
import json, sys
sys.path.insert(0, sys.argv[1])
import cv2
from decoding import FrameClock

class Capture:
    # Replaces OpenCV's capture, because OpenCV writes no such files: the header's rate and count, and the frame's time.
    def __init__(self, fps, count): self.fps, self.count, self.now = fps, count, 0
    def get(self, name):
        return {cv2.CAP_PROP_FPS: self.fps, cv2.CAP_PROP_FRAME_COUNT: self.count, cv2.CAP_PROP_POS_MSEC: self.now}[name]

for fps, count, times in json.load(sys.stdin):
    clock, capture = FrameClock(), Capture(fps, count)
    for capture.now in times:
        clock.tick(capture)
    print(json.dumps([*clock.frame_rate(), clock.truncation_notes()]))
"""


def test_frame_rate_that_varies_is_missing_or_impossible(python):
    even = [40 * number for number in range(10)]
    cases = {
        "as in the header": (25.0, 10, even, 25, 0, 0),
        "a browser's recording": (1000.0, -1e15, even, 25, 1, 0),
        "no rate in the header": (0.0, 0, even, 25, 1, 0),
        "varying": (25.0, 10, [0, 40, 80, 200, 360], 1000 * 4 / 360, 1, 1),
        "no times": (25.0, 10, [0] * 10, 25, 0, 0),
        "no rate and no times": (0.0, 0, [0] * 10, None, 1, 0),
        "one frame": (30.0, 1, [0], 30, 0, 0),
        "more frames in the header": (25.0, 64, even, 25, 0, 1),
    }
    done = subprocess.run(
        [python, "-c", CLOCK, ROOT / "spoter" / "video" / "worker"],
        input=json.dumps([case[:3] for case in cases.values()]),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for (name, (*_, expected, rate_notes, truncation_notes)), line in zip(
        cases.items(), done.stdout.splitlines(), strict=True
    ):
        fps, *notes = json.loads(line)
        assert fps == pytest.approx(expected), name
        assert list(map(len, notes)) == [rate_notes, truncation_notes], (name, notes)


SHAPES = """
import json, sys
sys.path.insert(0, sys.argv[1])
import cv2, numpy as np
from decoding import retrieve_frame

class Capture:
    # Replaces OpenCV's capture, because OpenCV writes no such files: an upright frame of 40 x 30 pixels.
    names = cv2.CAP_PROP_SAR_NUM, cv2.CAP_PROP_SAR_DEN, cv2.CAP_PROP_ORIENTATION_META
    def __init__(self, *values): self.values = dict(zip(self.names, values))
    def get(self, name): return self.values[name]
    def retrieve(self): return True, np.zeros((30, 40, 3), np.uint8)

for values in json.load(sys.stdin):
    print(retrieve_frame(Capture(*values)).shape[1::-1])
"""


def test_frames_with_pixels_that_are_not_square_are_stretched_as_in_players(python):
    cases = {
        (1, 1, 0): (40, 30), (0, 1, 0): (40, 30), (0, 0, 90): (40, 30), (101, 100, 0): (40, 30),
        (4, 3, 0): (53, 30), (4, 3, 180): (53, 30), (1, 2, 0): (40, 60),
        (4, 3, 90): (40, 40), (4, 3, 270): (40, 40), (1, 2, 90): (80, 30),
    }  # fmt: skip
    done = subprocess.run(
        [python, "-c", SHAPES, ROOT / "spoter" / "video" / "worker"],
        input=json.dumps(list(cases)),
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines() == [str(shape) for shape in cases.values()], done.stderr
