"""Splitting a data set by whole groups, so that what is tested on was recorded by no camera that was trained on.

The draw is stratified by gloss: each side shall show each gloss in the share that was asked for, as far as whole groups
allow. Groups are dealt one by one to the side that wants their glosses most, in the manner of Sechidis, Tsoumakas and
Vlahavas, "On the Stratification of Multi-Label Data", ECML PKDD 2011, in many random orders, of which the best is kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

import numpy as np

from spoter.errors import DataError
from spoter.training.data.labelled import DataSet, LabelledClip, Skipped, fingerprint

SUBSETS = ("train", "validation", "test")
# Orders that are tried: as many as take about a second, and some even of the largest data sets.
_MOST_DRAWS, _FEWEST_DRAWS, _STEPS = 2000, 8, 40_000
WAYS_OUT = (
    "Record more; tell finer groups with --group-regex '(…)'; name the groups of a side with --test-groups NAME,… or "
    "--val-groups NAME,…; or draw validation clips from the training groups with --validation-by-clip"
)


@dataclass(frozen=True)
class Split:
    """Names of the groups on each side, sorted.

    Attributes
    ----------
    train, validation, test : tuple of str
    validation_clips : tuple of str
        Names of the validation clips where they are drawn clip by clip from training groups; empty where validation
        has groups of its own.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    validation_clips: tuple[str, ...] = ()

    def select(self, clips: Iterable[LabelledClip], side: str) -> list[LabelledClip]:
        """Return the clips of one side: ``train``, ``validation`` or ``test``."""
        groups, drawn = set(getattr(self, side)), set(self.validation_clips)
        members = [clip for clip in clips if clip.group in groups]
        if not drawn or side == "test":
            return members
        return [clip for clip in members if (clip.name in drawn) == (side == "validation")]


def split_groups(
    clips: Sequence[LabelledClip],
    validation: float = 0.15,
    test: float | None = 0.15,
    validation_groups: Sequence[str] = (),
    test_groups: Sequence[str] = (),
    seed: int = 0,
    by_clip: bool = False,
) -> Split:
    """Split by whole groups, stratified by gloss.

    Groups that are named are taken. Otherwise sides are drawn at random from `seed` alone; of those draws in which each
    side shows every gloss, the one is taken that comes nearest to the shares asked for, in each gloss. No result of any
    model takes part. Where each clip is a group of its own, this is a split by clip.

    Parameters
    ----------
    clips : sequence of LabelledClip
    validation, test : float
        Shares of the clips of each gloss. `test` may be None: no test side is drawn.
    validation_groups, test_groups : sequence of str
        Groups of these sides by name or pattern (`match_groups`), instead of shares.
    seed : int
    by_clip : bool
        Draw `validation` clip by clip from the training groups, as a share of their clips.

    Raises
    ------
    DataError
        For names and patterns that match no group, groups on two sides, byte-identical clips on two sides, glosses
        that training would not see, glosses of too few clips or groups to be on each side, and where no draw shows
        every gloss on each side.
    """
    groups = sorted({clip.group for clip in clips})
    validation_groups = match_groups(validation_groups, groups, "--val-groups")
    test_groups = match_groups(test_groups, groups, "--test-groups")
    if by_clip and validation_groups:
        raise DataError("found --val-groups and --validation-by-clip, expected one of them")
    if not 0 < validation < 1 or (test is not None and not 0 < test < 1) or validation + (test or 0) >= 1:
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
    shares = {1: None if by_clip else validation, 2: test}
    drawn = {number: share for number, share in shares.items() if share is not None and not named[number]}
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
        split = replace(split, validation=validation_groups, test=test_groups)
    if by_clip:
        split = _draw_clips(clips, split, validation, seed)
    check_split(clips, split, SUBSETS if test is not None or test_groups else SUBSETS[:2])
    return split


def match_groups(patterns: Sequence[str], groups: Iterable[str], option: str) -> tuple[str, ...]:
    """Return the groups that are named, sorted: by name, or by a shell pattern such as ``anna/*``.

    Raises
    ------
    DataError
        For a pattern that matches no group, naming `option` and the groups.
    """
    known, matched = sorted(set(groups)), set()
    for pattern in patterns:
        # A group's own name goes first: it may hold a character that means something in patterns.
        members = [pattern] if pattern in known else [group for group in known if fnmatchcase(group, pattern)]
        if not members:
            raise DataError(
                f"{option}: found no group {pattern!r} in the data, expected names or patterns such as 'anna*' of "
                f"{_some(known)}"
            )
        matched.update(members)
    return tuple(sorted(matched))


def _draw_clips(clips: Sequence[LabelledClip], split: Split, share: float, seed: int) -> Split:
    """Draw validation clips from the training groups, as if each clip were a group of its own."""
    inside = [replace(clip, group=clip.name) for clip in split.select(clips, "train")]
    if not inside:
        raise DataError("found no clip outside the test groups, expected clips to train and to validate on")
    if rare := find_rare_glosses(inside, 2):
        raise DataError(
            f"--validation-by-clip: found one clip of {_some(list(rare))} outside the test groups, expected at least 2 "
            "of each gloss, to train and to validate on; --skip-bad leaves glosses of one clip out"
        )
    drawn = split_groups(inside, share, None, seed=seed).validation
    groups = {clip.group for clip in split.select(clips, "train") if clip.name in set(drawn)}
    return replace(split, validation=tuple(sorted(groups)), validation_clips=drawn)


