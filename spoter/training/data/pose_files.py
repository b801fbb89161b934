""".pose files, read with the pose-format library (github.com/sign-language-processing/pose).

Points are pixels of the picture size in the header; a masked point, with confidence 0, is missing. If there are several
persons, only the first is read. The components in the header identify the estimator: MediaPipe Holistic (points by
name, so files with a part of the face mesh can be read), OpenPose, or COCO-WholeBody. Other components, such as the
world landmarks of Holistic, are ignored.
"""

from pathlib import Path

import numpy as np

from spoter.errors import DataError
from spoter.formats.estimator_frames import OPENPOSE_KEYS
from spoter.landmarks.clip import Clip, make_clip
from spoter.landmarks.estimators import MEDIAPIPE, OPENPOSE, WHOLEPOSE, Estimator

_PREFIXES = {"POSE_LANDMARKS": "pose_", "LEFT_HAND_LANDMARKS": "leftHand_", "RIGHT_HAND_LANDMARKS": "rightHand_"}
# Component of each part, for the estimators whose points are read in order.
_COMPONENTS: dict[str, dict[str, str]] = {
    OPENPOSE.name: OPENPOSE_KEYS,
    WHOLEPOSE.name: {"pose": "BODY", "face": "FACE", "left_hand": "LEFT_HAND", "right_hand": "RIGHT_HAND"},
}


def read_clip(path: Path) -> Clip:
    """Read a .pose file.

    Raises `DataError` without pose-format, for a file that it cannot read, and for components of another estimator;
    `InputError` as `spoter.landmarks.clip.make_clip`.
    """
    try:
        from pose_format import Pose
    except ImportError as error:
        raise DataError("reading .pose files needs pose-format: pip install 'spoter[train]'") from error
    try:
        pose = Pose.read(path.read_bytes())
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror or error})") from error
    except Exception as error:  # a truncated file fails in struct, in NumPy or in the text of the header
        raise DataError(f"found no valid .pose file ({type(error).__name__}), expected one of pose-format") from error
    size = np.array([pose.header.dimensions.width, pose.header.dimensions.height], dtype=np.float64)
    if not (size > 0).all():
        raise DataError(f"found a picture size of {size[0]:g} x {size[1]:g} pixels in the header, expected above 0")
    data = pose.body.data
    if data.ndim != 4 or data.shape[1] == 0 or data.shape[3] < 2:
        raise DataError(f"found points of shape {data.shape}, expected (frames, persons, points, 2 or more)")
    flat = np.ma.filled(data[:, 0, :, :2].astype(np.float64), np.nan) / size
    components = pose.header.components
    names: dict[str, list[str]] = {component.name: component.points for component in components}
    pieces = np.split(flat, np.cumsum([len(component.points) for component in components], dtype=int), axis=1)
    points = {component.name: piece for component, piece in zip(components, pieces[:-1], strict=True)}
    array, estimator = _estimator_points(names, points)
    fps = float(pose.body.fps)
    return make_clip(array, estimator.names, estimator.name, fps if 0 < fps <= 1000 else None)


def _estimator_points(names: dict[str, list[str]], points: dict[str, np.ndarray]) -> tuple[np.ndarray, Estimator]:
    """Return the points (T, N, 2) in the order of the estimator, NaN where the file has none, and the estimator."""
    if "POSE_LANDMARKS" in names:
        array = np.full((len(points["POSE_LANDMARKS"]), len(MEDIAPIPE.names), 2), np.nan)
        column = {name: i for i, name in enumerate(MEDIAPIPE.names)}
        # Points of the face have numbers as names; the irises come after the mesh and are not read.
        face = {str(i): MEDIAPIPE.part("face").start + i for i in range(len(MEDIAPIPE.parts["face"]))}
        for component, members in names.items():
            if component in _PREFIXES:
                columns = [column.get(_PREFIXES[component] + name.lower()) for name in members]
            elif component == "FACE_LANDMARKS":
                columns = [face.get(name) for name in members]
            else:
                continue
            pairs = [(to, i) for i, to in enumerate(columns) if to is not None]
            array[:, [to for to, _ in pairs]] = points[component][:, [i for _, i in pairs]]
        return array, MEDIAPIPE
    for estimator in (OPENPOSE, WHOLEPOSE):
        components = _COMPONENTS[estimator.name]
        if all(len(names.get(components[part], ())) == len(own) for part, own in estimator.parts.items()):
            return np.concatenate([points[components[part]] for part in estimator.parts], axis=1), estimator
    listed = ", ".join(f"{name} ({len(points)} points)" for name, points in names.items()) or "none"
    expected = "those of MediaPipe Holistic, OpenPose (BODY_25) or COCO-WholeBody"
    raise DataError(f"found the components {listed}, expected {expected}")
