"""Split a data set by whole groups, so that no camera or signer of the training clips is in the test clips.

The split is stratified by gloss: each subset gets the requested share of each gloss, as far as whole groups allow. One
by one, each group goes to the subset that lacks its glosses most, after Sechidis, Tsoumakas and Vlahavas, "On the
Stratification of Multi-Label Data", ECML PKDD 2011. This is repeated in many random orders, and the best result wins.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

import numpy as np

from spoter.errors import DataError
from spoter.training.data.labelled import DataSet, LabelledClip, Skipped, fingerprint

SUBSETS = ("train", "validation", "test")
# Number of random orders: as many as take about one second, but at least 8 for the largest data sets.
_MOST_DRAWS, _FEWEST_DRAWS, _STEPS = 2000, 8, 40_000
REMEDIES = (
    "Record more; define finer groups with --group-regex '(…)'; name groups with --test-groups NAME,… or "
    "--val-groups NAME,…; or draw validation clips from the training groups with --validation-by-clip"
)


@dataclass(frozen=True)
class Split:
    """A split: the sorted names of the groups of each subset."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    validation_clips: tuple[str, ...] = ()  # names, if they are drawn clip by clip from the training groups

    def groups(self, subset: str) -> tuple[str, ...]:
        """Return the groups of one of `SUBSETS`."""
        return (self.train, self.validation, self.test)[SUBSETS.index(subset)]

    def select(self, clips: Iterable[LabelledClip], subset: str) -> list[LabelledClip]:
        """Return the clips of one of `SUBSETS`."""
        groups, drawn = set(self.groups(subset)), set(self.validation_clips)
        members = [clip for clip in clips if clip.group in groups]
        if not drawn or subset == "test":
            return members
        return [clip for clip in members if (clip.name in drawn) == (subset == "validation")]


@dataclass(frozen=True)
class SplitOptions:
    """Options for splitting a data set."""

    validation: float = 0.15  # share of the clips of each gloss
    test: float | None = 0.15  # None for no test subset
    validation_groups: Sequence[str] = ()  # by name or pattern (`match_groups`), instead of the share
    test_groups: Sequence[str] = ()
    seed: int = 0
    by_clip: bool = False  # draw the share `validation` clip by clip from the training groups

    def drawn_shares(self) -> dict[str, float]:
        """Return the shares of the subsets that are drawn by whole groups."""
        shares = {}
        if not self.by_clip and not self.validation_groups:
            shares["validation"] = self.validation
        if self.test is not None and not self.test_groups:
            shares["test"] = self.test
        return shares


_DEFAULTS = SplitOptions()


def split_groups(clips: Sequence[LabelledClip], options: SplitOptions = _DEFAULTS) -> Split:
    """Split clips by whole groups, stratified by gloss.

    Subsets with named groups get exactly these groups. The others are drawn from the seed only, never from results of a
    model: of the draws in which each subset has every gloss, the one closest to the requested shares of each gloss
    wins. If each clip is its own group, this is a split by clip.

    Raises `DataError` for patterns that match no group, groups in two subsets, clips with equal points in two subsets,
    glosses that training lacks, glosses with too few clips or groups for all subsets, and if no draw has every gloss in
    each subset.
    """
    groups = sorted({clip.group for clip in clips})
    subsets = _match_named_groups(groups, options)
    if options.by_clip and subsets["validation"]:
        raise DataError("found --val-groups and --validation-by-clip, expected only one of them")
    validation, test = options.validation, options.test
    if not 0 < validation < 1 or (test is not None and not 0 < test < 1) or validation + (test or 0) >= 1:
        problem = f"found shares {validation} for validation and {test} for testing"
        raise DataError(f"{problem}, expected each above 0 and a sum below 1")
    shares = options.drawn_shares()
    named = {*subsets["validation"], *subsets["test"]}
    free = [group for group in groups if group not in named]
    subsets["train"] = tuple(free)
    if shares:
        _check_enough(clips, named, 1 + len(shares))
        drawn = _draw(clips, free, list(shares.values()), np.random.default_rng(options.seed))
        for number, name in enumerate(("train", *shares)):
            subsets[name] = tuple(group for group, subset in zip(free, drawn, strict=True) if subset == number)
    split = Split(**subsets)
    if options.by_clip:
        split = _draw_validation_clips(clips, split, options)
    check_split(clips, split, SUBSETS if test is not None or options.test_groups else SUBSETS[:2])
    return split


def match_groups(patterns: Sequence[str], groups: Iterable[str], option: str) -> tuple[str, ...]:
    """Return the groups that match names or shell patterns such as ``anna/*``, sorted.

    Raises `DataError`, naming `option` and the groups, for a pattern that matches no group.
    """
    existing = sorted(set(groups))
    matched: set[str] = set()
    for pattern in patterns:
        # The name of a group comes first: it may contain a special character of patterns.
        members = [pattern] if pattern in existing else [group for group in existing if fnmatchcase(group, pattern)]
        if not members:
            expected = f"names, or patterns such as 'anna*', of {join_first(existing)}"
            raise DataError(f"{option}: found no group {pattern!r} in the data, expected {expected}")
        matched.update(members)
    return tuple(sorted(matched))


