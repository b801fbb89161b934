"""From a path to a `DataSet`, whatever form the data have: the checks that all forms share."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from spoter.errors import DataError, InputError
from spoter.formats import spoter_csv as points_csv
from spoter.formats.csv_table import read_table
from spoter.landmarks.layouts import load_layout
from spoter.progress import progress_bar
from spoter.training.data import connecting_points, folder, spoter_csv, table
from spoter.training.data.labelled import DataSet, LabelledClip, Skipped, UnreadClip, UnreadDataSet, duplicates

_FEWEST_FRAMES = 2
_LISTED = 10  # clips in an error
_FORMS = (
    "a ConnectingPoints .hdf5, a .csv of the SPOTER data sets or in the long form, a .parquet in the long form, a "
    "train.csv beside parquet files, or a folder GLOSS/clip.json"
)


def read_dataset(path: Path, *, skip_bad: bool = False, groups: str | None = None, progress: bool = False) -> DataSet:
    """Read a data set; docs/datasets.md shows the forms.

    Parameters
    ----------
    path : Path
        A file or a folder.
    skip_bad : bool
        Leave bad clips out, and all but the first of clips that hold the very same points; `DataSet.skipped` lists
        them.
    groups : str, optional
        Regular expression that is searched for in each clip's name; what its first group matches is the clip's group.
        Without one, or with an empty one, the groups are those that the data tell.
    progress : bool
        Whether to show progress on stderr.

    Raises
    ------
    DataError
        Where nothing can be read, and for the first bad clip unless `skip_bad`: one that its reader cannot read,
        without a gloss, of fewer than 2 frames, without a landmark of body or hands, without a group by `groups`, or of
        another estimator than most.
    """
    path, groups = Path(path), groups or None
    source = _source(path)
    good, skipped = _load(source.items, _pattern(groups), skip_bad, progress)
    good, foreign = _of_one_estimator(good, skip_bad)
    skipped += foreign
    if not good:
        skips = [f"; skipped: {skip}" for skip in skipped[:_LISTED]]
        skips += [f"; and {len(skipped) - _LISTED} more"] if len(skipped) > _LISTED else []
        raise DataError(f"{path}: found no clip that can be used, expected at least one{''.join(skips)}")
    clips = sorted((clip for _, clip in good), key=lambda clip: clip.name)
    if skip_bad:
        clips, twice = drop_duplicates(clips)
        skipped += twice
    if _owners_are_glosses(clips):
        clips = [replace(clip, group=clip.name if groups is None else clip.group, source_group="") for clip in clips]
    grouped = any(clip.group != clip.name for clip in clips)
    estimators = {clip.clip.estimator for clip in clips} - {None}
    return DataSet(clips, skipped, (path,), grouped, estimators.pop() if estimators else "mediapipe", source.labels)


def drop_duplicates(clips: Sequence[LabelledClip]) -> tuple[list[LabelledClip], list[Skipped]]:
    """Leave out all but the first of clips that hold the very same points."""
    dropped = {}
    for first, *others in duplicates(clips):
        for other in others:
            reason = f"holds the very same points as {first.name} ({first.gloss})"
            dropped[id(other)] = Skipped(f"{other.name} ({other.gloss})", reason)
    return [clip for clip in clips if id(clip) not in dropped], list(dropped.values())


def _source(path: Path) -> UnreadDataSet:
    """Choose the reader by what lies at `path`."""
    if path.is_dir():
        index = path / "train.csv"
        return _csv(index) if index.is_file() else folder.read(path)
    kind = path.suffix.lower()
    if not path.is_file():
        raise DataError(f"{path}: there is no such file or folder, expected {_FORMS}")
    if kind in (".hdf5", ".h5"):
        return connecting_points.read(path)
    if kind == ".parquet":
        return table.read_parquet(path)
    if kind == ".csv":
        return _csv(path)
    raise DataError(f"{path}: found {kind or 'no ending'}, expected {_FORMS}")


def _csv(path: Path) -> UnreadDataSet:
    try:
        rows = read_table(path.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    except InputError as error:
        raise DataError(f"{path}: {error}") from error
    if points_csv.recognizes(rows.columns):
        return spoter_csv.read(path, rows)
    if "landmark_index" in rows.columns:
        return table.read_csv(path, rows)
    if all(name in rows.columns for name in table.INDEX_COLUMNS):
        return table.read_index(path, rows)
    raise DataError(
        f"{path}: found the columns {', '.join(rows.columns[:6])}, expected those of the SPOTER data sets (nose_X, "
        f"nose_Y, …, labels), of the long form (clip, gloss, {', '.join(table.COLUMNS)}) or of a list of clips "
        f"({', '.join(table.INDEX_COLUMNS)})"
    )


_Placed = list[tuple[str, LabelledClip]]


def _load(
    items: Iterable[UnreadClip], pattern: re.Pattern | None, skip_bad: bool, progress: bool
) -> tuple[_Placed, list[Skipped]]:
    good: _Placed = []
    skipped: list[Skipped] = []
    for item in progress_bar(items, shown=progress, desc="reading", unit="clip"):
        place = _printable(item.place)
        try:
            good.append((place, _checked(item.load(), pattern)))
        except (InputError, DataError) as error:
            if not skip_bad:
                raise DataError(f"{place}: {error}") from error
            skipped.append(Skipped(place, _printable(str(error))))
    return good, skipped


def _printable(text: str) -> str:
    """Return text that can be written as UTF-8: in names of files, Python keeps bytes that are not as half characters.

    They come out as ``\\udce9``.
    """
    return text.encode(errors="backslashreplace").decode()


def _checked(clip: LabelledClip, pattern: re.Pattern | None) -> LabelledClip:
    gloss, group = clip.gloss.strip(), clip.group.strip()
    source_group = "" if group == clip.name else group
    if not gloss:
        raise DataError(f"found an empty gloss for {clip.name}, expected a word")
    if len(clip.clip) < _FEWEST_FRAMES:
        raise DataError(f"found {len(clip.clip)} frame in {clip.name}, expected at least {_FEWEST_FRAMES}")
    if np.isnan(load_layout("29").select(clip.clip)).all():  # a face alone signs nothing
        raise DataError(f"found no landmark of body or hands in any of {clip.name}'s frames, expected a person")
    if pattern is not None:
        match = pattern.search(clip.name)
        group = (match[1] or "").strip() if match else ""
        if not group:
            raise DataError(
                f"found no group by {pattern.pattern!r} in the name {clip.name!r}: change --group-regex; an empty one "
                "leaves the groups to the data"
            )
    if not group:
        raise DataError(f"found an empty group for {clip.name}, expected a word")
    for what, text in (("gloss", gloss), ("group", group), ("name", clip.name)):
        if _printable(text) != text:
            raise DataError(f"found the {what} {text!r}, which is not UTF-8: rename it")
    return replace(clip, gloss=gloss, group=group, source_group=source_group)


def _pattern(groups: str | None) -> re.Pattern | None:
    if groups is None:
        return None
    try:
        pattern = re.compile(groups)
    except re.error as error:
        raise DataError(f"--group-regex: found {groups!r}, expected a regular expression ({error})") from error
    if pattern.groups == 0:
        raise DataError(f"--group-regex: found {groups!r}, expected a part in brackets, such as '^(.+?)/'")
    return pattern


def _of_one_estimator(good: _Placed, skip_bad: bool) -> tuple[_Placed, list[Skipped]]:
    """Leave out, or refuse, clips that say they are of another estimator than most."""
    count = Counter(clip.clip.estimator for _, clip in good if clip.clip.estimator is not None)
    if len(count) < 2:
        return good, []
    most = min(count, key=lambda name: (-count[name], name))
    kept, skipped = [], []
    for place, clip in good:
        if clip.clip.estimator in (most, None):
            kept.append((place, clip))
            continue
        reason = f"found landmarks of {clip.clip.estimator}, expected those of {most}, as most clips have"
        if not skip_bad:
            raise DataError(f"{place}: {reason}")
        skipped.append(Skipped(place, reason))
    return kept, skipped


def _owners_are_glosses(clips: Sequence[LabelledClip]) -> bool:
    """Tell whether what looks like a group is but the gloss again, as in ``hello/3``: it says nothing then."""
    return all(clip.source_group.casefold() == clip.gloss.casefold() for clip in clips)
