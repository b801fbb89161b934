"""Read a data set of any form, and check its clips."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from spoter.errors import DataError, InputError
from spoter.formats.csv_format import LONG_COLUMNS
from spoter.formats.csv_table import read_table
from spoter.formats.spoter_csv import recognizes
from spoter.landmarks.estimators import MEDIAPIPE
from spoter.landmarks.layouts import load_layout
from spoter.progress import progress_bar
from spoter.training.data import connecting_points, folder, long_table, spoter_csv
from spoter.training.data.labelled import DataSet, LabelledClip, Skipped, UnreadClip, UnreadDataSet, drop_duplicates

_FEWEST_FRAMES = 2
_LISTED = 10  # skipped clips in an error message
_FORMS = (
    "a ConnectingPoints .hdf5, a .csv of the SPOTER data sets or in the long form, a .parquet in the long form, a "
    "train.csv next to parquet files, or a folder GLOSS/clip.json"
)


def read_dataset(path: Path, *, skip_bad: bool = False, groups: str | None = None, progress: bool = False) -> DataSet:
    """Read a data set from a file or a folder; docs/datasets.md describes the forms.

    `skip_bad` skips bad clips, and all but the first of clips with equal points; `DataSet.skipped` lists them. `groups`
    is a regular expression searched in each clip's name; its first (…) captures the group. If it is None or empty, the
    groups are those in the data. `progress` shows progress on stderr.

    Raises `DataError` for a path that cannot be read and, unless `skip_bad`, for the first bad clip. A clip is bad if
    it cannot be read, has no gloss, fewer than 2 frames, no landmark of body or hands, no group by `groups`, or another
    estimator than most clips.
    """
    path, groups = Path(path), groups or None
    unread = _locate_clips(path)
    clips, skipped = _read_clips(unread.clips, _compile(groups) if groups else None, skip_bad, progress)
    if not clips:
        skips = [f"; skipped: {skip}" for skip in skipped[:_LISTED]]
        skips += [f"; and {len(skipped) - _LISTED} more"] if len(skipped) > _LISTED else []
        raise DataError(f"{path}: found no usable clip, expected at least one{''.join(skips)}")
    clips.sort(key=lambda clip: clip.name)
    if skip_bad:
        clips, copies = drop_duplicates(clips)
        skipped += copies
    if all(clip.source_group.casefold() == clip.gloss.casefold() for clip in clips):  # hello/3: not a group
        clips = [replace(clip, group=clip.name if groups is None else clip.group, source_group="") for clip in clips]
    grouped = any(clip.group != clip.name for clip in clips)
    estimators = [clip.clip.estimator for clip in clips if clip.clip.estimator is not None]
    return DataSet(clips, skipped, (path,), grouped, [*estimators, MEDIAPIPE.name][0], unread.labels)


def _locate_clips(path: Path) -> UnreadDataSet:
    """Choose the reader by the type of the file or folder."""
    if path.is_dir():
        index = path / "train.csv"
        return _locate_csv_clips(index) if index.is_file() else folder.locate_clips(path)
    ending = path.suffix.lower()
    if not path.is_file():
        raise DataError(f"{path}: found no such file or folder, expected {_FORMS}")
    if ending in (".hdf5", ".h5"):
        return UnreadDataSet(connecting_points.locate_clips(path))
    if ending == ".parquet":
        return long_table.locate_parquet_clips(path)
    if ending == ".csv":
        return _locate_csv_clips(path)
    raise DataError(f"{path}: found {ending or 'no file ending'}, expected {_FORMS}")


def _locate_csv_clips(path: Path) -> UnreadDataSet:
    """Choose the reader of a CSV file by its columns."""
    try:
        table = read_table(path.read_bytes().removeprefix(b"\xef\xbb\xbf"))
        if recognizes(table.columns):
            return spoter_csv.locate_clips(path, table)
        if "landmark_index" in table.columns:
            return long_table.locate_csv_clips(path, table)
        if all(name in table.columns for name in long_table.INDEX_COLUMNS):
            return long_table.locate_indexed_clips(path, table)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    except InputError as error:
        raise DataError(f"{path}: {error}") from error
    raise DataError(
        f"{path}: found the columns {', '.join(table.columns[:6])}, expected those of the SPOTER data sets (nose_X, "
        f"nose_Y, …, labels), of the long form (clip, gloss, {', '.join(LONG_COLUMNS)}) or of a list of clips "
        f"({', '.join(long_table.INDEX_COLUMNS)})"
    )


def _read_clips(
    unread: Iterable[UnreadClip], pattern: re.Pattern[str] | None, skip_bad: bool, progress: bool
) -> tuple[list[LabelledClip], list[Skipped]]:
    """Read and check clips; skip bad clips, or raise the error of the first bad clip."""
    read: list[tuple[str, LabelledClip]] = []
    skipped: list[Skipped] = []
    for item in progress_bar(unread, shown=progress, desc="reading", unit="clip"):
        place = _printable(item.place)
        try:
            read.append((place, _check_clip(item.load(), pattern)))
        except (InputError, DataError) as error:
            if not skip_bad:
                raise DataError(f"{place}: {error}") from error
            skipped.append(Skipped(place, _printable(str(error))))
    count = Counter(clip.clip.estimator for _, clip in read if clip.clip.estimator is not None)
    majority = min(count, key=lambda name: (-count[name], name), default=None)
    clips = []
    for place, clip in read:
        if clip.clip.estimator in (majority, None):
            clips.append(clip)
            continue
        reason = f"found landmarks of {clip.clip.estimator}, expected those of {majority}, like most clips"
        if not skip_bad:
            raise DataError(f"{place}: {reason}")
        skipped.append(Skipped(place, reason))
    return clips, skipped


def _printable(text: str) -> str:
    r"""Return text that can be written as UTF-8; other bytes of a file name become ``\udce9`` and similar."""
    return text.encode(errors="backslashreplace").decode()


def _check_clip(clip: LabelledClip, pattern: re.Pattern[str] | None) -> LabelledClip:
    """Check a clip; return it with its gloss and groups stripped and set."""
    gloss, group = clip.gloss.strip(), clip.group.strip()
    source_group = "" if group == clip.name else group
    if not gloss:
        raise DataError(f"found an empty gloss for {clip.name}, expected text")
    if len(clip.clip) < _FEWEST_FRAMES:
        raise DataError(f"found {len(clip.clip)} frame in {clip.name}, expected at least {_FEWEST_FRAMES}")
    if np.isnan(load_layout("29").select(clip.clip)).all():  # a face is not enough for a sign
        raise DataError(f"found no landmark of body or hands in any frame of {clip.name}, expected a person")
    if pattern is not None:
        match = pattern.search(clip.name)
        group = (match[1] or "").strip() if match else ""
        if not group:
            fix = "change --group-regex, or make it empty to use the groups in the data"
            raise DataError(f"found no group by {pattern.pattern!r} in the name {clip.name!r}: {fix}")
    if not group:
        raise DataError(f"found an empty group for {clip.name}, expected text")
    for field, text in (("gloss", gloss), ("group", group), ("name", clip.name)):
        if _printable(text) != text:
            raise DataError(f"found the {field} {text!r}, expected UTF-8: rename it")
    return replace(clip, gloss=gloss, group=group, source_group=source_group)


def _compile(groups: str) -> re.Pattern[str]:
    try:
        pattern = re.compile(groups)
    except re.error as error:
        raise DataError(f"--group-regex: found {groups!r}, expected a regular expression ({error})") from error
    if pattern.groups == 0:
        raise DataError(f"--group-regex: found {groups!r}, expected a group in parentheses, such as '^(.+?)/'")
    return pattern
