"""Data sets that come split: files for training, validation and testing, as the original's …-Train and …-Val.hdf5."""

from __future__ import annotations

from spoter.errors import DataError
from spoter.training.data.labelled import DataSet, LabelledClip, Skipped
from spoter.training.data.reader import drop_duplicates


def merge_presplit(
    train: DataSet, validation: DataSet | None = None, test: DataSet | None = None, *, skip_bad: bool = False
) -> tuple[DataSet, tuple[str, ...], tuple[str, ...]]:
    """Make one data set of those of several sides.

    Parameters
    ----------
    train, validation, test : DataSet
        A side that is None is left to `spoter.training.data.split.split_groups`, which draws it from `train`'s groups.
    skip_bad : bool
        Leave out clips of a gloss that `train` lacks, and clips that hold the very same points as one of a side before
        theirs. Without it these are an error of `spoter.training.data.split.check_split`.

    Returns
    -------
    data : DataSet
        All clips.
    validation_groups, test_groups : tuple of str
        The groups of these sides, for `split_groups`; empty for a side that is None.

    Raises
    ------
    DataError
        For a group on two sides, for label maps or estimators that disagree, for a gloss that `train` lacks, naming the
        files and a clip, and for a side none of whose clips `skip_bad` leaves.
    """
    sides = [side for side in (train, validation, test) if side is not None]
    for number, other in enumerate(sides):
        for first in sides[:number]:
            _check_apart(first, other)
        _check_fits(train, other)
    clips = [clip for side in sides for clip in side.clips]
    skipped = [skip for side in sides for skip in side.skipped]
    unknown = {id(clip): _unknown(train, side, clip) for side in sides for clip in side.clips}
    unknown = {key: skip for key, skip in unknown.items() if skip is not None}
    if unknown and not skip_bad:
        first = next(iter(unknown.values()))
        raise DataError(f"{first.place}: {first.reason}")
    if skip_bad:
        clips, twice = drop_duplicates([clip for clip in clips if id(clip) not in unknown])
        skipped += [*unknown.values(), *twice]
    data = DataSet(
        sorted(clips, key=lambda clip: clip.name),
        skipped,
        tuple(source for side in sides for source in side.sources),
        any(side.grouped for side in sides),
        train.estimator,
        {label: gloss for side in sides for label, gloss in side.labels.items()},
    )
    left = {clip.group for clip in clips}
    for side in sides:
        if left.isdisjoint(clip.group for clip in side.clips):  # drawn from training instead, it would be another side
            raise DataError(
                f"{_files(side)}: all {len(side.clips)} clips are skipped, as ones that files before it hold, or of "
                f"glosses that {_files(train)} lacks; expected at least one other"
            )
    validation_groups, test_groups = (
        tuple(sorted({clip.group for clip in side.clips} & left)) if side is not None else ()
        for side in (validation, test)
    )
    return data, validation_groups, test_groups


def _check_apart(first: DataSet, other: DataSet) -> None:
    groups = {clip.group: clip.name for clip in first.clips}
    for clip in other.clips:
        if clip.group in groups:
            raise DataError(
                f"group {clip.group} is in two files: {groups[clip.group]} in {_files(first)} and {clip.name} in "
                f"{_files(other)}; if that is no signer or camera, --group-regex tells groups otherwise"
            )


def _check_fits(train: DataSet, other: DataSet) -> None:
    if other.estimator != train.estimator:
        raise DataError(
            f"{_files(other)}: found landmarks of {other.estimator}, expected {train.estimator}'s as in {_files(train)}"
        )
    for label, gloss in other.labels.items():
        if train.labels.get(label, gloss) != gloss:
            raise DataError(
                f"label {label} is {gloss} in {_files(other)} but {train.labels[label]} in {_files(train)}: their "
                "meaning.json disagree"
            )


def _unknown(train: DataSet, side: DataSet, clip: LabelledClip) -> Skipped | None:
    if clip.gloss in train.glosses:
        return None
    reason = f"found gloss {clip.gloss}, expected one of the {len(train.glosses)} in {_files(train)}"
    return Skipped(f"{_files(side)}, clip {clip.name}", reason)


def _files(side: DataSet) -> str:
    return ", ".join(str(source) for source in side.sources)
