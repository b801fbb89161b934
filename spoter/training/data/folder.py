"""A folder of glosses: ``GLOSS/clip.json`` and so on, a folder a gloss, a file a clip.

Files ending in .json, .csv and .npy are of the wire formats (docs/formats.md), one clip each; .pose is pose-format's,
and of a video the landmarks are found by MediaPipe. A folder is a clip of OpenPose's or MMPose's frames. A clip's name
is ``GLOSS/clip``, without the ending. A file ``groups.csv`` at the root, with the columns ``clip,group``, says which
clips belong together; it then names all of them. A file ``picture.json`` at the root says the size of the pictures and
the frames per second of all clips of wire formats that do not say it themselves. Files and folders whose names begin
with a dot are left out, and so are the overlays of ``spoter extract``.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from functools import partial
from pathlib import Path

from spoter.errors import DataError, InputError, SpoterError
from spoter.formats import Options
from spoter.landmarks.clip import Clip
from spoter.sources import frame_folders
from spoter.training.data import pose_files, video, wire_files
from spoter.training.data.labelled import LabelledClip, UnreadClip, UnreadDataSet
from spoter.video.reader import ENDINGS, is_overlay

GROUPS = "groups.csv"
_READERS: dict[str, Callable[[Path], Clip]] = {
    ".pose": pose_files.read_clip,
    **dict.fromkeys(ENDINGS, video.read_clip),
}


def read(path: Path) -> UnreadDataSet:
    """Find the clips of a folder.

    Raises
    ------
    DataError
        Where there is no folder of a gloss in it, or groups.csv is wrong.
    """
    try:
        glosses = sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
        files = {folder: sorted(filter(_may_be_a_clip, folder.iterdir())) for folder in glosses}
    except OSError as error:
        raise DataError(f"{error.filename or path}: cannot be read ({error.strerror or error})") from error
    if not glosses:
        raise DataError(f"{path}: found no folder in it, expected one for each gloss, or a train.csv")
    groups = _groups(path / GROUPS)
    try:
        options = frame_folders.picture(path)
    except SpoterError as error:
        raise DataError(str(error)) from error
    items = []
    for folder, members in files.items():
        if not members:
            items.append(UnreadClip(str(folder), _empty))
        first: dict[str, Path] = {}
        for file in members:
            twin = first.setdefault(_name(file), file)
            items.append(UnreadClip(str(file), partial(_labelled, file, None if twin is file else twin, groups, options)))
    if groups is not None:
        known = {f"{folder.name}/{_name(file)}" for folder, members in files.items() for file in members}
        absent = sorted(set(groups) - known)
        if absent:
            raise DataError(f"{path / GROUPS}: found clip {absent[0]!r}, which is not there, expected GLOSS/clip")
    return UnreadDataSet(items)


def _may_be_a_clip(file: Path) -> bool:
    return file.name[0] != "." and not is_overlay(file)


def _empty() -> LabelledClip:
    raise DataError("found no clip of this gloss, expected at least one file")


def _name(file: Path) -> str:
    return file.name if file.is_dir() else file.stem


def _labelled(file: Path, twin: Path | None, groups: dict[str, str] | None, options: Options) -> LabelledClip:
    gloss, name = file.parent.name, f"{file.parent.name}/{_name(file)}"
    if twin is not None:
        raise DataError(f"found a second file of the clip in {twin.name}, expected one")
    ending = file.suffix.lower()
    if file.is_dir() or ending in wire_files.TYPES:
        read_clip: Callable[[Path], Clip] = partial(wire_files.read_clip, options=options)
    elif ending in _READERS:
        read_clip = _READERS[ending]
    else:
        endings = ", ".join((*wire_files.TYPES, *_READERS))
        raise DataError(
            f"found {file.suffix or 'no ending'}, expected a file in {endings}, or a folder of OpenPose's or MMPose's "
            "frames"
        )
    if groups is not None and name not in groups:
        raise DataError(f"found no group for {name!r} in {GROUPS}, expected one for each clip")
    try:
        clip = read_clip(file)
    except (DataError, InputError):
        raise
    except SpoterError as error:  # of a folder, which says its own name
        raise DataError(str(error).removeprefix(f"{file}: ")) from error
    return LabelledClip(clip, gloss, groups[name] if groups is not None else name, name)


def _groups(path: Path) -> dict[str, str] | None:
    """Return the group of each clip by name; None where there is no such file."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: {error}") from error
    rows = csv.DictReader(text.splitlines(), skipinitialspace=True, strict=True)
    try:
        numbered = [(rows.line_num, row) for row in rows]
    except csv.Error as error:  # an open quote, a cell of a hundred thousand characters
        raise DataError(f"{path}, after line {rows.line_num}: {error}") from error
    if tuple(rows.fieldnames or ()) != ("clip", "group"):
        raise DataError(f"{path}: found columns {rows.fieldnames}, expected clip,group")
    groups: dict[str, str] = {}
    for number, row in numbered:
        place = f"{path}, line {number}"
        clip, group = row["clip"], row["group"]
        if not clip or not (group or "").strip() or None in row:
            raise DataError(f"{place}: found an empty cell or one too many, expected a clip and its group")
        if groups.setdefault(clip, group) != group:
            raise DataError(f"{place}: found clip {clip!r} for a second time in another group")
    return groups