def _match_named_groups(groups: Iterable[str], options: SplitOptions) -> dict[str, tuple[str, ...]]:
    return {
        "validation": match_groups(options.validation_groups, groups, "--val-groups"),
        "test": match_groups(options.test_groups, groups, "--test-groups"),
    }


def drop_rare_glosses(data: DataSet, options: SplitOptions = _DEFAULTS) -> DataSet:
    """Return the data set without the glosses that are too rare for `split_groups`; their clips are in `skipped`.

    With fewer groups than subsets, nothing is dropped: `split_groups` raises the error.
    """
    groups = {clip.group for clip in data.clips}
    named = {group for members in _match_named_groups(groups, options).values() for group in members}
    subsets = 1 + len(options.drawn_shares())
    if len(groups - named) < subsets:
        return data
    free = [clip for clip in data.clips if clip.group not in named]
    enough = {clip.gloss for clip in free} - set(find_rare_glosses(free, subsets))
    reason = f"its gloss is in too few groups, expected at least {subsets}"
    if options.by_clip:
        enough -= {gloss for gloss, count in Counter(clip.gloss for clip in free).items() if count < 2}
        reason += ", and at least 2 clips"
    skipped = [Skipped(f"{clip.name} ({clip.gloss})", reason) for clip in data.clips if clip.gloss not in enough]
    clips = [clip for clip in data.clips if clip.gloss in enough]
    return replace(data, clips=clips, skipped=[*data.skipped, *skipped])


def find_rare_glosses(clips: Iterable[LabelledClip], subsets: int = len(SUBSETS)) -> dict[str, int]:
    """Return the number of groups of each gloss that is in fewer than `subsets` groups."""
    groups: dict[str, set[str]] = {}
    for clip in clips:
        groups.setdefault(clip.gloss, set()).add(clip.group)
    return {gloss: len(members) for gloss, members in sorted(groups.items()) if len(members) < subsets}


def check_split(clips: Sequence[LabelledClip], split: Split, expected: Sequence[str] = SUBSETS) -> None:
    """Raise `DataError` for a split with leaks, a gloss that training lacks, or an empty subset among `expected`."""
    subset_of_group: dict[str, str] = {}
    for subset in expected:
        for group in split.groups(subset):
            other = subset_of_group.setdefault(group, subset)
            if other != subset and not (split.validation_clips and {other, subset} == {"train", "validation"}):
                raise DataError(f"group {group} is in two subsets of the split, {other} and {subset}; expected one")
    first_copy: dict[bytes, tuple[str, str]] = {}
    for subset in expected:
        members = split.select(clips, subset)
        if not members:
            raise DataError(f"found no clip for the subset {subset}, expected at least one group of clips")
        for member in members:
            other, name = first_copy.setdefault(fingerprint(member), (subset, member.name))
            if other != subset:
                raise DataError(describe_duplicates(f"{name} ({other})", f"{member.name} ({subset})"))
    lacking = {clip.gloss for clip in clips} - {clip.gloss for clip in split.select(clips, "train")}
    if lacking:
        fix = "name other groups with --test-groups or --val-groups, or leave out these glosses with --leave-out"
        raise DataError(f"the training subset has no clip of {join_first(sorted(lacking))}: {fix}")


def describe_duplicates(first: str, other: str) -> str:
    """Return the error message for two clips with equal points in two subsets or folds."""
    return (
        f"{first} and {other} hold the same points: --skip-bad skips duplicates, and --group-regex can "
        "put the clips into one group"
    )


def join_first(words: Sequence[str], most: int = 20, separator: str = ", ") -> str:
    """Return the first `most` words in one line, and the number of the others."""
    return separator.join(words[:most]) + (f" and {len(words) - most} more" if len(words) > most else "")


def _draw_validation_clips(clips: Sequence[LabelledClip], split: Split, options: SplitOptions) -> Split:
    """Draw validation clips from the training groups, as if each clip were its own group."""
    train = split.select(clips, "train")
    if not train:
        raise DataError("found no clip outside the test groups, expected clips for training and validation")
    ungrouped = [replace(clip, group=clip.name) for clip in train]
    if rare := find_rare_glosses(ungrouped, 2):
        raise DataError(
            f"--validation-by-clip: found one clip of {join_first(list(rare))} outside the test groups, expected at "
            "least 2 clips of each gloss, for training and validation; --skip-bad skips glosses with one clip"
        )
    drawn = split_groups(ungrouped, SplitOptions(options.validation, None, seed=options.seed)).validation
    groups = {clip.group for clip in train if clip.name in set(drawn)}
    return replace(split, validation=tuple(sorted(groups)), validation_clips=drawn)


