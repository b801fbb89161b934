"""Splitting a data set by whole groups, so that what is tested on was recorded by no camera that was trained on.

The draw is stratified by gloss: each side shall show each gloss in the share that was asked for, as far as whole groups
allow. Groups are dealt one by one to the side that wants their glosses most, in the manner of Sechidis, Tsoumakas and
Vlahavas, "On the Stratification of Multi-Label Data", ECML PKDD 2011, in many random orders, of which the best is kept.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from spoter.errors import DataError
from spoter.training.datasets.labelled import DataSet, LabelledClip, Skipped, duplicates, fingerprint

SIDES = ("train", "validation", "test")
SPLIT = "split.json"  # in the model folder
# Orders that are tried: as many as take about a second, and some even of the largest data sets.
_MOST_DRAWS, _FEWEST_DRAWS, _STEPS = 2000, 8, 40_000


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
    """Split by whole groups, stratified by gloss.

    Groups that are named are taken. Otherwise sides are drawn at random from `seed` alone; of those draws in which each
    side shows every gloss, the one is taken that comes nearest to the shares asked for, in each gloss. No result of any
    model takes part. Where each clip is a group of its own, this is a split by clip.

    Parameters
    ----------
    clips : sequence of LabelledClip
    validation, test : float
        Shares of the clips of each gloss.
    validation_groups, test_groups : sequence of str
        Groups of these sides by name, instead of shares.
    seed : int

    Raises
    ------
    DataError
        For unknown group names, groups on two sides, byte-identical clips on two sides, glosses that training would
        not see, glosses of too few clips or groups to be on each side, and where no draw shows every gloss on each
        side.
    """
    groups = sorted({clip.group for clip in clips})
    for name in (*validation_groups, *test_groups):
        if name not in groups:
            raise DataError(f"found no group {name!r} in the data, expected one of {', '.join(groups[:20])}")
    if not 0 < validation < 1 or not 0 < test < 1 or validation + test >= 1:
        raise DataError(
            f"found shares {validation} for validation and {test} for testing, expected each above 0 and a sum below 1"
        )
    glosses = sorted({clip.gloss for clip in clips})
    row = {group: i for i, group in enumerate(groups)}
    column = {gloss: i for i, gloss in enumerate(glosses)}
    count = np.zeros((len(groups), len(glosses)), dtype=np.int64)
    np.add.at(count, ([row[clip.group] for clip in clips], [column[clip.gloss] for clip in clips]), 1)

    named = {1: [row[name] for name in validation_groups], 2: [row[name] for name in test_groups]}
    side = np.zeros(len(groups), dtype=np.int64)
    for number, members in named.items():
        side[members] = number
    drawn = {number: share for number, share in {1: validation, 2: test}.items() if not named[number]}
    if drawn:
        loose = side == 0
        taken = {*validation_groups, *test_groups}
        _check_enough([clip for clip in clips if clip.group not in taken], glosses, 1 + len(drawn))
        # What named sides hold is no longer training's.
        shares = np.array([1 - sum(drawn.values()), *drawn.values()])
        wanted = shares[:, None] * count.sum(axis=0)
        wanted[0] = np.maximum(count[loose].sum(axis=0) - wanted[1:].sum(axis=0), 0.5)
        side[loose] = np.array([0, *drawn])[_draw(count[loose], wanted, np.random.default_rng(seed))]
    split = Split(*(tuple(group for group, at in zip(groups, side, strict=True) if at == i) for i in range(3)))
    if validation_groups and test_groups:
        split = Split(split.train, tuple(sorted(set(validation_groups))), tuple(sorted(set(test_groups))))
    check_split(clips, split)
    return split


def leave_out_rare(data: DataSet, validation_groups: Sequence[str] = (), test_groups: Sequence[str] = ()) -> DataSet:
    """Leave out the clips of glosses that `split_groups` would refuse as too rare: what ``--skip-bad`` means there.

    Parameters
    ----------
    data : DataSet
    validation_groups, test_groups : sequence of str
        As for `split_groups`.

    Returns
    -------
    DataSet
        With those clips in `skipped`.
    """
    named = {*validation_groups, *test_groups}
    sides = len(SIDES) - bool(validation_groups) - bool(test_groups)
    loose = [clip for clip in data.clips if clip.group not in named]
    enough = {clip.gloss for clip in loose} - set(rare_glosses(loose, sides))
    skipped = [
        Skipped(
            f"{clip.name} ({clip.gloss})", f"its gloss is in too few groups, expected at least {sides} to draw from"
        )
        for clip in data.clips
        if clip.gloss not in enough
    ]
    kept = [clip for clip in data.clips if clip.gloss in enough]
    return replace(data, clips=kept, skipped=[*data.skipped, *skipped])


def rare_glosses(clips: Iterable[LabelledClip], sides: int = len(SIDES)) -> dict[str, int]:
    """Return the glosses that are in fewer groups than there are sides, with their numbers of groups."""
    groups: dict[str, set[str]] = {}
    for clip in clips:
        groups.setdefault(clip.gloss, set()).add(clip.group)
    return {gloss: len(members) for gloss, members in sorted(groups.items()) if len(members) < sides}


def _check_enough(clips: Sequence[LabelledClip], glosses: Sequence[str], sides: int) -> None:
    """Raise `DataError` naming the glosses that are in too few groups to be on each of `sides` sides."""
    groups = {clip.group for clip in clips}
    if len(groups) < sides:
        raise DataError(
            f"found no way to split {len(groups)} groups into {sides} sides: name groups yourself, or record more"
        )
    rare = dict.fromkeys(set(glosses) - {clip.gloss for clip in clips}, 0) | rare_glosses(clips, sides)
    if rare:
        listed = []
        for gloss in sorted(rare)[:10]:
            members = [clip for clip in clips if clip.gloss == gloss]
            example = f", {members[0].name}" if members else ""
            listed.append(f"{gloss} (groups: {rare[gloss]}, clips: {len(members)}{example})")
        more = f" and {len(rare) - 10} more" if len(rare) > 10 else ""
        raise DataError(
            f"found no way to split {len(groups)} groups so that every gloss is on each of {sides} sides, for which it "
            f"must be in at least {sides} groups. Too rare: {', '.join(listed)}{more}. Record more of them, or leave "
            "them out with --skip-bad"
        )


def _draw(count: np.ndarray, wanted: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a side for each group, of many draws that with the least miss.

    Parameters
    ----------
    count : numpy.ndarray, shape (groups, glosses), int
        Numbers of clips.
    wanted : numpy.ndarray, shape (sides, glosses), float
        Numbers of clips of each gloss that each side should have; above 0.
    """
    best, least = None, np.inf
    for _ in range(int(np.clip(_STEPS // len(count), _FEWEST_DRAWS, _MOST_DRAWS))):
        side = _deal(count, wanted, rng.permutation(len(count)))
        if not _complete(side, count, len(wanted)):
            continue
        have = np.stack([count[side == number].sum(axis=0) for number in range(len(wanted))])
        miss = ((have - wanted) ** 2 / wanted).sum()
        if miss < least:
            best, least = side, miss
    if best is None:
        raise DataError(
            f"found no way to split {len(count)} groups so that every gloss is on each side: name groups yourself, "
            "or record more"
        )
    return best


def _deal(count: np.ndarray, wanted: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Give each group in turn to the side where the miss, a chi-squared, falls the most or rises the least."""
    side = np.zeros(len(count), dtype=np.int64)
    lack = wanted.copy()
    for group in order:
        # ((lack - count)^2 - lack^2) / wanted, summed over glosses
        change = ((count[group] * (count[group] - 2 * lack)) / wanted).sum(axis=1)
        side[group] = change.argmin()
        lack[side[group]] -= count[group]
    return side


def _complete(side: np.ndarray, count: np.ndarray, sides: int) -> bool:
    """Move groups (in `side`, in place) to sides that lack a gloss; tell whether each side then shows every gloss."""
    for number in range(sides):
        while True:
            have = np.stack([count[side == i].sum(axis=0) for i in range(sides)])
            lacking = np.flatnonzero(have[number] == 0)
            if len(lacking) == 0:
                break
            # A group that its own side can spare: each of its glosses is there in other groups too.
            spare = ((have[side] > count) | (count == 0)).all(axis=1) & (side != number) & (count[:, lacking[0]] > 0)
            if not spare.any():
                return False
            able = np.flatnonzero(spare)
            side[able[count[able].sum(axis=1).argmin()]] = number
    return True


def check_split(clips: Sequence[LabelledClip], split: Split) -> None:
    """Raise `DataError` where a split leaks, or leaves training without a gloss that is tested, or a side empty."""
    sides = {side: split.select(clips, side) for side in SIDES}
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
            other, name = content_side.setdefault(fingerprint(member), (side, member.name))
            if other != side:
                raise DataError(_leak(f"{name} ({other})", f"{member.name} ({side})"))
    unseen = sorted({clip.gloss for clip in clips} - {clip.gloss for clip in sides["train"]})
    if unseen:
        raise DataError(f"training would never see {', '.join(unseen)}: leave another group out")


def _leak(first: str, other: str) -> str:
    return (
        f"{first} and {other} hold the very same points: --skip-bad leaves out all but the first of such clips, or "
        "--group-regex puts them in one group"
    )


def read_split(path: Path) -> tuple[Split, int]:
    """Return the split and the seed that a training run wrote down in split.json.

    Raises
    ------
    DataError
        Where the file cannot be read, or does not hold ``{"seed": …, "train": {"groups": […]}, …}``.
    """
    try:
        content = json.loads(Path(path).read_bytes())
        sides = [content[side]["groups"] for side in SIDES]
        seed = content["seed"]
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: found no split, expected a seed and the groups of {', '.join(SIDES)}") from error
    if not isinstance(seed, int) or not all(
        isinstance(groups, list) and all(isinstance(group, str) for group in groups) for groups in sides
    ):
        raise DataError(f"{path}: found a seed or groups of another type, expected a number and lists of names")
    return Split(*map(tuple, sides)), seed


def folds(clips: Sequence[LabelledClip], count: int, seed: int = 0) -> list[tuple[str, ...]]:
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
                raise DataError(_leak(*places))
    for i in range(1, len(dealt) + 1):
        unseen = {clip.gloss for clip in clips} - {clip.gloss for clip in clips if number[clip.group] != i}
        if unseen:
            raise DataError(f"fold {i} leaves training without {', '.join(sorted(unseen))}: try other folds")
