"""split.json of a model folder: which clips a model was trained on, and how its data were read."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from spoter.errors import DataError
from spoter.training.data.labelled import DataSet, LabelledClip
from spoter.training.data.split import SUBSETS, WAYS_OUT, Split, drop_rare_glosses, split_groups

SPLIT = "split.json"


@dataclass(frozen=True)
class SplitRecord:
    """The split of a training run, and the options that its data were read with.

    Attributes
    ----------
    split : Split
    seed : int
    group_regex, skip_bad
        As in `spoter.training.settings.TrainSettings`.
    left_out : tuple of str
        Glosses of the data that the model was not trained on.
    """

    split: Split
    seed: int
    group_regex: str | None = None
    skip_bad: bool = False
    left_out: tuple[str, ...] = ()

    def to_json(self, clips: Sequence[LabelledClip]) -> bytes:
        """Return what split.json holds; `clips` are those that the split is of."""
        content: dict[str, object] = {
            "seed": self.seed,
            "group_regex": self.group_regex,
            "skip_bad": self.skip_bad,
            "left_out": self.left_out,
        }
        for side in SUBSETS:
            content[side] = {"clips": len(self.split.select(clips, side)), "groups": getattr(self.split, side)}
        if self.split.validation_clips:
            content["validation_clips"] = self.split.validation_clips
        return json.dumps(content, indent=2).encode() + b"\n"


def read_split(path: Path) -> SplitRecord:
    """Read a split.json. One of an earlier version holds the seed and the groups alone.

    Raises
    ------
    DataError
        Where the file cannot be read, or does not hold ``{"seed": …, "train": {"groups": […]}, …}``.
    """
    try:
        content = json.loads(Path(path).read_bytes())
        sides = [content[side]["groups"] for side in SUBSETS]
        seed = content["seed"]
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: found no split, expected a seed and the groups of {', '.join(SUBSETS)}") from error
    lists = [*sides, content.get("validation_clips", []), content.get("left_out", [])]
    if not isinstance(seed, int) or not all(
        isinstance(names, list) and all(isinstance(name, str) for name in names) for names in lists
    ):
        raise DataError(f"{path}: found a seed or names of another type, expected a number and lists of names")
    group_regex, skip_bad = content.get("group_regex"), content.get("skip_bad", False)
    if not isinstance(group_regex, str | None) or not isinstance(skip_bad, bool):
        raise DataError(f"{path}: found group_regex or skip_bad of another type, expected text and true or false")
    *groups, drawn, left_out = map(tuple, lists)
    return SplitRecord(Split(*groups, drawn), seed, group_regex, skip_bad, left_out)


def find_split(folder: Path) -> SplitRecord | None:
    """Return the record in a model folder; None where there is none, as in a converted model's folder."""
    path = Path(folder) / SPLIT
    return read_split(path) if path.exists() else None


def reading_options(record: SplitRecord | None, group_regex: str | None, skip_bad: bool) -> dict[str, object]:
    """Return options of `spoter.training.data.read_dataset`: those given, else those of the training run.

    Parameters
    ----------
    record : SplitRecord or None
    group_regex : str or None
        None for that of the training run; empty for the data's own groups.
    skip_bad : bool
    """
    recorded = record or SplitRecord(Split((), (), ()), 0)
    return {
        "groups": recorded.group_regex if group_regex is None else group_regex,
        "skip_bad": skip_bad or recorded.skip_bad,
    }


def split_dataset(
    data: DataSet, skip_bad: bool, note: Callable[[str], None], options: Mapping[str, object]
) -> tuple[DataSet, Split]:
    """Split a data set, and note what is left out and what may be wrong with the split.

    Parameters
    ----------
    data : DataSet
    skip_bad : bool
        Leave out the glosses that are too rare for the split.
    note : callable
        Called with a line for each clip that is left out here, and for each of `find_leaks`.
    options : mapping of str to object
        Further parameters of `spoter.training.data.split.split_groups`.

    Raises
    ------
    DataError
        As `spoter.training.data.split.split_groups`.
    """
    if skip_bad:
        kinds = ("test", "validation_groups", "test_groups", "by_clip")
        kept = drop_rare_glosses(data, **{name: options[name] for name in kinds if name in options})
        for skip in kept.skipped[len(data.skipped) :]:
            note(f"skipped: {skip}")
        if not kept.clips:
            raise DataError(
                f"found no gloss that is in enough groups to be on each side, of {len(data.glosses)} glosses. "
                f"{WAYS_OUT}"
            )
        data = kept
    split = split_groups(data.clips, **options)
    for sentence in find_leaks(data, split):
        note(f"warning: {sentence}")
    return data, split


def find_leaks(data: DataSet, split: Split) -> list[str]:
    """Return a sentence for each way in which clips of one origin are on several sides of a split.

    An origin is the group that the data tell by themselves, such as a signer, whatever ``--group-regex`` made of it.
    """
    sentences = []
    if not data.grouped:
        sentences.append(
            "The data tell no groups, so that each clip counts as its own: clips of one signer or camera may be on "
            "several sides, and the figures too good."
        )
    if split.validation_clips:
        sentences.append(
            "Validation clips were drawn from the training groups (--validation-by-clip): the validation figures tell "
            "nothing about other groups."
        )
    sides: dict[str, list[str]] = {}
    for side in SUBSETS:
        for source_group in sorted({clip.source_group for clip in split.select(data.clips, side)} - {""}):
            sides.setdefault(source_group, []).append(side)
    told = ["train", "validation"] if split.validation_clips else None  # by the sentence above
    shared = {source_group: on for source_group, on in sides.items() if len(on) > 1 and on != told}
    if shared:
        listed = [f"{source_group} ({', '.join(on)})" for source_group, on in list(shared.items())[:10]]
        more = f" and {len(shared) - 10} more" if len(shared) > 10 else ""
        sentences.append(
            f"Groups that the data tell by themselves are on several sides: {'; '.join(listed)}{more}. Figures on "
            "a side that shares one with training say little about others."
        )
    return sentences
