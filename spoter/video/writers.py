"""What was found in a video, in files: forms that `spoter predict`, training and other tools read.

ConnectingPoints HDF5 is written as its own extractor does: the neck behind MediaPipe's 543 points, 0 for a missing
point and 21 copies of the pose's wrist for a missing hand (`spoter.landmarks.connecting_points` has the source).
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from spoter.errors import SpoterError
from spoter.landmarks.clip import Clip, round_points
from spoter.landmarks.estimators import MEDIAPIPE
from spoter.video.reader import EXTRACTION, Extracted

_DECIMALS = 6  # a thousandth of a pixel in a picture of 1000; float32 has no more
_COMPONENTS = {
    "pose": "POSE_LANDMARKS",
    "face": "FACE_LANDMARKS",
    "left_hand": "LEFT_HAND_LANDMARKS",
    "right_hand": "RIGHT_HAND_LANDMARKS",
}


def to_json(extracted: Extracted) -> bytes:
    """Return the body of a request (docs/formats.md): all 543 points, and what is known of the video beside them."""
    points = [
        None if np.isnan(frame).all() else [None if x != x else [x, y] for x, y in frame.tolist()]
        for frame in round_points(extracted.clip.points, _DECIMALS)
    ]
    video = {"width": extracted.width, "height": extracted.height, "notes": extracted.notes, "extraction": EXTRACTION}
    body = {"estimator": MEDIAPIPE.name, "points": points, "video": video}
    if extracted.fps is not None:
        body["fps"] = extracted.fps
    return json.dumps(body, separators=(",", ":"), allow_nan=False).encode()


def to_npy(extracted: Extracted) -> bytes:
    """Return a .npy file: (T, 543, 2) float32, NaN = missing. It has no place for the frame rate."""
    content = io.BytesIO()
    np.save(content, extracted.clip.points, allow_pickle=False)
    return content.getvalue()


def to_pose(extracted: Extracted) -> bytes:
    """Return a .pose file of pose-format's version 0.2, in pixels; a missing point has confidence 0.

    Raises
    ------
    SpoterError
        Where pose-format is not installed.
    """
    check_pose_format()
    from pose_format import Pose
    from pose_format.numpy.pose_body import NumPyPoseBody
    from pose_format.pose_header import PoseHeader, PoseHeaderComponent, PoseHeaderDimensions

    components = [
        PoseHeaderComponent(_COMPONENTS[part], _point_names(part), _limbs(part), [(0, 0, 0)], "XYC")
        for part in MEDIAPIPE.parts
    ]
    size = (extracted.width, extracted.height)
    header = PoseHeader(0.2, PoseHeaderDimensions(*size), components)
    points = extracted.clip.points[:, None]  # of one person
    there = (~np.isnan(points[..., 0])).astype(np.float32)
    body = NumPyPoseBody(extracted.fps or 0.0, (np.nan_to_num(points) * size).astype(np.float32), there)
    content = io.BytesIO()
    Pose(header, body).write(content)
    return content.getvalue()


def check_pose_format() -> None:
    """Raise `SpoterError` where pose-format is not installed: before the work, not after it."""
    try:
        import pose_format  # noqa: F401
    except ImportError as error:
        raise SpoterError("writing .pose files needs pip install 'spoter[train]'") from error


def _point_names(part: str) -> list[str]:
    """Return the names that pose-format has for the points of a part."""
    if part == "face":
        return [str(vertex) for vertex in range(len(MEDIAPIPE.parts[part]))]
    return [name.partition("_")[2].upper() for name in MEDIAPIPE.parts[part]]


def _limbs(part: str) -> list[tuple[int, int]]:
    from spoter.landmarks.skeleton import CHAINS, find_limbs

    return [tuple(pair) for name in CHAINS for pair in find_limbs(MEDIAPIPE.parts[part], name).tolist()]


WRITERS: dict[str, Callable[[Extracted], bytes]] = {".json": to_json, ".npy": to_npy, ".pose": to_pose}
"""By ending, what makes the content of a file of one clip."""


@dataclass(frozen=True)
class Member:
    """A clip of a ConnectingPoints file.

    Attributes
    ----------
    name : str
        Its first part, before ``/``, is the clip's group.
    gloss : str
    clip : Clip
        Of MediaPipe's 543 points.
    mark : str
        Which video by which extraction: kept as an attribute, so that it is not made twice.
    """

    name: str
    gloss: str
    clip: Clip
    mark: str


def write_hdf5(path: Path, members: Iterable[Member], points: Callable[[Clip], np.ndarray] | None = None) -> None:
    """Write a ConnectingPoints file, a group for each clip; OSError where the disk is full, or the like.

    `points` returns a clip's (T, 2, N) float32 as ConnectingPoints keeps them; by default MediaPipe's.
    """
    import h5py

    points = points or _connecting_points

    with path.open("w+b", buffering=0) as stream:
        careful = _Careful(stream)
        with h5py.File(careful, "w") as file:
            for number, member in enumerate(members):
                group = file.create_group(str(number))
                group["video_name"] = member.name
                group["label"] = member.gloss
                group.create_dataset("data", data=points(member.clip), compression="gzip", shuffle=True)
                group.attrs["mark"] = member.mark
                if member.clip.fps is not None:
                    group.attrs["fps"] = member.clip.fps
                if careful.error is not None:
                    break
        if careful.error is not None:
            raise careful.error


class _Careful:
    """A file as h5py takes one, which keeps the first error of writing: HDF5 itself crashes over a full disk."""

    def __init__(self, stream: BinaryIO):
        self._stream, self.error = stream, None

    def write(self, content: bytes) -> int:
        rest = memoryview(content)
        try:
            while rest and self.error is None:
                rest = rest[self._stream.write(rest) :]
        except OSError as error:
            self.error = error
        return len(content)

    def truncate(self, size: int) -> int:
        try:
            return self._stream.truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


def _connecting_points(clip: Clip) -> np.ndarray:
    """Return a clip's points as ConnectingPoints keeps them: (T, 2, 544) float32."""
    neck = clip.points[:, MEDIAPIPE.names.index("pose_left_shoulder")] / 2
    neck = neck + clip.points[:, MEDIAPIPE.names.index("pose_right_shoulder")] / 2
    points = np.concatenate([clip.points, neck[:, None]], axis=1)
    for side in ("left", "right"):
        hand = points[:, MEDIAPIPE.part(f"{side}_hand")]
        wrist = points[:, MEDIAPIPE.names.index(f"pose_{side}_wrist"), None]
        np.copyto(hand, np.broadcast_to(wrist, hand.shape), where=np.isnan(hand).all(axis=(1, 2), keepdims=True))
    return np.nan_to_num(points).transpose(0, 2, 1)


def read_marks(path: Path) -> dict[str, tuple[str, str]]:
    """Return by a clip's name the key of its group and its mark, which is empty where others wrote it.

    Raises
    ------
    SpoterError
        For a file that is no ConnectingPoints file.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return {group["video_name"].asstr()[()]: (key, group.attrs.get("mark", "")) for key, group in file.items()}
    except BlockingIOError as error:
        raise SpoterError(f"{path}: another program is writing into it; wait for it, or write to another") from error
    except (OSError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise SpoterError(f"{path}: is no ConnectingPoints file; remove it, or write to another") from error


def read_member(path: Path, key: str) -> Member:
    """Return one clip of a file that `write_hdf5` wrote."""
    import h5py

    from spoter.landmarks.connecting_points import clip_from_connecting_points

    with h5py.File(path, "r") as file:
        group, count = file[key], len(MEDIAPIPE.names)
        found = clip_from_connecting_points(group["data"][()].transpose(0, 2, 1)[:, :count])
        fps = group.attrs.get("fps")
        clip = replace(found, fps=None if fps is None else float(fps))
        name, gloss = (group[text].asstr()[()] for text in ("video_name", "label"))
        return Member(name, gloss, clip, group.attrs["mark"])
