"""From a video to landmarks: the parent of the child that runs MediaPipe."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from spoter.error_codes import ErrorCode
from spoter.errors import InputError, SpoterError
from spoter.landmarks.clip import Clip, make_clip
from spoter.landmarks.estimators import MEDIAPIPE
from spoter.video.worker.containers import Refused, check

ENDINGS = (".mp4", ".webm", ".mov", ".avi", ".mkv", ".m4v")
"""Endings of files that are read as videos."""

OVERLAY = ".overlay"
"""Before the ending of the name of a video that `spoter extract` draws."""

EXTRACTION = "holistic-0.10.21-3"
"""What made the landmarks: to be raised when the extraction changes, as files and caches remember it."""

_CHILD = Path(__file__).with_name("worker")
_LONGEST_LINE = 1 << 16
_BEAT = 0.1  # seconds between two looks at the clock

Progress = Callable[[int, int | None], None]
"""Is told how many frames are done, and of how many; None while they are counted."""


def is_overlay(path: Path) -> bool:
    """Tell whether a file is named as a video or GIF that `spoter extract` draws."""
    return Path(path.stem).suffix == OVERLAY and path.suffix.lower() in (".mp4", ".gif")


@dataclass(frozen=True)
class VideoLimits:
    """How much a video may be. The defaults are for a file of one's own; a server has tighter ones.

    Attributes
    ----------
    max_seconds : float
        Of the video.
    max_pixels : int
        In a picture; the default is that of 4096 x 2304.
    max_bytes : int
        Of the file.
    max_frames : int
    timeout_s : float
        Seconds that reading may take in all.
    """

    max_seconds: float = 600.0
    max_pixels: int = 9_437_184
    max_bytes: int = 2**31
    max_frames: int = 36_000
    timeout_s: float = 3600.0


@dataclass(frozen=True)
class Extracted:
    """What was found in a video.

    Attributes
    ----------
    clip : Clip
        (T, 543, 2) of MediaPipe, a row a frame.
    fps : float or None
        Frames per second, None where the file does not tell.
    width, height : int
        Of the upright picture, in pixels.
    notes : list of str
        What is to be said to a person: several people, a file that was cut short, a frame rate that changes.
    """

    clip: Clip
    fps: float | None
    width: int
    height: int
    notes: list[str] = field(default_factory=list)


class Stopped(Exception):
    """Reading was stopped by whoever asked for it."""


def read(
    path: Path,
    limits: VideoLimits = VideoLimits(),
    progress: Progress | None = None,
    *,
    overlay: Path | None = None,
    scratch: Path | None = None,
    stop: threading.Event | None = None,
) -> Extracted:
    """Find the landmarks of the person in a video with MediaPipe Holistic.

    Every frame is looked at, upright, by a Holistic of its own (complexity 1), in a child process that ends with this
    call: when the time is over, when `stop` is set, and when this process ends. A file that does not begin as a video
    starts none.

    Parameters
    ----------
    path : Path
    limits : VideoLimits
    progress : callable, optional
        `Progress`.
    overlay : Path, optional
        Video (.mp4) or GIF to write, with the skeleton over the frames.
    scratch : Path, optional
        Temporary folder of the caller's, with the video in it, perhaps: the child removes it when this process is
        killed, and nobody else can.
    stop : threading.Event, optional
        Set by another thread, it ends the reading.

    Raises
    ------
    InputError
        ``bad_video``, ``video_too_large``, ``video_too_long``, ``video_timeout`` and ``no_person``, without a place.
    SpoterError
        Where there is no environment to read videos in, or MediaPipe does not start there.
    OSError
        Where the temporary folder or `overlay` cannot be written.
    Stopped
        Where `stop` was set.
    """
    from spoter.video import environment

    python = environment.find()
    if python is None:
        raise SpoterError(f"there is no environment for videos yet: {environment.HOW}")
    try:
        kind = check(path, limits.max_bytes)
    except Refused as refused:
        raise _refusal(refused.code, refused.message) from None
    with tempfile.TemporaryDirectory(prefix="spoter-video-", dir=scratch) as folder:
        # The child opens it under a plain name: one that is no UTF-8 crashes OpenCV.
        video, result = Path(folder, "linked"), Path(folder, "points.npy")
        video.symlink_to(Path(path).absolute())
        drawn = Path(folder, f"overlay{overlay.suffix.lower()}") if overlay else None
        job = {
            "video": str(video),
            "kind": kind,
            "folder": str(scratch or folder),
            "result": str(result),
            "limits": asdict(limits),
            "overlay": {"path": str(drawn), "parts": _parts()} if drawn else None,
        }
        done = ask(python, job, limits.timeout_s, progress, stop)
        extracted = _extracted(np.load(result, allow_pickle=False), done)
        if drawn is not None:
            from spoter.files import atomic_write

            with atomic_write(overlay) as temporary:
                shutil.copyfile(drawn, temporary)
    return extracted


def ask(
    python: Path,
    job: dict,
    timeout_s: float = 120.0,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> dict:
    """Have a child do a job, and return what it says at the end; it and all it started are gone afterwards.

    Raises
    ------
    InputError, SpoterError, Stopped
        As `read`.
    """
    try:
        child = subprocess.Popen(
            [python, "-I", _CHILD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a group of its own: Ctrl-C reaches it through us
        )
    except OSError as error:
        raise SpoterError(f"{python}: cannot be started ({error.strerror or error})") from error
    with _Watch(child, timeout_s, stop) as watch:
        answer = _talk(child, job, progress)
    if watch.why == "stopped":
        raise Stopped
    if "done" in answer:
        return answer["done"]
    if watch.why == "timeout":
        raise InputError(ErrorCode.VIDEO_TIMEOUT, f"found no end of it in {timeout_s:g} seconds, expected one")
    if answer.get("error") == "environment":
        raise SpoterError(f"{python}: {answer['message']}")
    if answer.get("error") == "system":
        raise OSError(answer["number"], answer["message"], tempfile.gettempdir())
    if "error" in answer:
        raise _refusal(answer["error"], answer["message"])
    code = child.returncode
    how = f"was ended by signal {-code}" if code < 0 else f"ended with status {code}"
    raise InputError(ErrorCode.BAD_VIDEO, f"the process that decodes it {how}, expected a video that can be decoded")


def _refusal(code: str, message: str) -> InputError:
    """Return the error of a video that the child does not read."""
    return InputError(ErrorCode(code), message)


def _talk(child: subprocess.Popen, job: dict, progress: Progress | None) -> dict:
    """Hand the job over and listen; return the last line, or {} where the child ended without one."""
    try:
        child.stdin.write(json.dumps(job).encode() + b"\n")
        child.stdin.flush()
    except BrokenPipeError:
        return {}
    while line := child.stdout.readline(_LONGEST_LINE):
        try:
            said = json.loads(line)
        except ValueError:  # killed in the middle of a line
            return {}
        if "frames" not in said:
            return said
        if progress is not None:
            progress(said["frames"], said["of"])
    return {}


class _Watch:
    """Ends a child when its time is over, or when it is told to; and in any case at the end of the block."""

    def __init__(self, child: subprocess.Popen, timeout_s: float, stop: threading.Event | None):
        self.why = ""
        self._child, self._stop = child, stop
        self._end = time.monotonic() + timeout_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._kill()
        with contextlib.suppress(BrokenPipeError):  # a child that died before it read its job: part of it is left
            self._child.stdin.close()
        self._child.stdout.close()
        self._child.wait()

    def _run(self) -> None:
        while not self._over.wait(_BEAT):
            if self._stop is not None and self._stop.is_set():
                self.why = "stopped"
            elif time.monotonic() > self._end:
                self.why = "timeout"
            if self.why:
                return self._kill()

    def _kill(self) -> None:
        # Not yet waited for, so that the number is still this child's.
        if self._child.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):  # it has ended; macOS says so by EPERM
                os.killpg(self._child.pid, signal.SIGKILL)


def _extracted(points: np.ndarray, done: dict) -> Extracted:
    """Make what is handed out of the child's result, and say who was not found."""
    # What Holistic guesses farther away than any landmark counts as missing, as no part of a video is a client's.
    clip = make_clip(points, MEDIAPIPE.names, MEDIAPIPE.name, done["fps"], np.zeros(len(MEDIAPIPE.names), dtype=bool))
    there = ~np.isnan(clip.points[..., 0])
    seen = there.any(axis=1)
    if not seen.any():
        raise InputError(ErrorCode.NO_PERSON, f"found nobody in any of {len(clip)} frames, expected a person")
    notes = list(done["notes"])
    if not seen.all():
        notes.append(f"found nobody in {np.count_nonzero(~seen)} of {len(clip)} frames")
    if not there[:, MEDIAPIPE.part("left_hand")].any() and not there[:, MEDIAPIPE.part("right_hand")].any():
        notes.append(f"found no hand in any of {len(clip)} frames")
    return Extracted(clip, done["fps"], done["width"], done["height"], notes)


def _parts() -> list[dict]:
    """Return the skeleton as the child draws it."""
    from spoter.landmarks.skeleton import CHAINS, COLOURS, find_columns, find_limbs

    parts = []
    for name in CHAINS:
        rgb = [int(COLOURS[name][place : place + 2], 16) for place in (1, 3, 5)]
        part = {"name": name, "colour": rgb, "pairs": find_limbs(MEDIAPIPE.names, name).tolist()}
        if name != "body":
            columns = find_columns(MEDIAPIPE.names, name)
            wrist = MEDIAPIPE.names.index(f"pose_{name.split()[0]}_wrist")
            part |= {"columns": [int(columns[0]), int(columns[-1]) + 1], "wrist": wrist}
        parts.append(part)
    return parts
