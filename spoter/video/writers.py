"""Files with the landmarks of one video, in formats that `spoter predict`, training and other tools read."""

import io
import json
from collections.abc import Callable
from importlib.util import find_spec

import numpy as np

from spoter.errors import SpoterError
from spoter.landmarks.clip import round_points
from spoter.landmarks.estimators import MEDIAPIPE
from spoter.landmarks.skeleton import CHAINS, find_limbs
from spoter.video.reader import EXTRACTION_VERSION, VideoLandmarks

_DECIMALS = 6  # a thousandth of a pixel in a picture 1000 pixels wide; float32 has no more
_POSE_COMPONENTS = {
    "pose": "POSE_LANDMARKS",
    "face": "FACE_LANDMARKS",
    "left_hand": "LEFT_HAND_LANDMARKS",
    "right_hand": "RIGHT_HAND_LANDMARKS",
}
_REQUIRED_MODULES = {"pose": "pose_format", "hdf5": "h5py"}


def check_dependencies(file_format: str) -> None:
    """Raise `SpoterError` if the library that writes a format is not installed; called before the slow work."""
    module = _REQUIRED_MODULES.get(file_format)
    if module is not None and find_spec(module) is None:
        raise SpoterError(f"writing .{file_format} files needs an extra: pip install 'spoter[train]'")


def to_json(landmarks: VideoLandmarks) -> bytes:
    """Return the JSON body of a request (docs/formats.md) with all 543 points and the video's properties."""
    points = [
        None if np.isnan(frame).all() else [None if x != x else [x, y] for x, y in frame.tolist()]
        for frame in round_points(landmarks.clip.points, _DECIMALS)
    ]
    video = {name: getattr(landmarks, name) for name in ("width", "height", "notes")}
    body = {"estimator": MEDIAPIPE.name, "points": points, "video": video | {"extraction": EXTRACTION_VERSION}}
    rate = {} if landmarks.fps is None else {"fps": landmarks.fps}
    return json.dumps(body | rate, separators=(",", ":"), allow_nan=False).encode()


def to_npy(landmarks: VideoLandmarks) -> bytes:
    """Return a .npy file: (T, 543, 2) float32, NaN = missing. It does not hold the frame rate."""
    content = io.BytesIO()
    np.save(content, landmarks.clip.points, allow_pickle=False)
    return content.getvalue()


def to_pose(landmarks: VideoLandmarks) -> bytes:
    """Return a .pose file of pose-format's version 0.2, in pixels; a missing point has confidence 0.

    Raise `SpoterError` if pose-format is not installed.
    """
    check_dependencies("pose")
    from pose_format import Pose
    from pose_format.numpy.pose_body import NumPyPoseBody
    from pose_format.pose_header import PoseHeader, PoseHeaderComponent, PoseHeaderDimensions

    components = [
        PoseHeaderComponent(_POSE_COMPONENTS[part], _point_names(part), _limbs(part), [(0, 0, 0)], "XYC")
        for part in MEDIAPIPE.parts
    ]
    size = (landmarks.width, landmarks.height)
    header = PoseHeader(0.2, PoseHeaderDimensions(*size), components)
    points = landmarks.clip.points[:, None]  # of one person
    confidence = (~np.isnan(points[..., 0])).astype(np.float32)
    body = NumPyPoseBody(landmarks.fps or 0.0, (np.nan_to_num(points) * size).astype(np.float32), confidence)
    content = io.BytesIO()
    Pose(header, body).write(content)
    return content.getvalue()


def _point_names(part: str) -> list[str]:
    """Return pose-format's names for the points of a part."""
    if part == "face":
        return [str(vertex) for vertex in range(len(MEDIAPIPE.parts[part]))]
    return [name.partition("_")[2].upper() for name in MEDIAPIPE.parts[part]]


def _limbs(part: str) -> list[tuple[int, int]]:
    return [(start, end) for name in CHAINS for start, end in find_limbs(MEDIAPIPE.parts[part], name).tolist()]


WRITERS: dict[str, Callable[[VideoLandmarks], bytes]] = {".json": to_json, ".npy": to_npy, ".pose": to_pose}
"""For each suffix, the function that returns the content of a file with one clip."""
