"""One video: read a job from stdin, write lines of JSON to stdout, and the landmarks to a file.

The job is a line of JSON: ``video``, its ``kind`` (as `containers.check` returned it), ``folder`` (of temporary files),
``result`` (the .npy to write there), ``limits`` and ``overlay`` (None, or what `drawing.Overlay` takes); without a
video it is only seen whether MediaPipe starts.
Answers are lines of JSON:
``{"frames": done, "of": all}`` every now and then, and at the end either ``{"done": {fps, width, height, notes}}`` or
``{"error": code, "message": …}``. stdin stays open as long as the parent lives: when it ends, so does this process,
whatever it is doing.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import threading
import time

_MEDIAPIPE = "0.10.21"
_MEMORY = 3 << 30  # bytes that a video may take beyond what MediaPipe takes anyway; 4096 x 2304 HEVC takes a third
_PAUSE = 0.2  # seconds between two lines of progress
_PARTS = (("pose_landmarks", 33), ("face_landmarks", 468), ("left_hand_landmarks", 21), ("right_hand_landmarks", 21))


class Parent:
    """The process that started this one."""

    def __init__(self) -> None:
        # Libraries may print what they like: it goes nowhere, and our lines go where stdout was.
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self._last = 0.0

    def job(self) -> dict:
        """Return what is to be done, and from then on end when the parent does."""
        job = json.loads(sys.stdin.buffer.readline())
        threading.Thread(target=self._end_with_it, args=[job.get("folder")], daemon=True).start()
        return job

    @staticmethod
    def _end_with_it(folder: str | None) -> None:
        sys.stdin.buffer.read()
        if folder is not None:  # nobody else is left to remove it
            shutil.rmtree(folder, ignore_errors=True)
        os._exit(3)

    def say(self, **line) -> None:
        self._out.write(json.dumps(line) + "\n")
        self._out.flush()

    def progress(self, frames: int, of: int | None) -> None:
        if time.monotonic() - self._last >= _PAUSE:
            self._last = time.monotonic()
            self.say(frames=frames, of=of)


def limit_memory() -> None:
    """Let this process take `_MEMORY` more, and leave no image of itself when it crashes."""
    import resource

    with contextlib.suppress(OSError, ValueError):  # macOS sets no limit on addresses
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with open("/proc/self/statm", encoding="ascii") as file:
            now = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (now + _MEMORY, now + _MEMORY))


def extract(job: dict, parent: Parent) -> dict:
    """Run Holistic over all frames, write the landmarks, and return what ``done`` says.

    The frames are decoded twice: the first time counts them, checks the limits and looks who is there, which takes a
    twentieth of the time of the second.
    """
    import cv2
    import numpy as np
    from decoding import Clock, Video, picture
    from mediapipe.python.solutions.holistic import Holistic
    from overlay import Overlay
    from tracking import EVERY, Detector, Following

    video, clock, detector, searched = Video(job["video"], job["kind"], job["limits"]), Clock(), Detector(), {}
    with Holistic(static_image_mode=False, model_complexity=1) as holistic:
        limit_memory()
        for number, capture in enumerate(video.frames()):
            clock.tick(capture)
            if number % EVERY == 0:
                searched[number] = detector.find(cv2.cvtColor(picture(capture), cv2.COLOR_BGR2RGB))
            parent.progress(0, None)
        fps, notes = clock.fps()
        following = Following(detector, searched)
        overlay = (
            Overlay(job["overlay"]["path"], job["overlay"]["parts"], fps, clock.frames) if job["overlay"] else None
        )
        points = np.full((clock.frames, sum(size for _, size in _PARTS), 2), np.nan, dtype=np.float32)
        found = False
        width = height = 0
        for number, capture in zip(range(clock.frames), video.frames(), strict=False):
            frame = picture(capture)
            height, width = frame.shape[:2]
            shown = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
            # Where it knows nobody from the frame before, Holistic searches.
            result = holistic.process(following.cover(shown) if following.several and not found else shown)
            found = result.pose_landmarks is not None
            start = 0
            for name, size in _PARTS:
                part = getattr(result, name)
                if part is not None:
                    points[number, start : start + size] = [(point.x, point.y) for point in part.landmark[:size]]
                start += size
            following.check(number, points[number, 11:13].mean(axis=0) * (width, height))
            if overlay is not None:
                overlay.add(frame, points[number])
            parent.progress(number + 1, clock.frames)
    if overlay is not None:
        overlay.close()
    np.save(job["result"], points, allow_pickle=False)
    return {"fps": fps, "width": width, "height": height, "notes": [*notes, *clock.cut(), *following.notes()]}


def start() -> dict:
    """Make what a video is read with, to see that it can be made."""
    from mediapipe.python.solutions.holistic import Holistic
    from tracking import Detector

    with Holistic(model_complexity=1):
        Detector().close()
    return {}


def main() -> None:
    parent = Parent()
    job = parent.job()
    # MediaPipe's and FFmpeg's logs; stderr goes nowhere as well.
    os.environ.update(GLOG_minloglevel="3", TF_CPP_MIN_LOG_LEVEL="3", OPENCV_LOG_LEVEL="SILENT")
    from containers import Refused

    try:
        import mediapipe
    except ImportError as error:
        return parent.say(error="environment", message=f"MediaPipe cannot be imported ({error})")
    if mediapipe.__version__ != _MEDIAPIPE:
        return parent.say(error="environment", message=f"found MediaPipe {mediapipe.__version__}, not {_MEDIAPIPE}")
    try:
        parent.say(done=extract(job, parent) if "video" in job else start())
    except Refused as refused:
        parent.say(error=refused.code, message=refused.message)
    except OSError as error:  # a disk that is full
        parent.say(error="system", number=error.errno, message=error.strerror or str(error))
    except Exception as error:  # what else a file may make of a library: the parent tells it
        parent.say(error="bad_video", message=f"cannot be decoded ({type(error).__name__})")


if __name__ == "__main__":
    main()
