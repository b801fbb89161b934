"""Extraction of one video: read a job from stdin, write lines of JSON to stdout, and the landmarks to a file.

The job is a line of JSON: ``video``, its ``kind`` (from `containers.check_container`), ``folder`` (for temporary
files), ``result`` (the .npy to write), ``limits`` and ``overlay`` (None or the arguments of `overlay.Overlay`). A job
without a video only checks that MediaPipe starts.
The output is lines of JSON: ``{"frames": done, "of": all}`` for progress, and at the end either
``{"done": {fps, width, height, notes}}`` or ``{"error": code, "message": …}``. The parent keeps stdin open as long as
it lives; this process exits as soon as stdin is closed.
"""

import contextlib
import json
import os
import shutil
import sys
import threading
import time
from functools import partial
from typing import Any

_MEDIAPIPE_VERSION = "0.10.21"
_MEMORY = 3 << 30  # bytes for a video, in addition to MediaPipe's; 4096 x 2304 HEVC needs a third
_PROGRESS_SECONDS = 0.2  # between two lines of progress
_PARTS = (("pose_landmarks", 33), ("face_landmarks", 468), ("left_hand_landmarks", 21), ("right_hand_landmarks", 21))


class Parent:
    """The process that started this one."""

    def __init__(self) -> None:
        # Libraries may print to stdout: send that to stderr, and our lines to the original stdout.
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self._last_progress = 0.0

    def receive_job(self) -> dict[str, Any]:
        """Return the job, and exit from then on when the parent ends."""
        job = json.loads(sys.stdin.buffer.readline())
        threading.Thread(target=self._exit_with_parent, args=[job.get("folder")], daemon=True).start()
        return job

    @staticmethod
    def _exit_with_parent(folder: str | None) -> None:
        sys.stdin.buffer.read()
        if folder is not None:  # the parent cannot remove it any more
            shutil.rmtree(folder, ignore_errors=True)
        os._exit(3)

    def send(self, **message: Any) -> None:
        """Write one line of JSON."""
        self._out.write(json.dumps(message) + "\n")
        self._out.flush()

    def send_progress(self, frames: int, of: int | None) -> None:
        """Report the number of frames done, a few times per second."""
        if time.monotonic() - self._last_progress >= _PROGRESS_SECONDS:
            self._last_progress = time.monotonic()
            self.send(frames=frames, of=of)


def limit_memory() -> None:
    """Limit this process to `_MEMORY` more bytes, and disable core dumps."""
    import resource

    with contextlib.suppress(OSError, ValueError):  # macOS cannot limit the address space
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with open("/proc/self/statm", encoding="ascii") as file:
            now = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (now + _MEMORY, now + _MEMORY))


def extract(job: dict[str, Any], parent: Parent) -> dict[str, Any]:
    """Run Holistic on all frames, write the landmarks, and return the value of ``done``.

    The frames are decoded twice. The first pass counts them, checks the limits and detects persons; it takes a
    twentieth of the second pass's time.
    """
    import cv2
    import numpy as np
    from decoding import FrameClock, read_frames, retrieve_frame
    from mediapipe.python.solutions.holistic import Holistic
    from overlay import Overlay
    from tracking import DETECTION_INTERVAL, PersonDetector, PersonTracker

    frames = partial(read_frames, job["video"], job["kind"], job["limits"])
    clock, detector, detections = FrameClock(), PersonDetector(), {}
    with Holistic(static_image_mode=False, model_complexity=1) as holistic:
        limit_memory()
        for number, capture in enumerate(frames()):
            clock.tick(capture)
            if number % DETECTION_INTERVAL == 0:
                detections[number] = detector.detect(cv2.cvtColor(retrieve_frame(capture), cv2.COLOR_BGR2RGB))
            parent.send_progress(0, None)
        fps, notes = clock.frame_rate()
        tracker = PersonTracker(detector, detections)
        overlay = Overlay(**job["overlay"], fps=fps, frames=clock.frames) if job["overlay"] else None
        points = np.full((clock.frames, sum(size for _, size in _PARTS), 2), np.nan, dtype=np.float32)
        is_tracking = False
        width = height = 0
        for number, capture in zip(range(clock.frames), frames(), strict=False):
            frame = retrieve_frame(capture)
            height, width = frame.shape[:2]
            rgb = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
            # Holistic runs its detector on a frame if it found no person in the frame before.
            result = holistic.process(tracker.cover_others(rgb) if tracker.several and not is_tracking else rgb)
            is_tracking = result.pose_landmarks is not None
            start = 0
            for name, size in _PARTS:
                part = getattr(result, name)
                if part is not None:
                    points[number, start : start + size] = [(point.x, point.y) for point in part.landmark[:size]]
                start += size
            tracker.check(number, points[number, 11:13].mean(axis=0) * (width, height))
            if overlay is not None:
                overlay.add(frame, points[number])
            parent.send_progress(number + 1, clock.frames)
    if overlay is not None:
        overlay.close()
    np.save(job["result"], points, allow_pickle=False)
    notes += clock.truncation_notes() + tracker.notes()
    return {"fps": fps, "width": width, "height": height, "notes": notes}


def check_mediapipe() -> dict[str, Any]:
    """Start the parts of MediaPipe that read a video."""
    from mediapipe.python.solutions.holistic import Holistic
    from tracking import PersonDetector

    with Holistic(model_complexity=1):
        PersonDetector().close()
    return {}


def main() -> None:
    """Run the job that the parent sends."""
    parent = Parent()
    job = parent.receive_job()
    # Silence the logs of MediaPipe and FFmpeg; the parent also discards stderr.
    os.environ.update(GLOG_minloglevel="3", TF_CPP_MIN_LOG_LEVEL="3", OPENCV_LOG_LEVEL="SILENT")
    from containers import VideoError

    try:
        import mediapipe
    except ImportError as error:
        return parent.send(error="environment", message=f"MediaPipe cannot be imported ({error})")
    if mediapipe.__version__ != _MEDIAPIPE_VERSION:
        message = f"found MediaPipe {mediapipe.__version__}, expected {_MEDIAPIPE_VERSION}"
        return parent.send(error="environment", message=message)
    try:
        parent.send(done=extract(job, parent) if "video" in job else check_mediapipe())
    except VideoError as error:
        parent.send(error=error.code, message=error.message)
    except OSError as error:  # the disk is full
        parent.send(error="system", number=error.errno, message=error.strerror or str(error))
    except Exception as error:  # any failure of a library on this file
        parent.send(error="bad_video", message=f"the video cannot be decoded ({type(error).__name__})")


if __name__ == "__main__":
    main()
