"""Folds of whole groups, by which a recipe is tried on other groups than those of the test side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from spoter.errors import DataError
from spoter.training.data.labelled import LabelledClip, duplicates
from spoter.training.data.split import describe_duplicates


def split_into_folds(clips: Sequence[LabelledClip], count: int, seed: int = 0) -> list[tuple[str, ...]]:
    """Deal whole groups into `count` folds of about equal size: the largest first, each to the smallest fold.

    Raises
    ------
    DataError
        Where there are fewer groups than folds, for identical clips in two folds, and for a fold that leaves the others
        without a gloss.
    """
    size = Counter(clip.group for clip in clips)
    groups = sorted(size)
    if not 2 <= count <= len(groups):
        raise DataError(f"found {count} folds for {len(groups)} groups, expected 2 to {len(groups)}")
    shuffled = np.random.default_rng(seed).permutation(groups)
    dealt: list[list[str]] = [[] for _ in range(count)]
    total = [0] * count
    for group in sorted(shuffled.tolist(), key=size.get, reverse=True):
        smallest = total.index(min(total))
        dealt[smallest].append(group)
        total[smallest] += size[group]
    _check_folds(clips, dealt)
    return [tuple(sorted(fold)) for fold in dealt]


def _check_folds(clips: Sequence[LabelledClip], dealt: Sequence[Sequence[str]]) -> None:
    number = {group: i for i, fold in enumerate(dealt, start=1) for group in fold}
    for first, *others in duplicates(clips):
        for other in others:
            if number[first.group] != number[other.group]:
                places = (f"{clip.name} (fold {number[clip.group]})" for clip in (first, other))
                raise DataError(describe_duplicates(*places))
    for i in range(1, len(dealt) + 1):
        unseen = {clip.gloss for clip in clips} - {clip.gloss for clip in clips if number[clip.group] != i}
        if unseen:
            raise DataError(f"fold {i} leaves training without {', '.join(sorted(unseen))}: try other folds")
