"""ConnectingPoints HDF5 files, which hold many clips.

The files equal those of ConnectingPoints' extractor: the neck follows MediaPipe's 543 points, a missing point is 0, and
a missing hand is 21 copies of the pose's wrist (`spoter.landmarks.connecting_points` names the source).
"""

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from spoter.errors import SpoterError
from spoter.landmarks.clip import Clip
from spoter.landmarks.connecting_points import clip_from_connecting_points
from spoter.landmarks.estimators import MEDIAPIPE


@dataclass(frozen=True)
class Member:
    """A clip in a ConnectingPoints file, with MediaPipe's 543 points."""

    name: str  # the part before "/" is the clip's group
    gloss: str
    clip: Clip
    fingerprint: str  # of the video (`spoter.video.manifest.fingerprint`), stored as the attribute `mark`


def to_connecting_points(clip: Clip) -> npt.NDArray[np.float32]:
    """Return the points of a MediaPipe clip as ConnectingPoints stores them: (T, 2, 544), 0 = missing."""
    left, right = (clip.points[:, MEDIAPIPE.names.index(f"pose_{side}_shoulder")] for side in ("left", "right"))
    neck = left / 2 + right / 2
    points = np.concatenate([clip.points, neck[:, None]], axis=1)
    for side in ("left", "right"):
        hand = points[:, MEDIAPIPE.part(f"{side}_hand")]
        wrist = points[:, MEDIAPIPE.names.index(f"pose_{side}_wrist"), None]
        np.copyto(hand, np.broadcast_to(wrist, hand.shape), where=np.isnan(hand).all(axis=(1, 2), keepdims=True))
    stored: npt.NDArray[np.float32] = np.nan_to_num(points).transpose(0, 2, 1)
    return stored


def write_hdf5(
    path: Path,
    members: Iterable[Member],
    encode_points: Callable[[Clip], npt.NDArray[np.float32]] = to_connecting_points,
) -> None:
    """Write a ConnectingPoints file with one group per clip; raise OSError if that fails, as on a full disk.

    `encode_points` returns the (T, 2, N) points of a clip as ConnectingPoints stores them.
    """
    with _ErrorKeepingFile(path, "w+") as stream:
        with h5py.File(stream, "w") as file:
            for number, member in enumerate(members):
                group = file.create_group(str(number))
                group["video_name"] = member.name
                group["label"] = member.gloss
                group.create_dataset("data", data=encode_points(member.clip), compression="gzip", shuffle=True)
                group.attrs["mark"] = member.fingerprint
                if member.clip.fps is not None:
                    group.attrs["fps"] = member.clip.fps
                if stream.error is not None:
                    break
        if stream.error is not None:
            raise stream.error


class _ErrorKeepingFile(io.FileIO):
    """A file for h5py that stores the first write error instead of raising it: HDF5 crashes on a full disk."""

    error: OSError | None = None

    def write(self, content: Any, /) -> int:
        rest = memoryview(content)
        try:
            while rest and self.error is None:
                rest = rest[super().write(rest) :]
        except OSError as error:
            self.error = error
        return len(content)

    def truncate(self, size: int | None = None, /) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size or 0


def read_fingerprints(path: Path) -> dict[str, tuple[str, str]]:
    """Return, for each clip name, the key of its group and its fingerprint, which is empty in other programs' files.

    Raise `SpoterError` if the file is not a ConnectingPoints file.
    """
    try:
        with h5py.File(path, "r") as file:
            return {group["video_name"].asstr()[()]: (key, group.attrs.get("mark", "")) for key, group in file.items()}
    except BlockingIOError as error:
        raise SpoterError(f"{path}: another program is writing to this file; wait, or choose another file") from error
    except (OSError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise SpoterError(f"{path}: not a ConnectingPoints file; remove it or choose another file") from error


def read_member(path: Path, key: str) -> Member:
    """Return one clip from a file written by `write_hdf5`."""
    with h5py.File(path, "r") as file:
        group = file[key]
        clip = clip_from_connecting_points(group["data"][()].transpose(0, 2, 1)[:, : len(MEDIAPIPE.names)])
        fps = group.attrs.get("fps")
        name, gloss = (group[text].asstr()[()] for text in ("video_name", "label"))
        return Member(name, gloss, replace(clip, fps=None if fps is None else float(fps)), group.attrs["mark"])
