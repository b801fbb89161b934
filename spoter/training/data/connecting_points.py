"""Data sets in ConnectingPoints HDF5 files (`spoter.landmarks.connecting_points`): read and write labeled clips.

The first part of a ``video_name`` (``camera07`` of ``camera07/computer/0007f9d4``) is the clip's group.
"""

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

from spoter.errors import DataError
from spoter.files import atomic_write
from spoter.landmarks import connecting_points
from spoter.landmarks.clip import Clip
from spoter.landmarks.estimators import ESTIMATORS, NECK, Estimator
from spoter.training.data.labelled import LabelledClip, UnreadClip
from spoter.video.hdf5_files import Member, write_hdf5


def write_clips(path: Path, clips: Iterable[LabelledClip], estimator: str) -> None:
    """Write labeled clips of an estimator as a ConnectingPoints file, atomically.

    Changes the name of a clip if its first part is not the group of the clip. Raises `DataError` for a landmark that
    the estimator does not have.
    """
    members = (Member(_name_with_group(clip), clip.gloss, clip.clip, "") for clip in clips)
    with atomic_write(path) as temporary:
        write_hdf5(temporary, members, partial(_encode_points, estimator=ESTIMATORS[estimator]))


def _name_with_group(clip: LabelledClip) -> str:
    if clip.group == clip.name:
        return clip.name.replace("/", "_")
    return clip.name if clip.name.startswith(f"{clip.group}/") else f"{clip.group}/{clip.name}"


def _encode_points(clip: Clip, estimator: Estimator) -> npt.NDArray[np.float32]:
    """Return the points of a clip as (T, 2, N) float32, 0 = missing, in the estimator's order."""
    names = estimator.names
    if NECK in clip.names and NECK in estimator.optional:
        names += estimator.optional
    unknown = sorted(set(clip.names) - {*names, NECK})  # the neck is computed from the shoulders
    if unknown:
        raise DataError(f"found landmark {unknown[0]}, expected those of {estimator.name}")
    column = {name: number for number, name in enumerate(names)}
    points = np.zeros((len(clip), len(names), 2), dtype=np.float32)
    copied = [i for i, name in enumerate(clip.names) if name in column]
    points[:, [column[clip.names[i]] for i in copied]] = np.nan_to_num(clip.points[:, copied])
    return points.transpose(0, 2, 1)


def locate_clips(path: Path) -> Iterator[UnreadClip]:
    """Yield the clips of a file, which stays open meanwhile; raise `DataError` if it is not an HDF5 file."""
    with connecting_points.open_hdf5(path) as file:
        try:
            keys = list(file)
        except connecting_points.HDF5_ERRORS as error:
            reason = connecting_points.hdf5_error_text(error)
            raise DataError(f"{path}: cannot be read as an HDF5 file ({reason})") from error
        for key in keys:
            yield UnreadClip(f"{path}, group {key}", partial(_read_clip, file, key))


def _read_clip(file: h5py.File, key: str) -> LabelledClip:
    try:
        group = connecting_points.read_group(file, key, ("video_name", "label", "data"))
        name, gloss = connecting_points.read_text(group, "video_name"), connecting_points.read_text(group, "label")
        points = connecting_points.read_points(group)
    except connecting_points.HDF5_ERRORS as error:
        raise DataError(f"found a group that cannot be read ({connecting_points.hdf5_error_text(error)})") from error
    return LabelledClip(connecting_points.clip_from_connecting_points(points), gloss, name.split("/")[0], name)
