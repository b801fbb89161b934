"""Labeled clips, data sets before and after reading, duplicates, and the union of presplit data sets."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from spoter.errors import DataError, InputError
from spoter.landmarks.clip import Clip
from spoter.landmarks.layouts import load_layout


@dataclass(frozen=True)
class LabelledClip:
    """A clip with the gloss of its sign."""

    clip: Clip
    gloss: str
    group: str  # camera, signer or session of the recording; the clip's name where the data set has no groups
    name: str  # in the data set
    source_group: str = ""  # the group in the data, regardless of --group-regex; empty without one


@dataclass(frozen=True)
class Skipped:
    """A skipped clip: its place in the data set, and the reason."""

    place: str
    reason: str

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


@dataclass(frozen=True)
class UnreadClip:
    """A clip that a reader has located and not yet read."""

    place: str  # for errors: "signs.hdf5, group 7"
    load: Callable[[], LabelledClip]  # reads it; raises `DataError` or `InputError` for a bad clip


@dataclass(frozen=True)
class UnreadDataSet:
    """The clips that a reader has located, and the gloss of each label if meaning.json names the glosses."""

    clips: Iterable[UnreadClip]
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class DataSet:
    """Labeled clips, read and checked."""

    clips: list[LabelledClip]  # ordered by name
    skipped: list[Skipped]  # bad clips that `skip_bad` skipped
    sources: tuple[Path, ...]  # files and folders that were read
    # False: each clip is its own group, and a split by group cannot keep the clips of one signer together.
    grouped: bool
    estimator: str  # of the landmarks; "mediapipe" if the data do not name one
    labels: dict[str, str] = field(default_factory=dict)  # as in `UnreadDataSet`

    @property
    def place(self) -> str:
        """The files and folders that were read, for error messages."""
        return ", ".join(map(str, self.sources))

    @cached_property
    def glosses(self) -> tuple[str, ...]:
        """All glosses, sorted, in the order of label indices."""
        return tuple(sorted({clip.gloss for clip in self.clips}))

    def digest(self) -> str:
        """Return the SHA-256 of the clips' names, glosses, groups and points; the file format has no effect."""
        digest = hashlib.sha256()
        for clip in self.clips:
            for text in (clip.name, clip.gloss, clip.group, *clip.clip.names):
                digest.update(len(text.encode()).to_bytes(4, "little") + text.encode())
            digest.update(len(clip.clip).to_bytes(4, "little"))
            # NaN has many bit patterns and 0 has two; map each to one.
            digest.update((np.nan_to_num(clip.clip.points, nan=1e9) + 0).astype("<f4").tobytes())
        return digest.hexdigest()


def fingerprint(member: LabelledClip) -> bytes:
    """Return a digest of a clip's points that is independent of neck, face and rounding.

    It covers the points of layout 29, which all estimators and built-in layouts have, rounded to four decimals. Raises
    `DataError` for a clip that lacks one of these points.
    """
    try:
        points = load_layout("29").select(member.clip)
    except InputError as error:
        raise DataError(f"{member.name}: {error}") from None
    return hashlib.sha256((np.nan_to_num(points, nan=1e9).round(4) + 0).tobytes()).digest()


def find_duplicates(clips: Iterable[LabelledClip]) -> list[list[LabelledClip]]:
    """Return the sets of clips with equal points (`fingerprint`), each in the order of `clips`."""
    same: dict[bytes, list[LabelledClip]] = {}
    for clip in clips:
        same.setdefault(fingerprint(clip), []).append(clip)
    return [members for members in same.values() if len(members) > 1]


def drop_duplicates(clips: Iterable[LabelledClip]) -> tuple[list[LabelledClip], list[Skipped]]:
    """Return the clips without duplicates (the first of clips with equal points stays), and the dropped clips."""
    clips, dropped = list(clips), {}
    for first, *others in find_duplicates(clips):
        reason = f"holds the same points as {first.name} ({first.gloss})"
        dropped.update({id(other): Skipped(f"{other.name} ({other.gloss})", reason) for other in others})
    return [clip for clip in clips if id(clip) not in dropped], list(dropped.values())


def merge_presplit(
    train: DataSet, validation: DataSet | None = None, test: DataSet | None = None, *, skip_bad: bool = False
) -> tuple[DataSet, tuple[str, ...], tuple[str, ...]]:
    """Merge data sets that are already split into subsets; `split_groups` draws the subsets that are None.

    `skip_bad` skips clips of a gloss that `train` lacks, and clips with the points of a clip in an earlier data set.
    Without it, a gloss that `train` lacks is an error here, and duplicates are an error in `check_split`.

    Returns all clips, and the groups of the validation and test subsets, for `split_groups`; empty for a subset that is
    None. Raises `DataError` for a group in two subsets, label maps or estimators that disagree, a gloss that `train`
    lacks, naming the files and a clip, and a subset whose clips are all skipped.
    """
    subsets = [subset for subset in (train, validation, test) if subset is not None]
    for number, other in enumerate(subsets):
        for first in subsets[:number]:
            _check_groups(first, other)
        _check_labels(train, other)
    clips, skipped = [], [skip for subset in subsets for skip in subset.skipped]
    for subset in subsets:
        for clip in subset.clips:
            if clip.gloss in train.glosses:
                clips.append(clip)
                continue
            reason = f"found gloss {clip.gloss}, expected one of the {len(train.glosses)} in {train.place}"
            skipped.append(Skipped(f"{subset.place}, clip {clip.name}", reason))
            if not skip_bad:
                raise DataError(str(skipped[-1]))
    if skip_bad:
        clips, copies = drop_duplicates(clips)
        skipped += copies
    groups = {clip.group for clip in clips}
    for subset in subsets:
        if groups.isdisjoint(clip.group for clip in subset.clips):  # split_groups would draw it from training instead
            problem = f"{subset.place}: all {len(subset.clips)} clips are skipped: they are duplicates, or of glosses"
            raise DataError(f"{problem} that {train.place} lacks; expected at least one usable clip")
    data = DataSet(
        sorted(clips, key=lambda clip: clip.name),
        skipped,
        tuple(source for subset in subsets for source in subset.sources),
        any(subset.grouped for subset in subsets),
        train.estimator,
        {label: gloss for subset in subsets for label, gloss in subset.labels.items()},
    )
    validation_groups, test_groups = (
        tuple(sorted(groups & {clip.group for clip in subset.clips})) if subset is not None else ()
        for subset in (validation, test)
    )
    return data, validation_groups, test_groups


def _check_groups(first: DataSet, other: DataSet) -> None:
    groups = {clip.group: clip.name for clip in first.clips}
    for clip in other.clips:
        if clip.group in groups:
            members = f"{groups[clip.group]} in {first.place} and {clip.name} in {other.place}"
            fix = "move the clips into one file, or define other groups with --group-regex"
            raise DataError(f"group {clip.group} is in two files: {members}; {fix}")


def _check_labels(train: DataSet, other: DataSet) -> None:
    if other.estimator != train.estimator:
        problem = f"{other.place}: found landmarks of {other.estimator}"
        raise DataError(f"{problem}, expected landmarks of {train.estimator}, as in {train.place}")
    for label, gloss in other.labels.items():
        if train.labels.get(label, gloss) != gloss:
            problem = f"label {label} is {gloss} in {other.place} but {train.labels[label]} in {train.place}"
            raise DataError(f"{problem}: their meaning.json files disagree")
