""".pose files, read with the pose-format library (github.com/sign-language-processing/pose).

Their points are pixels of the size in the header; a masked point, one of confidence 0, is missing. Of several persons
the first is read. The header's components tell the estimator: MediaPipe Holistic (points by name, so that files with a
part of the face mesh are read too), OpenPose, or COCO-WholeBody. Components beside these (Holistic's world landmarks)
are left out.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from spoter.errors import DataError
from spoter.formats import openpose_frames
from spoter.landmarks.clip import Clip, make_clip
from spoter.landmarks.estimators import ESTIMATORS, MEDIAPIPE, OPENPOSE, WHOLEPOSE

_HOLISTIC = {"POSE_LANDMARKS": "pose_", "LEFT_HAND_LANDMARKS": "leftHand_", "RIGHT_HAND_LANDMARKS": "rightHand_"}
_HOLISTIC_FACE = "FACE_LANDMARKS"
# Component of each part, for the estimators whose points are taken in their order.
_IN_ORDER = {
    OPENPOSE.name: openpose_frames.PARTS,
    WHOLEPOSE.name: {"pose": "BODY", "face": "FACE", "left_hand": "LEFT_HAND", "right_hand": "RIGHT_HAND"},
}


def read_clip(path: Path) -> Clip:
    """Read a .pose file.

    Raises
    ------
    DataError
        Where pose-format is not installed, for a file it cannot read, and for components of another estimator.
    InputError
        What `spoter.landmarks.clip.make_clip` raises.
    """
    try:
        from pose_format import Pose
    except ImportError as error:
        raise DataError("reading .pose files needs pip install 'spoter[train]'") from error
    try:
        pose = Pose.read(path.read_bytes())
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror or error})") from error
    except Exception as error:  # a cut file fails in struct, in NumPy or in the text of the header
        raise DataError(f"found no .pose file ({type(error).__name__}), expected what pose-format writes") from error
    size = np.array([pose.header.dimensions.width, pose.header.dimensions.height], dtype=np.float64)
    if not (size > 0).all():
        raise DataError(f"found a picture of {size[0]:g} x {size[1]:g} pixels in the header, expected its size")
    data = pose.body.data
    if data.ndim != 4 or data.shape[1] == 0 or data.shape[3] < 2:
        raise DataError(f"found points of shape {data.shape}, expected (frames, persons, points, 2 or more)")
    flat = np.ma.filled(data[:, 0, :, :2].astype(np.float64), np.nan) / size
    names, points, start = {}, {}, 0
    for component in pose.header.components:
        names[component.name] = component.points
        points[component.name] = flat[:, start : start + len(component.points)]
        start += len(component.points)
    array, estimator = _array(names, points)
    fps = float(pose.body.fps)
    return make_clip(array, ESTIMATORS[estimator].names, estimator, fps if 0 < fps <= 1000 else None)


def _array(names: dict[str, list[str]], points: dict[str, np.ndarray]) -> tuple[np.ndarray, str]:
    """Return the estimator's array (T, N, 2), NaN for what the file lacks, and its name."""
    frames = len(next(iter(points.values()), ()))
    if "POSE_LANDMARKS" in names:
        array = np.full((frames, len(MEDIAPIPE.names), 2), np.nan)
        for component, columns in _holistic_columns(names).items():
            known = [i for i, column in enumerate(columns) if column is not None]
            array[:, [columns[i] for i in known]] = points[component][:, known]
        return array, MEDIAPIPE.name
    for estimator, components in _IN_ORDER.items():
        parts = ESTIMATORS[estimator].parts
        if all(len(names.get(components[part], ())) == len(parts[part]) for part in parts):
            return np.concatenate([points[components[part]] for part in parts], axis=1), estimator
    found = ", ".join(f"{name} ({len(of)} points)" for name, of in names.items()) or "none"
    raise DataError(
        f"found the components {found}, expected those of MediaPipe Holistic, OpenPose (BODY_25) or COCO-WholeBody"
    )


def _holistic_columns(names: dict[str, list[str]]) -> dict[str, list[int | None]]:
    """Return the column in MediaPipe's array of each point of each component; None for one that it lacks."""
    place = {name: i for i, name in enumerate(MEDIAPIPE.names)}
    columns = {
        component: [place.get(prefix + point.lower()) for point in names[component]]
        for component, prefix in _HOLISTIC.items()
        if component in names
    }
    face = MEDIAPIPE.part("face")
    if _HOLISTIC_FACE in names:  # vertices by number; those of the irises go beyond the mesh
        size = face.stop - face.start
        columns[_HOLISTIC_FACE] = [
            face.start + int(point) if point.isdigit() and int(point) < size else None
            for point in names[_HOLISTIC_FACE]
        ]
    return columns
