"""Clips as a JSON list of frames in the form that a pose estimator writes. One frame type has the keys of all forms.

MediaPipe Holistic, as the browser client sends it: ``{"pose_landmarks": [33], "face_landmarks": [468 or 478],
"left_hand_landmarks": [21], "right_hand_landmarks": [21]}``, each a list of ``{"x", "y", "z", "visibility"}``; z and
visibility are ignored. A point with a null x or y is missing.

OpenPose (doc/02_output.md): ``{"people": [{"pose_keypoints_2d": [x, y, confidence, …] (25 points),
"face_keypoints_2d" (70), "hand_left_keypoints_2d", "hand_right_keypoints_2d" (21 each)}]}``: pixels, or 0..1 with
``--keypoint_scale 3``. Confidence 0 marks a missing point.

MMPose (its demo scripts with ``--save-predictions``, which write ``{"meta_info": …, "instance_info": [frame…]}``):
``{"frame_id": …, "instances": [{"keypoints": [[x, y] * 133], "keypoint_scores": [133]}]}``: pixels of
COCO-WholeBody points. A point with a score of 0 or below is missing.

An undetected part is empty, null or absent; a list of people may be empty. If there are several people,
`spoter.formats.signer_tracking` chooses one.
"""

from collections.abc import Sequence
from functools import lru_cache

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

from spoter.error_codes import ErrorCode
from spoter.errors import InputError
from spoter.formats.json_errors import Path
from spoter.formats.request import Options, check_estimator, finish_clip
from spoter.formats.signer_tracking import signer_points
from spoter.landmarks.arrays import Float64Array
from spoter.landmarks.clip import Clip
from spoter.landmarks.estimators import MEDIAPIPE, OPENPOSE, REFINED_FACE_POINTS, WHOLEPOSE, Estimator
from spoter.landmarks.layouts import Layout
from spoter.limits import Limits

KEYS = ("keypoints", "keypoints_list", "frames", "instance_info")
"""The keys of a body that may hold the frames."""

MEDIAPIPE_KEYS = {part: f"{part}_landmarks" for part in MEDIAPIPE.parts}
"""The key of each part of a MediaPipe frame."""

OPENPOSE_KEYS = {
    "pose": "pose_keypoints_2d",
    "face": "face_keypoints_2d",
    "left_hand": "hand_left_keypoints_2d",
    "right_hand": "hand_right_keypoints_2d",
}
"""The key of each part of an OpenPose person."""

POINT_NAMES = (
    {key: MEDIAPIPE.parts[part] for part, key in MEDIAPIPE_KEYS.items()}
    | {key: tuple(name for name in OPENPOSE.parts[part] for _ in range(3)) for part, key in OPENPOSE_KEYS.items()}
    | dict.fromkeys(("keypoints", "keypoint_scores"), WHOLEPOSE.names)
)
"""The landmark name of each array item, for each key of a frame or a person."""
_FORM_OF_KEY = dict.fromkeys(MEDIAPIPE_KEYS.values(), "MediaPipe") | {"people": "OpenPose", "instances": "MMPose"}

Pair = tuple[float | None, float | None]
"""A point as ``[x, y]``; a third number is an error, since it may be z or a confidence."""
_MISSING_PAIR: Pair = (None, None)


# gc=False saves time: a clip has thousands of points, and none can be part of a reference cycle.
class Point(msgspec.Struct, gc=False):
    """A landmark of MediaPipe; all other keys are skipped."""

    x: float | None = None
    y: float | None = None


_MISSING_POINT = Point()
_Landmarks = list[Point | None] | None | UnsetType
_Numbers = list[float | None] | None


class OpenPosePerson(msgspec.Struct, gc=False):
    """OpenPose landmarks of one person in one frame."""

    pose_keypoints_2d: _Numbers = None
    face_keypoints_2d: _Numbers = None
    hand_left_keypoints_2d: _Numbers = None
    hand_right_keypoints_2d: _Numbers = None


class MMPoseInstance(msgspec.Struct, gc=False):
    """MMPose landmarks of one person in one frame."""

    keypoints: list[Pair | None] | None = None
    keypoint_scores: _Numbers = None


class Frame(msgspec.Struct, gc=False):
    """A frame without MediaPipe's face, which makes up most of the bytes and which many layouts do not use."""

    pose_landmarks: _Landmarks = UNSET
    left_hand_landmarks: _Landmarks = UNSET
    right_hand_landmarks: _Landmarks = UNSET
    people: list[OpenPosePerson] | UnsetType | None = UNSET
    instances: list[MMPoseInstance] | UnsetType | None = UNSET


class FrameWithFace(Frame, gc=False):
    """A frame with all parts."""

    face_landmarks: _Landmarks = UNSET


def frame_type(layout: Layout) -> type[Frame]:
    """Return the frame type with all parts that `layout` uses."""
    return FrameWithFace if "face" in _parts(layout) else Frame


def read_clip(frames: Sequence[Frame | None], layout: Layout, limits: Limits, options: Options) -> Clip:
    """Make a Clip from the frames of any one estimator; None is a frame without landmarks.

    Raises ``mixed_forms`` for frames of several estimators, ``wrong_point_count``, and the errors of `finish_clip`.
    """
    limits.check_frames(len(frames))
    form = _find_form(frames)
    estimator: Estimator = {"OpenPose": OPENPOSE, "MMPose": WHOLEPOSE}.get(form, MEDIAPIPE)
    size = len(estimator.names)
    if form == "OpenPose":
        points = signer_points([(frame and frame.people) or () for frame in frames], _openpose_points, size)
    elif form == "MMPose":
        points = signer_points([(frame and frame.instances) or () for frame in frames], _mmpose_points, size)
    else:
        points = _mediapipe_points(frames, _parts(layout))
    check_estimator(estimator.name, options)
    return finish_clip(points, estimator.names, estimator.name, layout, options)


