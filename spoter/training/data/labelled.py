"""Labelled clips, data sets of them, and what every reader of a data set hands over."""

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
    """A clip with the gloss it shows.

    Attributes
    ----------
    clip : Clip
    gloss : str
    group : str
        What it was recorded under: a camera, a signer; the name itself where the data set does not say.
    name : str
        The data set's own name of the clip.
    owner : str
        The group that the data tell by themselves, such as a signer, where a regular expression told others; empty
        where they tell none.
    """

    clip: Clip
    gloss: str
    group: str
    name: str
    source_group: str = ""


@dataclass(frozen=True)
class Skipped:
    """A clip that was left out: its place in the data set, and the reason."""

    place: str
    reason: str

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


@dataclass(frozen=True)
class UnreadClip:
    """A clip that a reader has found and not yet read.

    Attributes
    ----------
    place : str
        Where it is, in words for an error: "signs.hdf5, group 7".
    load : callable
        Returns the `LabelledClip`; raises `DataError` or `InputError` about this clip alone.
    """

    place: str
    load: Callable[[], LabelledClip]


@dataclass(frozen=True)
class UnreadDataSet:
    """What a reader makes of a path.

    Attributes
    ----------
    items : iterable of Item
    labels : dict of str to str
        Gloss of each label, where the clips are labelled by numbers and a meaning.json names the glosses.
    """

    items: Iterable[UnreadClip]
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class DataSet:
    """Labelled clips, read and checked.

    Attributes
    ----------
    clips : list of LabelledClip
        Ordered by name.
    skipped : list of Skipped
        Bad clips that were left out because ``skip_bad`` asked for it.
    sources : tuple of Path
        What was read.
    grouped : bool
        Whether the data say which clips belong together. Otherwise each clip is a group of its own, and a split by
        group cannot keep one signer's clips on one side.
    estimator : str
        Whose landmarks they are; "mediapipe" where the data hold a layout's points without saying.
    labels : dict of str to str
        As in `UnreadDataSet`.
    """

    clips: list[LabelledClip]
    skipped: list[Skipped]
    sources: tuple[Path, ...]
    grouped: bool
    estimator: str
    labels: dict[str, str] = field(default_factory=dict)

    @cached_property
    def glosses(self) -> tuple[str, ...]:
        """All glosses, sorted: in the order of label indices."""
        return tuple(sorted({clip.gloss for clip in self.clips}))

    def digest(self) -> str:
        """Return the SHA-256 of the clips' names, glosses, groups and points, in whatever form they are kept."""
        digest = hashlib.sha256()
        for clip in self.clips:
            for text in (clip.name, clip.gloss, clip.group, *clip.clip.names):
                digest.update(len(text.encode()).to_bytes(4, "little") + text.encode())
            digest.update(len(clip.clip).to_bytes(4, "little"))
            # NaN has many bit patterns and 0 two; each shall count as one.
            digest.update((np.nan_to_num(clip.clip.points, nan=1e9) + 0).astype("<f4").tobytes())
        return digest.hexdigest()


def fingerprint(member: LabelledClip) -> bytes:
    """Return a digest of what a clip shows: the same with or without a neck, a face, or another rounding.

    It is that of the points of layout 29, which all estimators and built-in layouts have, to four decimals.

    Raises
    ------
    DataError
        For a clip that lacks one of these points.
    """
    try:
        points = load_layout("29").select(member.clip)
    except InputError as error:
        raise DataError(f"{member.name}: {error}") from None
    return hashlib.sha256((np.nan_to_num(points, nan=1e9).round(4) + 0).tobytes()).digest()


def duplicates(clips: Iterable[LabelledClip]) -> list[list[LabelledClip]]:
    """Return the sets of clips that hold the very same points (`fingerprint`), each in the order given."""
    same: dict[bytes, list[LabelledClip]] = {}
    for clip in clips:
        same.setdefault(fingerprint(clip), []).append(clip)
    return [members for members in same.values() if len(members) > 1]
