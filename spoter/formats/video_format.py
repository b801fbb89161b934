"""Videos as clips through MediaPipe Holistic: video/mp4, video/webm, video/quicktime, and stored videos.

A frame takes one core about 0.05 s. `decode` only keeps the video; `read_videos` then reads the videos of a batch in
parallel, each in a child process of `spoter.video`, which is killed at the deadline.
"""

import logging
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from spoter.error_codes import ErrorCode
from spoter.errors import InputError, SpoterError
from spoter.formats.request import (
    DEFAULT_TOP_K,
    VIDEOS,
    ClipOrError,
    Options,
    Request,
    Video,
    check_estimator,
    finish_clip,
)
from spoter.landmarks.estimators import MEDIAPIPE
from spoter.landmarks.layouts import Layout
from spoter.limits import Limits

logger = logging.getLogger(__name__)

Fetch = Callable[[str, Path, int, float], None]
"""Writes a stored video to a file: key, file, the most bytes, and the deadline by `time.monotonic`.
Raises `InputError`; a status of 500 or above means that the request is not at fault."""

# The child process needs this time only to start.
_MIN_SECONDS = 1.0


def videos_supported() -> bool:
    """Return whether `spoter.video.environment` finds an interpreter with MediaPipe, which reads videos."""
    try:
        from spoter.video.environment import find_python
    except ModuleNotFoundError:  # a Lambda function that contains the model is packed without it
        return False
    try:
        return find_python() is not None
    except SpoterError:  # SPOTER_VIDEO_PYTHON names an unusable interpreter
        return False


def decode(content: bytes | str, layout: Layout, limits: Limits, options: Options, content_type: str) -> Request:
    """Keep a video, as its file or the key of a stored video, for `read_videos`; see `spoter.formats.decode`.

    Raises ``unsupported_content_type`` without an environment that reads videos, and ``wrong_estimator`` for another
    estimator than MediaPipe.
    """
    if not videos_supported():
        raise _unsupported("header Content-Type" if content_type in VIDEOS else "uniqueName")
    check_estimator(MEDIAPIPE.name, options)
    return Request([], False, options.top_k or DEFAULT_TOP_K, content_type, video=Video(content, options))


def read_videos(
    videos: Sequence[Video], layout: Layout, limits: Limits, fetch: Fetch | None, deadline: float
) -> list[ClipOrError]:
    """Read one or more videos in parallel, at most one per core, until `deadline` by `time.monotonic`.

    `fetch` downloads stored videos; it is None if the server has no bucket.
    """
    with ThreadPoolExecutor(min(len(videos), os.cpu_count() or 1)) as pool:
        return list(pool.map(lambda video: _read_video(video, layout, limits, fetch, deadline), videos))


def _read_video(video: Video, layout: Layout, limits: Limits, fetch: Fetch | None, deadline: float) -> ClipOrError:
    from spoter.video.reader import VideoLimits, read

    try:
        with tempfile.TemporaryDirectory(prefix="spoter-video-") as folder:  # only its owner can read it
            path = Path(folder, "video")
            _write_video(video.content, path, limits, fetch, deadline)
            remaining = deadline - time.monotonic()
            if remaining < _MIN_SECONDS:
                raise InputError(ErrorCode.VIDEO_BUSY, "found no time left for this video after others, try again")
            video_limits = VideoLimits(
                max_seconds=limits.max_video_seconds,
                max_pixels=limits.max_video_pixels,
                max_bytes=limits.max_bytes,
                max_frames=limits.max_frames,
                timeout_s=remaining,
            )
            clip = read(path, video_limits, scratch=path.parent).clip
        options = replace(video.options, fps=video.options.fps or clip.fps)
        return finish_clip(clip.points, clip.names, clip.estimator, layout, options)
    except InputError as error:
        return error
    except SpoterError as error:  # the interpreter lacks MediaPipe
        logger.error("cannot read videos: %s", error)
        return _unsupported(None)


def _unsupported(where: str | None) -> InputError:
    return InputError(
        ErrorCode.UNSUPPORTED_CONTENT_TYPE,
        "found a video, which this server cannot read: it has no environment with MediaPipe (docs/operations.md, "
        "Videos); expected landmarks in one of the other formats",
        where,
    )


def _write_video(content: bytes | str, path: Path, limits: Limits, fetch: Fetch | None, deadline: float) -> None:
    if isinstance(content, bytes):
        path.write_bytes(content)
        return
    if fetch is None:
        raise InputError(
            ErrorCode.NO_STORED_VIDEOS,
            "found the key of a stored video, but this server has no bucket of videos (docs/operations.md, Videos); "
            "expected the video itself, as video/mp4 or video/webm",
            "uniqueName",
        )
    fetch(content, path, limits.max_bytes, deadline)
