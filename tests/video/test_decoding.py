"""What is decoded and what is not: bad files, limits, frame rates, and pixels that are not square."""

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


def bad_files(folder: Path, film: Path) -> dict[str, tuple[Path, str]]:
    """Return files that are no videos, and what is said of each."""
    content = film.read_bytes()
    index, pictures = content.index(b"moov"), content.index(b"mdat") + 4
    black = content[:pictures] + bytes(index - 4 - pictures) + content[index - 4 :]
    made = {
        "empty.mp4": (b"", "found an empty file"),
        "text.mp4": (b"this is no film", "found no video"),
        # A playlist, which FFmpeg would follow to other files and hosts.
        "list.mp4": (f"#EXTM3U\n#EXTINF:2,\n{film}\n#EXT-X-ENDLIST\n".encode(), "found no video"),
        "index.mp4": (content[: index - 4], r"without its index \(moov\)"),
        "sound.mp4": (content.replace(b"vide", b"soun"), "found only sound"),
        "frames.mp4": (black, r"found no frame in this MP4 file that can be decoded \(codec: 'mp4v'\)"),
        "av1.mp4": (black.replace(b"mp4v", b"av01"), "found the codec AV1 in this MP4 file, which is not decoded"),
        "short.webm": (b"\x1aE\xdf\xa3" + bytes(100), "found no track of pictures in this Matroska file"),
        "short.avi": (b"RIFF\xff\xff\xff\x7fAVI vids", "found no frame in this AVI file"),
    }
    files = {}
    for name, (bytes_, said) in made.items():
        (folder / name).write_bytes(bytes_)
        files[name] = (folder / name, said)
    os.mkfifo(folder / "endless.mp4")
    files["endless.mp4"] = (folder / "endless.mp4", "found what is no regular file")
    files["absent.mp4"] = (folder / "absent.mp4", "cannot be read")
    return files


def test_what_is_no_video_is_named(film, tmp_path):
    for path, said in bad_files(tmp_path, film).values():
        with pytest.raises(InputError, match=said) as caught:
            read(path)
        assert (caught.value.code, caught.value.status) == ("bad_video", 400), path


@pytest.mark.parametrize(
    ("limits", "code", "said"),
    [
        ({"max_bytes": 1000}, "video_too_large", "bytes, expected at most 1000"),
        ({"max_pixels": 480 * 359}, "video_too_large", "found 480 x 360 pixels"),
        ({"max_frames": 19}, "video_too_long", "found more than 19 frames"),
        ({"max_seconds": 1.5}, "video_too_long", "found more than 1.5 seconds"),
    ],
)
def test_limits_hold(film, limits, code, said):
    with pytest.raises(InputError, match=said) as caught:
        read(film, VideoLimits(**limits))
    assert (caught.value.code, caught.value.status) == (code, 413)


def test_a_picture_that_lies_about_its_size_exhausts_nothing(film, tmp_path):
    content = bytearray(film.read_bytes())
    entry = content.index(b"mp4v") + 4 + 24  # width and height of the sample entry: ISO/IEC 14496-12, 12.1.3
    assert content[entry : entry + 4] == bytes([480 >> 8, 480 & 255, 360 >> 8, 360 & 255])
    content[entry : entry + 4] = (30_000).to_bytes(2, "big") * 2
    # The decoder's own header, of 13 bits each, says it again: there it is 8191 x 8191.
    (tmp_path / "huge.mp4").write_bytes(content)
    before = psutil.virtual_memory().available
    try:
        result = len(read(tmp_path / "huge.mp4").clip)  # the pictures themselves are what they were
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
    # In OpenCV's place, which writes no such files: it tells a header's rate and the time of the frame it is at.
    def __init__(self, fps, count): self.fps, self.count, self.now = fps, count, 0
    def get(self, what):
        return {cv2.CAP_PROP_FPS: self.fps, cv2.CAP_PROP_FRAME_COUNT: self.count, cv2.CAP_PROP_POS_MSEC: self.now}[what]

for fps, count, times in json.load(sys.stdin):
    clock, capture = FrameClock(), Capture(fps, count)
    for capture.now in times:
        clock.tick(capture)
    print(json.dumps([*clock.frame_rate(), clock.truncation_notes()]))
"""


def test_frame_rates_that_change_are_absent_or_absurd(python):
    even = [40 * number for number in range(10)]
    cases = {
        "as it says": (25.0, 10, even, 25, 0, 0),
        "a browser's recording": (1000.0, -1e15, even, 25, 1, 0),
        "none": (0.0, 0, even, 25, 1, 0),
        "changing": (25.0, 10, [0, 40, 80, 200, 360], 1000 * 4 / 360, 1, 1),
        "times lost": (25.0, 10, [0] * 10, 25, 0, 0),
        "nothing known": (0.0, 0, [0] * 10, None, 1, 0),
        "one frame": (30.0, 1, [0], 30, 0, 0),
        "promised more": (25.0, 64, even, 25, 0, 1),
    }
    done = subprocess.run(
        [python, "-c", CLOCK, ROOT / "spoter" / "video" / "worker"],
        input=json.dumps([case[:3] for case in cases.values()]),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for (name, (*_, expected, notes, cut)), line in zip(cases.items(), done.stdout.splitlines(), strict=True):
        fps, said, missed = json.loads(line)
        assert fps == pytest.approx(expected), name
        assert (len(said), len(missed)) == (notes, cut), (name, said, missed)


SHAPES = """
import json, sys
sys.path.insert(0, sys.argv[1])
import cv2, numpy as np
from decoding import retrieve_frame

class Capture:
    # In OpenCV's place, which writes no such files: a frame of 40 x 30 as it is shown upright.
    asked = cv2.CAP_PROP_SAR_NUM, cv2.CAP_PROP_SAR_DEN, cv2.CAP_PROP_ORIENTATION_META
    def __init__(self, *told): self.told = dict(zip(self.asked, told))
    def get(self, what): return self.told[what]
    def retrieve(self): return True, np.zeros((30, 40, 3), np.uint8)

for told in json.load(sys.stdin):
    print(retrieve_frame(Capture(*told)).shape[1::-1])
"""


def test_pictures_of_pixels_that_are_not_square_are_stretched_as_players_do(python):
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
