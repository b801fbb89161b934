"""Labelled clips, data sets of them, and what the reader of each form returns."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from spoter.errors import DataError, InputError
from spoter.landmarks.clip import Clip
from spoter.landmarks.layouts import load_layout


@dataclass(frozen=True)
class LabelledClip:
    """A clip with the gloss it shows."""

    clip: Clip
    gloss: str
    group: str  # camera, signer or session of the recording; the clip's name where the data set has no groups
    name: str  # in the data set
    source_group: str = ""  # the group in the data, whatever --group-regex makes of the name; empty without one


@dataclass(frozen=True)
class Skipped:
    """A clip that was left out: its place in the data set, and the reason."""

    place: str
    reason: str

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


@dataclass(frozen=True)
class UnreadClip:
    """A clip that a reader has located: its place for errors ("signs.hdf5, group 7"), and a function that reads it.

    `load` raises `DataError` or `InputError` where this clip alone is bad.
    """

    place: str
    load: Callable[[], LabelledClip]


@dataclass(frozen=True)
class UnreadDataSet:
    """The clips that a reader has located, and the gloss of each label where meaning.json names the glosses."""

    clips: Iterable[UnreadClip]
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class DataSet:
    """Labelled clips, read and checked."""

    clips: list[LabelledClip]  # ordered by name
    skipped: list[Skipped]  # bad clips that `skip_bad` left out
    sources: tuple[Path, ...]  # files and folders that were read
    # Without groups each clip is its own, and a split by group cannot keep the clips of one signer together.
    grouped: bool
    estimator: str  # of the landmarks; "mediapipe" where the data do not name one
    labels: dict[str, str] = field(default_factory=dict)  # as in `UnreadDataSet`

    @property
    def place(self) -> str:
        """The files and folders that were read, for an error."""
        return ", ".join(map(str, self.sources))

    @cached_property
    def glosses(self) -> tuple[str, ...]:
        """All glosses, sorted: in the order of label indices."""
        return tuple(sorted({clip.gloss for clip in self.clips}))

    def digest(self) -> str:
        """Return the SHA-256 of the clips' names, glosses, groups and points, independent of their form."""
        digest = hashlib.sha256()
        for clip in self.clips:
            for text in (clip.name, clip.gloss, clip.group, *clip.clip.names):
                digest.update(len(text.encode()).to_bytes(4, "little") + text.encode())
            digest.update(len(clip.clip).to_bytes(4, "little"))
            # NaN has many bit patterns and 0 has two; each counts as one.
            digest.update((np.nan_to_num(clip.clip.points, nan=1e9) + 0).astype("<f4").tobytes())
        return digest.hexdigest()


def fingerprint(member: LabelledClip) -> bytes:
    """Return a digest of a clip's points that does not depend on a neck, a face or the rounding.

    It covers the points of layout 29, which all estimators and built-in layouts have, to four decimals; `DataError` for
    a clip that lacks one of them.
    """
    try:
        points = load_layout("29").select(member.clip)
    except InputError as error:
        raise DataError(f"{member.name}: {error}") from None
    return hashlib.sha256((np.nan_to_num(points, nan=1e9).round(4) + 0).tobytes()).digest()


def find_duplicates(clips: Iterable[LabelledClip]) -> list[list[LabelledClip]]:
    """Return the sets of clips with equal points (`fingerprint`), each in the order given."""
    same: dict[bytes, list[LabelledClip]] = {}
    for clip in clips:
        same.setdefault(fingerprint(clip), []).append(clip)
    return [members for members in same.values() if len(members) > 1]


def drop_duplicates(clips: Iterable[LabelledClip]) -> tuple[list[LabelledClip], list[Skipped]]:
    """Keep the first of clips with equal points; return the kept clips and the others."""
    clips, dropped = list(clips), {}
    for first, *others in find_duplicates(clips):
        reason = f"holds the very same points as {first.name} ({first.gloss})"
        dropped.update({id(other): Skipped(f"{other.name} ({other.gloss})", reason) for other in others})
    return [clip for clip in clips if id(clip) not in dropped], list(dropped.values())
