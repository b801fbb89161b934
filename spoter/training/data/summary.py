"""What a data set holds: figures for `spoter data summary`, and a picture of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from spoter.errors import DataError
from spoter.files import atomic_write
from spoter.training.data import DataSet, LabelledClip, Skipped
from spoter.training.data.labelled import duplicates
from spoter.training.data.split import find_rare_glosses

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PARTS = {"left_hand": "leftHand_", "right_hand": "rightHand_", "pose": "pose_"}
"""Prefix of the landmarks' names of each part whose absence is counted."""

_MOST_GROUPS = 40  # columns of the picture's map: beyond them nobody can read a name


@dataclass(frozen=True)
class Row:
    """Some clips in figures.

    Attributes
    ----------
    clips, groups, frames : int
    shortest, median, longest : float
        Lengths in frames.
    missing : dict of str to float
        Share of all frames without any landmark of the part, for each of `PARTS`.
    """

    clips: int
    groups: int
    frames: int
    shortest: int
    median: float
    longest: int
    missing: dict[str, float]


@dataclass(frozen=True)
class Summary:
    """A data set in figures.

    Attributes
    ----------
    sources : tuple of str
        Names of the files and folders.
    digest : str
        `DataSet.digest`.
    estimator : str
    grouped : bool
        Whether the data say which clips belong together.
    total : Row
    glosses : dict of str to Row
    groups : dict of str to int
        Number of clips, the largest group first.
    cells : dict of str to dict of str to int
        Number of clips of each gloss in each group where there are any.
    lengths : list of int
        Of each clip, in frames.
    rare : dict of str to int
        Glosses that are in too few groups for a split into three sides, with their numbers of groups.
    duplicates : list of list of str
        Sets of clips that hold the very same points, by name.
    skipped : list of Skipped
    """

    sources: tuple[str, ...]
    digest: str
    estimator: str
    grouped: bool
    total: Row
    glosses: dict[str, Row]
    groups: dict[str, int]
    cells: dict[str, dict[str, int]]
    lengths: list[int]
    rare: dict[str, int]
    duplicates: list[list[str]]
    skipped: list[Skipped]


def summarize(data: DataSet) -> Summary:
    """Count what `data` holds.

    Raises
    ------
    DataError
        For a clip that lacks landmarks which all layouts have.
    """
    absent = {id(clip): _absent(clip) for clip in data.clips}
    by_gloss = {gloss: [clip for clip in data.clips if clip.gloss == gloss] for gloss in data.glosses}
    return Summary(
        sources=tuple(source.resolve().name for source in data.sources),
        digest=data.digest(),
        estimator=data.estimator,
        grouped=data.grouped,
        total=_row(data.clips, absent),
        glosses={gloss: _row(clips, absent) for gloss, clips in by_gloss.items()},
        groups=dict(Counter(clip.group for clip in data.clips).most_common()),
        cells={gloss: dict(Counter(clip.group for clip in clips)) for gloss, clips in by_gloss.items()},
        lengths=[len(clip.clip) for clip in data.clips],
        rare=find_rare_glosses(data.clips),
        duplicates=[[clip.name for clip in clips] for clips in duplicates(data.clips)],
        skipped=data.skipped,
    )


def _absent(member: LabelledClip) -> dict[str, int]:
    """Return the number of frames without any landmark of each part."""
    unknown = np.isnan(member.clip.points).any(axis=2)
    counts = {}
    for part, prefix in PARTS.items():
        columns = [i for i, name in enumerate(member.clip.names) if name.startswith(prefix)]
        counts[part] = int(unknown[:, columns].all(axis=1).sum())  # all frames where the clip has no such column
    return counts


def _row(clips: Sequence[LabelledClip], absent: dict[int, dict[str, int]]) -> Row:
    lengths = [len(clip.clip) for clip in clips]
    frames = sum(lengths)
    return Row(
        clips=len(clips),
        groups=len({clip.group for clip in clips}),
        frames=frames,
        shortest=min(lengths),
        median=float(np.median(lengths)),
        longest=max(lengths),
        missing={part: sum(absent[id(clip)][part] for clip in clips) / frames for part in PARTS},
    )


def draw(summary: Summary, path: Path) -> None:
    """Write `figure` of a summary as a PNG.

    Raises
    ------
    DataError
        Where matplotlib is not installed.
    """
    picture = figure(summary)
    with atomic_write(path) as temporary:
        picture.savefig(temporary, format="png", dpi=100)


def figure(summary: Summary) -> Figure:
    """Draw clips per gloss, lengths, missing hands per gloss, and clips by gloss and group.

    Raises
    ------
    DataError
        Where matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise DataError("drawing needs pip install 'spoter[train]'") from error
    glosses = list(summary.glosses)
    height = min(4 + 0.35 * len(glosses), 60)
    drawn = Figure(figsize=(15, 2 * height), layout="constrained")
    (upper_left, upper_right), (lower_left, lower_right) = drawn.subplots(2, 2)
    rows = np.arange(len(glosses))

    upper_left.barh(rows, [row.clips for row in summary.glosses.values()], color="tab:blue")
    _name_rows(upper_left, glosses, "clips")
    upper_left.set_title(f"{summary.total.clips} clips of {len(glosses)} glosses")

    upper_right.hist(summary.lengths, bins=min(40, max(len(set(summary.lengths)), 1)), color="tab:gray")
    upper_right.axvline(summary.total.median, color="black", linestyle="--")
    upper_right.set(xlabel="frames", ylabel="clips", title=f"Lengths, median {summary.total.median:g} frames")

    for part, offset, colour in (("left_hand", -0.2, "tab:orange"), ("right_hand", 0.2, "tab:green")):
        shares = [row.missing[part] for row in summary.glosses.values()]
        lower_left.barh(rows + offset, shares, height=0.4, label=part.replace("_", " "), color=colour)
    _name_rows(lower_left, glosses, "share of frames")
    lower_left.set(xlim=(0, 1), title="Frames in which a hand is missing")
    lower_left.legend(loc="lower right")

    _draw_groups(lower_right, summary, glosses)
    return drawn


def _name_rows(axes: Axes, glosses: Sequence[str], label: str) -> None:
    axes.set_yticks(range(len(glosses)), glosses, parse_math=False)
    axes.invert_yaxis()
    axes.set_xlabel(label)


def _draw_groups(axes: Axes, summary: Summary, glosses: Sequence[str]) -> None:
    """Draw a map of the numbers of clips; a sentence where the data tell no groups."""
    if not summary.grouped:
        axes.axis("off")
        axes.text(0.5, 0.5, "The data tell no groups:\neach clip is its own.", ha="center", va="center", fontsize=14)
        return
    shown = sorted(list(summary.groups)[:_MOST_GROUPS])
    counts = np.array([[summary.cells[gloss].get(group, 0) for group in shown] for gloss in glosses])
    image = axes.imshow(counts, aspect="auto", cmap="Blues", interpolation="nearest")
    axes.set_yticks(range(len(glosses)), glosses, parse_math=False)
    axes.set_xticks(range(len(shown)), shown, rotation=90, parse_math=False)
    left_out = len(summary.groups) - len(shown)
    axes.set_title("Clips by gloss and group" + (f", without the {left_out} smallest groups" if left_out else ""))
    axes.figure.colorbar(image, ax=axes, label="clips")
    if counts.size <= 600:
        for (row, column), count in np.ndenumerate(counts):
            colour = "white" if count > counts.max() / 2 else "black"
            axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=8)