def drop_rare_glosses(
    data: DataSet,
    test: float | None = 0.15,
    validation_groups: Sequence[str] = (),
    test_groups: Sequence[str] = (),
    by_clip: bool = False,
) -> DataSet:
    """Leave out the clips of glosses that `split_groups` would refuse as too rare: what ``--skip-bad`` means there.

    Where there are fewer groups than sides nothing is left out: `split_groups` says what is wrong.

    Parameters
    ----------
    data : DataSet
    test, validation_groups, test_groups, by_clip
        As for `split_groups`.

    Returns
    -------
    DataSet
        With those clips in `skipped`.
    """
    groups = {clip.group for clip in data.clips}
    named = {
        *match_groups(validation_groups, groups, "--val-groups"),
        *match_groups(test_groups, groups, "--test-groups"),
    }
    sides = len(SUBSETS) - bool(validation_groups or by_clip) - bool(test_groups or test is None)
    if len(groups - named) < sides:
        return data
    loose = [clip for clip in data.clips if clip.group not in named]
    enough = {clip.gloss for clip in loose} - set(find_rare_glosses(loose, sides))
    reason = f"its gloss is in too few groups, expected at least {sides} to draw from"
    if by_clip:
        enough -= {gloss for gloss, count in Counter(clip.gloss for clip in loose).items() if count < 2}
        reason += ", and at least 2 clips"
    skipped = [Skipped(f"{clip.name} ({clip.gloss})", reason) for clip in data.clips if clip.gloss not in enough]
    kept = [clip for clip in data.clips if clip.gloss in enough]
    return replace(data, clips=kept, skipped=[*data.skipped, *skipped])


def find_rare_glosses(clips: Iterable[LabelledClip], sides: int = len(SUBSETS)) -> dict[str, int]:
    """Return the glosses that are in fewer groups than there are sides, with their numbers of groups."""
    groups: dict[str, set[str]] = {}
    for clip in clips:
        groups.setdefault(clip.gloss, set()).add(clip.group)
    return {gloss: len(members) for gloss, members in sorted(groups.items()) if len(members) < sides}


def _check_enough(clips: Sequence[LabelledClip], glosses: Sequence[str], sides: int) -> None:
    """Raise `DataError` naming the glosses that are in too few groups to be on each of `sides` sides."""
    groups = {clip.group for clip in clips}
    if len(groups) < sides:
        found = f" ({_some(sorted(groups))})" if groups else ""
        raise DataError(
            f"found {len(groups)} groups{found} to draw {sides} sides from, expected at least {sides}. {WAYS_OUT}"
        )
    rare = dict.fromkeys(set(glosses) - {clip.gloss for clip in clips}, 0) | find_rare_glosses(clips, sides)
    if rare:
        listed = []
        for gloss in sorted(rare)[:10]:
            members = [clip for clip in clips if clip.gloss == gloss]
            example = f", {members[0].name}" if members else ""
            listed.append(f"{gloss} (groups: {rare[gloss]}, clips: {len(members)}{example})")
        more = f" and {len(rare) - 10} more" if len(rare) > 10 else ""
        raise DataError(
            f"found no way to split {len(groups)} groups so that every gloss is on each of {sides} sides, for which it "
            f"must be in at least {sides} groups. Too rare: {', '.join(listed)}{more}. Leave them out with --skip-bad. "
            f"{WAYS_OUT}"
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
        raise DataError(f"found no way to split {len(count)} groups so that every gloss is on each side. {WAYS_OUT}")
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


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def check_split(clips: Sequence[LabelledClip], split: Split, expected: Sequence[str] = SUBSETS) -> None:
    """Raise `DataError` where a split leaks, leaves training without a gloss, or one of the `expected` sides empty."""
    sides = {side: split.select(clips, side) for side in expected}
    group_side: dict[str, str] = {}
    content_side: dict[bytes, tuple[str, str]] = {}
    for side in sides:
        for group in getattr(split, side):
            shared = split.validation_clips and {group_side.get(group), side} == {"train", "validation"}
            if group_side.setdefault(group, side) != side and not shared:
                raise DataError(f"group {group} is on two sides of the split, {group_side[group]} and {side}")
    for side, members in sides.items():
        if not members:
            raise DataError(f"found no clip for {side}, expected at least one group of clips")
        for member in members:
            other, name = content_side.setdefault(fingerprint(member), (side, member.name))
            if other != side:
                raise DataError(describe_duplicates(f"{name} ({other})", f"{member.name} ({side})"))
    unseen = sorted({clip.gloss for clip in clips} - {clip.gloss for clip in sides["train"]})
    if unseen:
        raise DataError(
            f"training would never see {_some(unseen)}: name other groups with --test-groups or --val-groups, or leave "
            "these glosses out with --leave-out"
        )


def describe_duplicates(first: str, other: str) -> str:
    """Return the error about two clips that are on two sides and hold the same points."""
    return (
        f"{first} and {other} hold the very same points: --skip-bad leaves out all but the first of such clips, or "
        "--group-regex puts them in one group"
    )
