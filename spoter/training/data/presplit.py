"""Data sets that come split: files for training, validation and testing, as the original's …-Train and …-Val.hdf5."""

from __future__ import annotations

from spoter.errors import DataError
from spoter.training.data.labelled import DataSet, Skipped, drop_duplicates


def merge_presplit(
    train: DataSet, validation: DataSet | None = None, test: DataSet | None = None, *, skip_bad: bool = False
) -> tuple[DataSet, tuple[str, ...], tuple[str, ...]]:
    """Merge the data sets of several subsets; one that is None is left to `spoter.training.data.split.split_groups`.

    With `skip_bad`, clips of a gloss that `train` lacks, and clips with points that an earlier data set holds, are left
    out. Otherwise the former are an error here and the latter one of `spoter.training.data.split.check_split`.

    Returns all clips, and the groups of the validation and test subsets, for `split_groups`; empty for a subset that is
    None. Raises `DataError` for a group in two subsets, label maps or estimators that disagree, a gloss that `train`
    lacks, naming the files and a clip, and a subset all of whose clips are skipped.
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
    kept = {clip.group for clip in clips}
    for subset in subsets:
        if kept.isdisjoint(clip.group for clip in subset.clips):  # split_groups would draw it from training instead
            found = f"{subset.place}: all {len(subset.clips)} clips are skipped, as ones that files before it hold"
            raise DataError(f"{found}, or of glosses that {train.place} lacks; expected at least one other")
    data = DataSet(
        sorted(clips, key=lambda clip: clip.name),
        skipped,
        tuple(source for subset in subsets for source in subset.sources),
        any(subset.grouped for subset in subsets),
        train.estimator,
        {label: gloss for subset in subsets for label, gloss in subset.labels.items()},
    )
    validation_groups, test_groups = (
        tuple(sorted(kept & {clip.group for clip in subset.clips})) if subset is not None else ()
        for subset in (validation, test)
    )
    return data, validation_groups, test_groups


def _check_groups(first: DataSet, other: DataSet) -> None:
    groups = {clip.group: clip.name for clip in first.clips}
    for clip in other.clips:
        if clip.group in groups:
            raise DataError(
                f"group {clip.group} is in two files: {groups[clip.group]} in {first.place} and {clip.name} in "
                f"{other.place}; if that is no signer or camera, --group-regex tells groups otherwise"
            )


def _check_labels(train: DataSet, other: DataSet) -> None:
    if other.estimator != train.estimator:
        raise DataError(
            f"{other.place}: found landmarks of {other.estimator}, expected {train.estimator}'s as in {train.place}"
        )
    for label, gloss in other.labels.items():
        if train.labels.get(label, gloss) != gloss:
            raise DataError(
                f"label {label} is {gloss} in {other.place} but {train.labels[label]} in {train.place}: their "
                "meaning.json disagree"
            )
