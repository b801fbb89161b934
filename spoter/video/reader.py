"""Reading of one video file: returns its landmarks."""

import shutil
import tempfile
import threading
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spoter.error_codes import ErrorCode
from spoter.errors import InputError, SpoterError
from spoter.files import atomic_write
from spoter.landmarks.clip import Clip, make_clip
from spoter.landmarks.estimators import MEDIAPIPE
from spoter.landmarks.skeleton import CHAINS, COLOURS, find_columns, find_limbs
from spoter.video.child import Progress, run_job, video_error
from spoter.video.environment import INSTALL_HINT, find_python
from spoter.video.worker.containers import VideoError, check_container

VIDEO_SUFFIXES = (".mp4", ".webm", ".mov", ".avi", ".mkv", ".m4v")
"""Suffixes of files that are read as videos."""

OVERLAY_INFIX = ".overlay"
"""Precedes the suffix in the name of a video or GIF that `spoter extract` draws."""

EXTRACTION_VERSION = "holistic-0.10.21-3"
"""Recorded in files and caches; increase it when the extraction changes."""


def is_overlay(path: Path) -> bool:
    """Return whether the name of a file is that of an overlay from `spoter extract`."""
    return Path(path.stem).suffix == OVERLAY_INFIX and path.suffix.lower() in (".mp4", ".gif")


@dataclass(frozen=True)
class VideoLimits:
    """The largest video that is read. The defaults are for a user's own files; a server has tighter limits."""

    max_seconds: float = 600.0
    max_pixels: int = 4096 * 2304  # width times height
    max_bytes: int = 2**31
    max_frames: int = 36_000
    timeout_s: float = 3600.0  # seconds for reading the video


DEFAULT_LIMITS = VideoLimits()


@dataclass(frozen=True)
class VideoLandmarks:
    """The landmarks of a video; `clip` holds MediaPipe's points, (T, 543, 2), one row per frame."""

    clip: Clip
    fps: float | None  # frames per second; None if the file does not state it
    width: int  # of the upright picture, in pixels
    height: int
    notes: list[str] = field(default_factory=list)  # warnings: several people, truncated file, varying frame rate


def read(
    path: Path,
    limits: VideoLimits = DEFAULT_LIMITS,
    progress: Progress | None = None,
    *,
    overlay: Path | None = None,
    scratch: Path | None = None,
    stop: threading.Event | None = None,
) -> VideoLandmarks:
    """Return the landmarks of the person in a video, from MediaPipe Holistic (complexity 1) on every upright frame.

    MediaPipe runs in a child process, which ends with this call, at the timeout, when `stop` is set, and when this
    process ends. A file whose first bytes are not those of a video starts no process.

    `overlay` is a video (.mp4) or GIF to write: the frames with the skeleton drawn over them. `scratch` is a temporary
    folder of the caller; the child removes it if this process is killed. Another thread sets `stop` to cancel.

    Raises
    ------
    InputError
        ``bad_video``, ``video_too_large``, ``video_too_long``, ``video_timeout`` and ``no_person``; `where` is None.
    SpoterError
        If there is no video environment, or MediaPipe does not start in it.
    OSError
        If the temporary folder or `overlay` cannot be written.
    ReadingCancelled
        If `stop` was set.
    """
    python = find_python()
    if python is None:
        raise SpoterError(f"there is no video environment yet; {INSTALL_HINT}")
    try:
        container = check_container(path, limits.max_bytes)
    except VideoError as error:
        raise video_error(error.code, error.message) from None
    with tempfile.TemporaryDirectory(prefix="spoter-video-", dir=scratch) as folder:
        # The child opens the video through a link with a plain name: OpenCV crashes on names that are not UTF-8.
        video, result = Path(folder, "linked"), Path(folder, "points.npy")
        video.symlink_to(Path(path).absolute())
        drawn = Path(folder, f"overlay{overlay.suffix.lower()}" if overlay else "none")
        job = {
            "video": str(video),
            "kind": container,
            "folder": str(scratch or folder),
            "result": str(result),
            "limits": asdict(limits),
            "overlay": {"path": str(drawn), "parts": _skeleton_parts()} if overlay else None,
        }
        landmarks = _load_landmarks(result, run_job(python, job, limits.timeout_s, progress, stop))
        if overlay is not None:
            with atomic_write(overlay) as temporary:
                shutil.copyfile(drawn, temporary)
    return landmarks


def _load_landmarks(result: Path, done: dict[str, Any]) -> VideoLandmarks:
    """Load the points that the child wrote; add notes about frames without a person or hands."""
    points: npt.NDArray[np.float32] = np.load(result, allow_pickle=False)
    # Points that Holistic places too far outside the picture become missing: the client cannot correct them.
    clip = make_clip(points, MEDIAPIPE.names, MEDIAPIPE.name, done["fps"], np.zeros(len(MEDIAPIPE.names), dtype=bool))
    present = ~np.isnan(clip.points[..., 0])
    has_person = present.any(axis=1)
    if not has_person.any():
        raise InputError(ErrorCode.NO_PERSON, f"found no person in any of {len(clip)} frames, expected one")
    notes = list(done["notes"])
    if not has_person.all():
        notes.append(f"found no person in {np.count_nonzero(~has_person)} of {len(clip)} frames")
    if not any(present[:, MEDIAPIPE.part(f"{side}_hand")].any() for side in ("left", "right")):
        notes.append(f"found no hand in any of {len(clip)} frames")
    return VideoLandmarks(clip, done["fps"], done["width"], done["height"], notes)


def _skeleton_parts() -> list[dict[str, Any]]:
    """Return the skeleton in the form that ``worker/overlay.py`` expects."""
    parts = []
    for name in CHAINS:
        rgb = list(bytes.fromhex(COLOURS[name].removeprefix("#")))
        part = {"name": name, "colour": rgb, "pairs": find_limbs(MEDIAPIPE.names, name).tolist()}
        if name != "body":
            columns = find_columns(MEDIAPIPE.names, name)
            wrist = MEDIAPIPE.names.index(f"pose_{name.split()[0]}_wrist")
            part |= {"columns": [int(columns[0]), int(columns[-1]) + 1], "wrist": wrist}
        parts.append(part)
    return parts
