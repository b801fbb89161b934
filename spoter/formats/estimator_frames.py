"""Clips as a list of frames in JSON, each as a pose estimator writes it: MediaPipe Holistic, OpenPose or MMPose.

All three come under the same keys, so that one frame type holds the keys of all estimators.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import msgspec
from msgspec import UNSET, UnsetType

from spoter.error_codes import ErrorCode
from spoter.errors import InputError
from spoter.formats import mediapipe_frames, mmpose_frames, openpose_frames
from spoter.formats.json_errors import Path
from spoter.formats.request import Options, check_estimator, finish_clip
from spoter.landmarks.clip import Clip
from spoter.landmarks.estimators import MEDIAPIPE, OPENPOSE, WHOLEPOSE
from spoter.landmarks.layouts import Layout
from spoter.limits import Limits

KEYS = ("keypoints", "keypoints_list", "frames", "instance_info")
"""Keys of a body under which frames may come."""

POINT_NAMES = mediapipe_frames.POINT_NAMES | openpose_frames.POINT_NAMES | mmpose_frames.POINT_NAMES
"""Landmark name of each item of the arrays under each key of a frame or a person."""
_FORM_OF_KEY = dict.fromkeys(mediapipe_frames.PARTS.values(), "MediaPipe") | {
    "people": "OpenPose",
    "instances": "MMPose",
}
_Landmarks = list[mediapipe_frames.Point | None] | None | UnsetType


class Frame(msgspec.Struct, gc=False):
    """A frame without the face of MediaPipe, which is most of its bytes and which many layouts do not use."""

    pose_landmarks: _Landmarks = UNSET
    left_hand_landmarks: _Landmarks = UNSET
    right_hand_landmarks: _Landmarks = UNSET
    people: list[openpose_frames.Person] | UnsetType | None = UNSET
    instances: list[mmpose_frames.Instance] | UnsetType | None = UNSET


class FrameWithFace(Frame, gc=False):
    """A frame with all of its parts."""

    face_landmarks: _Landmarks = UNSET


def frame_type(layout: Layout) -> type[Frame]:
    """Return the frame type that holds what `layout` uses."""
    return FrameWithFace if "face" in _parts(layout) else Frame


def read_clip(frames: Sequence[Frame | None], layout: Layout, limits: Limits, options: Options) -> Clip:
    """Make a Clip of frames, whichever estimator wrote them.

    Raises
    ------
    InputError
        ``mixed_forms`` for frames of several estimators; those of the estimator's module and of `finish_clip`.
    """
    limits.check_frames(len(frames))
    form, estimator = _find_form(frames), MEDIAPIPE
    if form == "OpenPose":
        points, estimator = openpose_frames.read_points([(frame and frame.people) or () for frame in frames]), OPENPOSE
    elif form == "MMPose":
        points, estimator = (
            mmpose_frames.read_points([(frame and frame.instances) or () for frame in frames]),
            WHOLEPOSE,
        )
    else:
        points = mediapipe_frames.read_points(frames, _parts(layout))
    check_estimator(estimator.name, options)
    return finish_clip(points, estimator.names, estimator.name, layout, options)


def describe_path(steps: Path) -> str | None:
    """Describe the path of a value: keypoints, 3, pose_landmarks, 15, x -> "frame 3, point pose_left_wrist"."""
    words: list[str] = []
    for depth, step in enumerate(steps):
        key = steps[depth - 1] if depth else None
        if isinstance(step, str):
            following = steps[depth + 1 : depth + 2]
            if not (following and isinstance(following[0], int)) and not (words and step in ("x", "y")):
                words.append(step)
        elif depth == 1 and key in KEYS:
            words.append(f"frame {step}")
        elif isinstance(key, str) and (names := POINT_NAMES.get(key)):
            words.append(f"point {names[step]}" if step < len(names) else f"{key}, item {step}")
        elif key in ("people", "instances"):
            words += [f"person {step}"] if step else []
        elif isinstance(key, str):
            words.append(f"{key}, item {step}")
    return ", ".join(words) or None


@lru_cache(maxsize=64)
def _parts(layout: Layout) -> tuple[str, ...]:
    """Return the parts of MediaPipe's array that `layout` uses; the derived neck needs the pose."""
    used = {landmark.index.get(MEDIAPIPE.name, len(MEDIAPIPE.names)) for landmark in layout.landmarks}
    if max(used) >= len(MEDIAPIPE.names):
        used.add(MEDIAPIPE.part("pose").start)
    spans = {part: MEDIAPIPE.part(part) for part in MEDIAPIPE.parts}
    return tuple(part for part, span in spans.items() if any(span.start <= index < span.stop for index in used))


def _find_form(frames: Sequence[Frame | None]) -> str:
    """Return the form that the frames are written in; MediaPipe where every frame is without landmarks."""
    forms: set[str] = set()
    for i, frame in enumerate(frames):
        forms |= {form for key, form in _FORM_OF_KEY.items() if getattr(frame, key, UNSET) is not UNSET}
        if len(forms) > 1:
            raise InputError(
                ErrorCode.MIXED_FORMS,
                f"found keys of {' and '.join(sorted(forms))}, expected those of one in all frames",
                f"frame {i}",
            )
    return forms.pop() if forms else "MediaPipe"
