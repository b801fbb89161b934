"""Splitting a data set by whole groups, so that what is tested on was recorded by no camera that was trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from spoter.errors import DataError
from spoter.estimators import MEDIAPIPE
from spoter.training.datasets import LabelledClip

_DRAWS = 2000


@dataclass(frozen=True)
class Split:
    """Names of the groups on each side, sorted."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]

    def select(self, clips: Iterable[LabelledClip], side: str) -> list[LabelledClip]:
        """Return the clips of one side: ``train``, ``validation`` or ``test``."""
        groups = set(getattr(self, side))
        return [clip for clip in clips if clip.group in groups]


def split_groups(
    clips: Sequence[LabelledClip],
    validation: float = 0.15,
    test: float = 0.15,
    validation_groups: Sequence[str] = (),
    test_groups: Sequence[str] = (),
    seed: int = 0,
) -> Split:
    """Split by whole groups.

    Groups that are named are taken. Otherwise sides are drawn at random from `seed` alone; of those draws in which each
    side shows every gloss, the one whose sizes come nearest to the shares asked for is taken. No result of any model
    takes part.

    Parameters
    ----------
    clips : sequence of LabelledClip
    validation, test : float
        Shares of the clips.
    validation_groups, test_groups : sequence of str
        Groups of these sides by name, instead of shares.
    seed : int

    Raises
    ------
    DataError
        For unknown group names, groups on two sides, byte-identical clips on two sides, glosses that training would
        not see, and where no draw shows every gloss on each side.
    """
    groups = sorted({clip.group for clip in clips})
    for name in (*validation_groups, *test_groups):
        if name not in groups:
            raise DataError(f"found no group {name!r} in the data, expected one of {', '.join(groups[:20])}")
    if not 0 < validation < 1 or not 0 < test < 1 or validation + test >= 1:
        raise DataError(f"found shares {validation} for validation and {test} for testing, expected a sum below 1")
    glosses = sorted({clip.gloss for clip in clips})
    count = np.zeros((len(groups), len(glosses)), dtype=np.int64)
    for clip in clips:
        count[groups.index(clip.group), glosses.index(clip.gloss)] += 1
    named = {1: [groups.index(name) for name in validation_groups], 2: [groups.index(name) for name in test_groups]}
    side = _draw(count, {1: validation, 2: test}, named, np.random.default_rng(seed))
    split = Split(*(tuple(group for group, at in zip(groups, side, strict=True) if at == i) for i in range(3)))
    if validation_groups and test_groups:
        split = Split(split.train, tuple(sorted(set(validation_groups))), tuple(sorted(set(test_groups))))
    check_split(clips, split)
    return split


def _draw(
    count: np.ndarray, shares: dict[int, float], named: dict[int, list[int]], rng: np.random.Generator
) -> np.ndarray:
    """Return each group's side: 0 train, 1 validation, 2 test; `count` (groups, glosses) holds numbers of clips."""
    fixed = np.zeros(len(count), dtype=np.int64)
    for number, members in named.items():
        fixed[members] = number
    free = [number for number in shares if not named[number]]
    if not free:
        return fixed
    best, best_miss = None, np.inf
    open_groups = np.flatnonzero(fixed == 0)
    for draw in range(2 * _DRAWS):
        if draw == _DRAWS and best is not None:
            break
        side = fixed.copy()
        order = rng.permutation(open_groups)
        for number in free:
            wanted = shares[number] * count.sum()
            taken = 0
            for group in order:
                fits = taken + count[group].sum() <= wanted * 1.2
                # Of few or large groups none may fit: in a second round a side takes its first whatever its size.
                if side[group] == 0 and (fits or (draw >= _DRAWS and taken == 0)):
                    side[group] = number
                    taken += count[group].sum()
        sums = np.stack([count[side == number].sum(axis=0) for number in (0, *free)])
        miss = sum(abs(sums[1 + i].sum() - shares[number] * count.sum()) for i, number in enumerate(free))
        if (sums > 0).all() and miss < best_miss:
            best, best_miss = side, miss
    if best is None:
        raise DataError(
            f"found no way to split {len(count)} groups so that every gloss is on each side: name groups yourself, "
            "or record more"
        )
    return best


def check_split(clips: Sequence[LabelledClip], split: Split) -> None:
    """Raise `DataError` where a split leaks, or leaves training without a gloss that is tested, or a side empty."""
    sides = {side: split.select(clips, side) for side in ("train", "validation", "test")}
    group_side: dict[str, str] = {}
    content_side: dict[bytes, tuple[str, str]] = {}
    for side in sides:
        for group in getattr(split, side):
            if group_side.setdefault(group, side) != side:
                raise DataError(f"group {group} is on two sides of the split, {group_side[group]} and {side}")
    for side, members in sides.items():
        if not members:
            raise DataError(f"found no clip for {side}, expected at least one group of clips")
        for member in members:
            content = _fingerprint(member)
            other, name = content_side.setdefault(content, (side, member.name))
            if other != side:
                raise DataError(f"{name} ({other}) and {member.name} ({side}) hold the very same points")
    unseen = sorted({clip.gloss for clip in clips} - {clip.gloss for clip in sides["train"]})
    if unseen:
        raise DataError(f"training would never see {', '.join(unseen)}: leave another group out")


def _fingerprint(member: LabelledClip) -> bytes:
    """Return a digest of a clip's pose and hands: the same with or without a neck, a face, or another rounding."""
    parts = [member.clip.points[:, MEDIAPIPE.part(part)] for part in ("pose", "left_hand", "right_hand")]
    return hashlib.sha256(np.nan_to_num(np.concatenate(parts, axis=1)).round(4).tobytes()).digest()


def folds(clips: Sequence[LabelledClip], count: int, seed: int = 0) -> list[tuple[str, ...]]:
    """Deal whole groups into `count` folds of about equal size: the largest first, each to the smallest fold.

    Raises
    ------
    DataError
        Where there are fewer groups than folds.
    """
    groups = sorted({clip.group for clip in clips})
    if not 2 <= count <= len(groups):
        raise DataError(f"found {count} folds for {len(groups)} groups, expected 2 to {len(groups)}")
    size = {group: sum(clip.group == group for clip in clips) for group in groups}
    shuffled = np.random.default_rng(seed).permutation(groups)
    dealt: list[list[str]] = [[] for _ in range(count)]
    for group in sorted(shuffled.tolist(), key=size.get, reverse=True):
        min(dealt, key=lambda fold: sum(size[member] for member in fold)).append(group)
    return [tuple(sorted(fold)) for fold in dealt]