def _check_enough(clips: Sequence[LabelledClip], named: Collection[str], subsets: int) -> None:
    """Raise `DataError` for glosses in too few groups, without those in `named`, to be in each of `subsets` subsets."""
    free = [clip for clip in clips if clip.group not in named]
    groups = sorted({clip.group for clip in free})
    if len(groups) < subsets:
        names = f" ({join_first(groups)})" if groups else ""
        problem = f"found {len(groups)} groups{names} for {subsets} subsets"
        raise DataError(f"{problem}, expected at least {subsets} groups. {REMEDIES}")
    lacking = {clip.gloss for clip in clips} - {clip.gloss for clip in free}
    rare = dict.fromkeys(lacking, 0) | find_rare_glosses(free, subsets)
    if rare:
        listed = []
        for gloss in sorted(rare):
            members = [clip.name for clip in free if clip.gloss == gloss]
            facts = [f"groups: {rare[gloss]}", f"clips: {len(members)}", *members[:1]]
            listed.append(f"{gloss} ({', '.join(facts)})")
        raise DataError(
            f"found no split of {len(groups)} groups with every gloss in each of {subsets} subsets. Glosses in fewer "
            f"than {subsets} groups are too rare: {join_first(listed, 10)}. Skip them with --skip-bad. {REMEDIES}"
        )


def _draw(
    clips: Sequence[LabelledClip], groups: Sequence[str], shares: Sequence[float], rng: np.random.Generator
) -> np.ndarray:
    """Return the subset number of each of `groups`, from the draw with the smallest chi-squared statistic.

    Subset 0 is training; `shares` of all `clips` are those of subsets 1, 2, …. Groups outside `groups` are not drawn.
    """
    glosses = sorted({clip.gloss for clip in clips})
    row = {group: i for i, group in enumerate(groups)}
    column = {gloss: i for i, gloss in enumerate(glosses)}
    count = np.zeros((len(groups), len(glosses)))  # clips of each gloss in each group
    free = [clip for clip in clips if clip.group in row]
    np.add.at(count, ([row[clip.group] for clip in free], [column[clip.gloss] for clip in free]), 1)
    total = np.zeros(len(glosses))
    np.add.at(total, [column[clip.gloss] for clip in clips], 1)
    wanted = np.array([0, *shares])[:, None] * total  # (subsets, glosses)
    wanted[0] = np.maximum(count.sum(axis=0) - wanted[1:].sum(axis=0), 0.5)  # training does not get the named groups
    best, smallest = None, np.inf
    for _ in range(int(np.clip(_STEPS // len(count), _FEWEST_DRAWS, _MOST_DRAWS))):
        drawn = _deal(count, wanted, rng.permutation(len(count)))
        if not _complete(drawn, count, len(wanted)):
            continue
        statistic = ((_sum_by_subset(drawn, count, len(wanted)) - wanted) ** 2 / wanted).sum()
        if statistic < smallest:
            best, smallest = drawn, statistic
    if best is None:
        raise DataError(f"found no split of {len(count)} groups with every gloss in each subset. {REMEDIES}")
    return best


def _deal(count: np.ndarray, wanted: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Assign each group in `order` to the subset where the chi-squared statistic falls most or rises least."""
    drawn = np.zeros(len(count), dtype=np.int64)
    remaining = wanted.copy()
    for group in order:
        # ((remaining - count)^2 - remaining^2) / wanted, summed over glosses
        change = ((count[group] * (count[group] - 2 * remaining)) / wanted).sum(axis=1)
        drawn[group] = change.argmin()
        remaining[drawn[group]] -= count[group]
    return drawn


def _complete(drawn: np.ndarray, count: np.ndarray, subsets: int) -> bool:
    """Move groups, in place, to subsets that lack a gloss; return whether each subset then has every gloss."""
    for number in range(subsets):
        while True:
            sums = _sum_by_subset(drawn, count, subsets)
            lacking = np.flatnonzero(sums[number] == 0)
            if len(lacking) == 0:
                break
            # Groups that their subset can spare: each of their glosses is also in other groups of the subset.
            spare = ((sums[drawn] > count) | (count == 0)).all(axis=1) & (drawn != number) & (count[:, lacking[0]] > 0)
            if not spare.any():
                return False
            drawn[np.where(spare, count.sum(axis=1), np.inf).argmin()] = number
    return True


def _sum_by_subset(drawn: np.ndarray, count: np.ndarray, subsets: int) -> np.ndarray:
    """Return the number of clips of each gloss in each subset."""
    return np.stack([count[drawn == number].sum(axis=0) for number in range(subsets)])