def _mediapipe_points(frames: Sequence[Frame | None], parts: Sequence[str]) -> Float64Array:
    """Return an array (T, 543, 2) with the points of `parts`; NaN = missing."""
    points = np.full((len(frames), len(MEDIAPIPE.names), 2), np.nan)
    for part in parts:
        key, size = MEDIAPIPE_KEYS[part], len(MEDIAPIPE.parts[part])
        rows: list[int] = []
        flat: list[Point | None] = []
        for i, frame in enumerate(frames):
            landmarks = getattr(frame, key, None)
            if not landmarks:
                continue
            if len(landmarks) != size and not (part == "face" and len(landmarks) == REFINED_FACE_POINTS):
                expected = f"{size} or {REFINED_FACE_POINTS}" if part == "face" else f"{size}"
                raise InputError(
                    ErrorCode.WRONG_POINT_COUNT,
                    f"found {len(landmarks)} points, expected {expected}, or none where the part was not found",
                    f"frame {i}, {key}",
                )
            rows.append(i)
            flat += landmarks[:size]
        if rows:
            points[rows, MEDIAPIPE.part(part)] = _coordinates(flat).reshape(len(rows), size, 2)
    return points


def _coordinates(points: Sequence[Point | None]) -> Float64Array:
    """Return x and y of the points, (n, 2); NaN for null."""
    try:
        columns = [point.x for point in points], [point.y for point in points]  # type: ignore[union-attr]
    except AttributeError:  # null points are rare; to look for them first would take 50 % more time
        return _coordinates([_MISSING_POINT if point is None else point for point in points])
    return np.array(columns, dtype=np.float64).T


def _openpose_points(people: Sequence[OpenPosePerson], frame: int) -> Float64Array:
    """Return the points of the people of one frame, (P, 137, 2)."""
    numbers = np.full((len(people), len(OPENPOSE.names), 3), np.nan)
    for j, person in enumerate(people):
        for part, key in OPENPOSE_KEYS.items():
            values = getattr(person, key)
            if not values:
                continue
            size = len(OPENPOSE.parts[part])
            if len(values) != 3 * size:
                hint = ", as OpenPose writes with --model_pose BODY_25" if part == "pose" else ""
                raise InputError(
                    ErrorCode.WRONG_POINT_COUNT,
                    f"found {len(values)} numbers, expected {3 * size} (x, y and confidence of {size} points){hint}, "
                    "or none where the part was not found",
                    _person_place(frame, j, key),
                )
            numbers[j, OPENPOSE.part(part)] = np.array(values, dtype=np.float64).reshape(size, 3)
    points = numbers[:, :, :2]
    points[~(numbers[:, :, 2] > 0)] = np.nan  # not <= 0, so that NaN counts as missing too
    return points


def _mmpose_points(people: Sequence[MMPoseInstance], frame: int) -> Float64Array:
    """Return the points of the people of one frame, (P, 133, 2)."""
    size = len(WHOLEPOSE.names)
    points = np.empty((len(people), size, 2))
    for j, person in enumerate(people):
        pairs, scores = person.keypoints or [], person.keypoint_scores
        for key, values in (("keypoints", pairs), ("keypoint_scores", scores)):
            if values is not None and len(values) != size:
                raise InputError(
                    ErrorCode.WRONG_POINT_COUNT,
                    f"found {len(values)} items, expected {size} (COCO-WholeBody)",
                    _person_place(frame, j, key),
                )
        points[j] = pair_coordinates(pairs)
        if scores is not None:  # without scores, no point is missing
            points[j, ~(np.array(scores, dtype=np.float64) > 0)] = np.nan
    return points


def pair_coordinates(pairs: Sequence[Pair | None]) -> Float64Array:
    """Return points as an array, (n, 2); NaN for null."""
    filled = [_MISSING_PAIR if pair is None else pair for pair in pairs]
    return np.array(([x for x, _ in filled], [y for _, y in filled]), dtype=np.float64).T


def _person_place(frame: int, person: int, key: str) -> str:
    """Return the place of a person's array, without a number for person 0: most frames have one person."""
    return f"frame {frame}, person {person}, {key}" if person else f"frame {frame}, {key}"


def describe_path(steps: Path) -> str | None:
    """Describe the path of a value: (keypoints, 3, pose_landmarks, 15, x) becomes "frame 3, point pose_left_wrist"."""
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
    """Return the parts of MediaPipe's array that `layout` uses; a neck is derived from the pose."""
    used = {landmark.index.get(MEDIAPIPE.name, len(MEDIAPIPE.names)) for landmark in layout.landmarks}
    if max(used) >= len(MEDIAPIPE.names):
        used.add(MEDIAPIPE.part("pose").start)
    spans = {part: MEDIAPIPE.part(part) for part in MEDIAPIPE.parts}
    return tuple(part for part, span in spans.items() if any(span.start <= index < span.stop for index in used))


def _find_form(frames: Sequence[Frame | None]) -> str:
    """Return the form of the frames; MediaPipe if no frame has landmarks."""
    forms: set[str] = set()
    for i, frame in enumerate(frames):
        forms |= {form for key, form in _FORM_OF_KEY.items() if getattr(frame, key, UNSET) is not UNSET}
        if len(forms) > 1:
            raise InputError(
                ErrorCode.MIXED_FORMS,
                f"found keys of {' and '.join(sorted(forms))}, expected keys of one form in all frames",
                f"frame {i}",
            )
    return forms.pop() if forms else "MediaPipe"
