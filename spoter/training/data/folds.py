"""Folds of whole groups for cross-validation of a recipe."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from spoter.errors import DataError
from spoter.training.data.labelled import LabelledClip, find_duplicates
from spoter.training.data.split import describe_duplicates


def split_into_folds(clips: Sequence[LabelledClip], count: int, seed: int = 0) -> list[tuple[str, ...]]:
    """Return `count` folds of whole groups of about equal size: the largest group first, each to the smallest fold.

    Raises `DataError` for fewer groups than folds, clips with equal points in two folds, and a fold that has all clips
    of a gloss.
    """
    size = Counter(clip.group for clip in clips)
    if not 2 <= count <= len(size):
        raise DataError(f"found {count} folds for {len(size)} groups, expected 2 to {len(size)} folds")
    shuffled = np.random.default_rng(seed).permutation(sorted(size)).tolist()
    fold_of: dict[str, int] = {}
    totals = [0] * count
    for group in sorted(shuffled, key=lambda group: size[group], reverse=True):
        fold_of[group] = totals.index(min(totals))
        totals[fold_of[group]] += size[group]
    for first, *others in find_duplicates(clips):
        for other in others:
            if fold_of[first.group] != fold_of[other.group]:
                places = (f"{clip.name} (fold {fold_of[clip.group] + 1})" for clip in (first, other))
                raise DataError(describe_duplicates(*places))
    for fold in range(count):
        lacking = {clip.gloss for clip in clips} - {clip.gloss for clip in clips if fold_of[clip.group] != fold}
        if lacking:
            raise DataError(f"fold {fold + 1} has all clips of {', '.join(sorted(lacking))}: change --folds or --seed")
    return [tuple(sorted(group for group in fold_of if fold_of[group] == fold)) for fold in range(count)]
