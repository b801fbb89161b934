"""split.json of a model folder: the split of its training data, and the options for reading the data."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import msgspec

from spoter.errors import DataError
from spoter.training.data.labelled import DataSet, LabelledClip
from spoter.training.data.split import (
    REMEDIES,
    SUBSETS,
    Split,
    SplitOptions,
    drop_rare_glosses,
    join_first,
    split_groups,
)

SPLIT = "split.json"


@dataclass(frozen=True)
class SplitRecord:
    """The split of a training run, and the options of `spoter.training.data.read_dataset` for its data."""

    split: Split
    seed: int
    group_regex: str | None = None
    skip_bad: bool = False
    left_out: tuple[str, ...] = ()  # glosses that were left out of training

    def to_json(self, clips: Sequence[LabelledClip]) -> bytes:
        """Return the content of split.json; `clips` are the clips that were split."""
        content: dict[str, object] = {name: value for name, value in vars(self).items() if name != "split"}
        for subset in SUBSETS:
            content[subset] = {"clips": len(self.split.select(clips, subset)), "groups": self.split.groups(subset)}
        if self.split.validation_clips:
            content["validation_clips"] = self.split.validation_clips
        return json.dumps(content, indent=2).encode() + b"\n"


class _Subset(msgspec.Struct):
    groups: tuple[str, ...]


class _File(msgspec.Struct):
    """The content of split.json; earlier versions wrote only the seed and the groups."""

    seed: int
    train: _Subset
    validation: _Subset
    test: _Subset
    validation_clips: tuple[str, ...] = ()
    group_regex: str | None = None
    skip_bad: bool = False
    left_out: tuple[str, ...] = ()


def read_split(path: Path) -> SplitRecord:
    """Read a split.json, ``{"seed": …, "train": {"groups": […]}, …}``; raise `DataError` if it cannot be read."""
    try:
        file = msgspec.json.decode(Path(path).read_bytes(), type=_File)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        expected = f"a seed and the groups of {', '.join(SUBSETS)}"
        raise DataError(f"{path}: found no valid split ({error}), expected {expected}") from error
    split = Split(file.train.groups, file.validation.groups, file.test.groups, file.validation_clips)
    return SplitRecord(split, file.seed, file.group_regex, file.skip_bad, file.left_out)


def find_split(folder: Path) -> SplitRecord | None:
    """Return the record in a model folder; None if there is none, as for a converted model."""
    path = Path(folder) / SPLIT
    return read_split(path) if path.exists() else None


class ReadingOptions(TypedDict):
    """Options of `spoter.training.data.read_dataset`."""

    groups: str | None
    skip_bad: bool


def reading_options(record: SplitRecord | None, group_regex: str | None, skip_bad: bool) -> ReadingOptions:
    """Return the options for reading a data set; the defaults are those of the training run.

    `group_regex` is None for that of the training run, and empty for the groups in the data.
    """
    if record is not None:
        group_regex = record.group_regex if group_regex is None else group_regex
        skip_bad = skip_bad or record.skip_bad
    return {"groups": group_regex, "skip_bad": skip_bad}


def split_dataset(
    data: DataSet, options: SplitOptions, *, skip_bad: bool, note: Callable[[str], None]
) -> tuple[DataSet, Split]:
    """Split a data set; report skipped clips and possible leaks.

    `skip_bad` skips glosses that are too rare for the split. `note` is called with one line for each clip that is
    skipped here, and for each warning of `find_leaks`. Raises `DataError` as `split_groups`.
    """
    if skip_bad:
        frequent = drop_rare_glosses(data, options)
        for skip in frequent.skipped[len(data.skipped) :]:
            note(f"skipped: {skip}")
        if not frequent.clips:
            problem = f"found {len(data.glosses)} glosses, but none in enough groups to be in each subset"
            raise DataError(f"{problem}. {REMEDIES}")
        data = frequent
    split = split_groups(data.clips, options)
    for warning in find_leaks(data, split):
        note(f"warning: {warning}")
    return data, split


def find_leaks(data: DataSet, split: Split) -> list[str]:
    """Return a warning for each way in which clips of one origin are in several subsets of a split.

    An origin is a group in the data, such as a signer, regardless of ``--group-regex``.
    """
    warnings = []
    if not data.grouped:
        warnings.append(
            "The data have no groups, so each clip is its own group: clips of one signer or camera may be in several "
            "subsets, and the figures too high."
        )
    if split.validation_clips:
        warnings.append(
            "Validation clips were drawn from the training groups (--validation-by-clip): the validation figures do "
            "not hold for other groups."
        )
    subsets: dict[str, list[str]] = {}
    for subset in SUBSETS:
        for group in sorted({clip.source_group for clip in split.select(data.clips, subset)} - {""}):
            subsets.setdefault(group, []).append(subset)
    reported = ["train", "validation"] if split.validation_clips else None  # by the warning above
    shared = [
        f"{group} ({', '.join(names)})" for group, names in subsets.items() if len(names) > 1 and names != reported
    ]
    if shared:
        warnings.append(
            f"Groups in the data are in several subsets: {join_first(shared, 10, '; ')}. Figures for a subset with a "
            "group of the training subset say little about other groups."
        )
    return warnings
