"""A data set in a folder: one folder per gloss, one file per clip, such as ``GLOSS/clip.json``.

Files ending in .json, .csv and .npy hold one clip in a wire format (docs/formats.md), and .pose files are those of
pose-format. MediaPipe extracts the landmarks of videos. A folder within a gloss is a clip with frames of OpenPose or
MMPose. The name of a clip is ``GLOSS/clip``, without the ending. The optional file ``groups.csv`` at the root, with the
columns ``clip,group``, names the group of each clip. The optional file ``picture.json`` at the root has picture size
and frames per second for all clips of wire formats that lack them. Names that begin with a dot and overlays of
``spoter extract`` are ignored.
"""

import codecs
from collections.abc import Callable
from functools import partial
from pathlib import Path

from spoter.errors import DataError, InputError, SpoterError
from spoter.formats import Options
from spoter.formats.csv_table import read_table
from spoter.landmarks.clip import Clip
from spoter.sources import frame_folders
from spoter.training.data import pose_files, video, wire_files
from spoter.training.data.labelled import LabelledClip, UnreadClip, UnreadDataSet
from spoter.video.reader import VIDEO_SUFFIXES, is_overlay

GROUPS = "groups.csv"
_READERS: dict[str, Callable[[Path], Clip]] = {
    ".pose": pose_files.read_clip,
    **dict.fromkeys(VIDEO_SUFFIXES, video.read_clip),
}


def locate_clips(path: Path) -> UnreadDataSet:
    """Locate the clips of a folder; raise `DataError` if it has no folder of a gloss or a wrong groups.csv."""
    try:
        glosses = sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
        files = {folder: sorted(file for file in folder.iterdir() if _may_be_clip(file)) for folder in glosses}
    except OSError as error:
        raise DataError(f"{error.filename or path}: cannot be read ({error.strerror or error})") from error
    if not glosses:
        raise DataError(f"{path}: found no folder in it, expected one per gloss, or a train.csv")
    groups = _read_groups(path / GROUPS)
    try:
        options = frame_folders.read_picture_options(path)
    except SpoterError as error:
        raise DataError(str(error)) from error
    unread = []
    names: dict[str, Path] = {}
    for folder, members in files.items():
        if not members:
            unread.append(UnreadClip(str(folder), _report_empty_gloss))
        for file in members:
            name = f"{file.parent.name}/{file.name if file.is_dir() else file.stem}"
            first = names.setdefault(name, file)
            group = name if groups is None else groups.get(name)
            load = partial(_read_labelled, file, name, None if first is file else first, group, options)
            unread.append(UnreadClip(str(file), load))
    absent = sorted(set(groups or ()) - set(names))
    if absent:
        raise DataError(f"{path / GROUPS}: found clip {absent[0]!r}, expected GLOSS/clip of an existing file")
    return UnreadDataSet(unread)


def _may_be_clip(file: Path) -> bool:
    return not file.name.startswith(".") and not is_overlay(file)


def _report_empty_gloss() -> LabelledClip:
    raise DataError("found no clip of this gloss, expected at least one file")


def _read_labelled(file: Path, name: str, first: Path | None, group: str | None, options: Options) -> LabelledClip:
    """Read a clip; `first` is another file of the same name, if any."""
    if first is not None:
        raise DataError(f"found a second file of the clip in {first.name}, expected one file per clip")
    ending = file.suffix.lower()
    if not (file.is_dir() or ending in wire_files.TYPES or ending in _READERS):
        suffix, endings = file.suffix or "no ending", ", ".join((*wire_files.TYPES, *_READERS))
        raise DataError(f"found {suffix}, expected a file ending in {endings}, or a folder of OpenPose or MMPose")
    if group is None:
        raise DataError(f"found no group for {name!r} in {GROUPS}, expected one per clip")
    try:
        is_wire_file = file.is_dir() or ending in wire_files.TYPES
        clip = wire_files.read_clip(file, options) if is_wire_file else _READERS[ending](file)
    except (DataError, InputError):
        raise
    except SpoterError as error:  # from a folder of frames; its message starts with the path
        raise DataError(str(error).removeprefix(f"{file}: ")) from error
    return LabelledClip(clip, file.parent.name, group, name)


def _read_groups(path: Path) -> dict[str, str] | None:
    """Return the group of each clip by its name; None without the file."""
    try:
        table = read_table(path.read_bytes().removeprefix(codecs.BOM_UTF8))
        if table.columns != ("clip", "group"):
            raise DataError(f"{path}: found columns {','.join(table.columns)}, expected clip,group")
        cells = table.read_strings(table.columns)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    except InputError as error:
        raise DataError(str(error.within(str(path)))) from error
    groups: dict[str, str] = {}
    for i, (clip, group) in enumerate(zip(cells["clip"], cells["group"], strict=True)):
        if not clip or not group.strip():
            raise DataError(f"{path}, {table.place(i)}: found an empty cell, expected a clip and its group")
        if groups.setdefault(clip, group) != group:
            raise DataError(f"{path}, {table.place(i)}: found clip {clip!r} again with another group, expected one")
    return groups
