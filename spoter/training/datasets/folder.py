"""A folder of glosses: ``GLOSS/clip.json`` and so on, a folder a gloss, a file a clip.

Files ending in .json, .csv and .npy are of the wire formats (docs/formats.md), one clip each; .pose is pose-format's,
and of .mp4 the landmarks are found by MediaPipe. A clip's name is ``GLOSS/clip``, without the ending. A file
``groups.csv`` at the root, with the columns ``clip,group``, says which clips belong together; it then names all of
them. Files and folders whose names begin with a dot are left out.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from functools import partial
from pathlib import Path

from spoter.clip import Clip
from spoter.errors import DataError
from spoter.training.datasets import pose_files, video, wire_files
from spoter.training.datasets.labelled import Item, LabelledClip, Source

GROUPS = "groups.csv"
_READERS: dict[str, Callable[[Path], Clip]] = {
    **dict.fromkeys(wire_files.TYPES, wire_files.read_clip),
    ".pose": pose_files.read_clip,
    ".mp4": video.read_clip,
}


def read(path: Path) -> Source:
    """Find the clips of a folder.

    Raises
    ------
    DataError
        Where there is no folder of a gloss in it, or groups.csv is wrong.
    """
    try:
        glosses = sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
        files = {folder: sorted(file for file in folder.iterdir() if file.name[0] != ".") for folder in glosses}
    except OSError as error:
        raise DataError(f"{error.filename or path}: cannot be read ({error.strerror or error})") from error
    if not glosses:
        raise DataError(f"{path}: found no folder in it, expected one for each gloss, or a train.csv")
    groups = _groups(path / GROUPS)
    items = []
    for folder, members in files.items():
        if not members:
            items.append(Item(str(folder), _empty))
        first: dict[str, Path] = {}
        for file in members:
            twin = first.setdefault(file.stem, file)
            items.append(Item(str(file), partial(_labelled, file, None if twin is file else twin, groups)))
    if groups is not None:
        known = {f"{folder.name}/{file.stem}" for folder, members in files.items() for file in members}
        absent = sorted(set(groups) - known)
        if absent:
            raise DataError(f"{path / GROUPS}: found clip {absent[0]!r}, which is not there, expected GLOSS/clip")
    return Source(items)


def _empty() -> LabelledClip:
    raise DataError("found no clip of this gloss, expected at least one file")


def _labelled(file: Path, twin: Path | None, groups: dict[str, str] | None) -> LabelledClip:
    gloss, name = file.parent.name, f"{file.parent.name}/{file.stem}"
    if twin is not None:
        raise DataError(f"found a second file of the clip in {twin.name}, expected one")
    read_clip = _READERS.get(file.suffix.lower())
    if read_clip is None or not file.is_file():
        raise DataError(f"found {file.suffix or 'no ending'}, expected a file in {', '.join(_READERS)}")
    if groups is not None and name not in groups:
        raise DataError(f"found no group for {name!r} in {GROUPS}, expected one for each clip")
    return LabelledClip(read_clip(file), gloss, groups[name] if groups is not None else name, name)


def _groups(path: Path) -> dict[str, str] | None:
    """Return the group of each clip by name; None where there is no such file."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: {error}") from error
    rows = csv.DictReader(text.splitlines(), skipinitialspace=True)
    try:
        numbered = [(rows.line_num, row) for row in rows]
    except csv.Error as error:  # a cell of a hundred thousand characters
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
