"""Statistics of a data set for `spoter data summary`, and a picture of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from spoter.errors import DataError
from spoter.training.data.labelled import DataSet, LabelledClip, Skipped, find_duplicates
from spoter.training.data.split import find_rare_glosses

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PARTS = {"left_hand": "leftHand_", "right_hand": "rightHand_", "pose": "pose_"}
"""Prefix of the landmark names of each part; frames without a part are counted as missing."""

_MOST_GROUPS = 40  # columns of the group map in the picture: more names would be unreadable


@dataclass(frozen=True)
class ClipStatistics:
    """Statistics of clips: counts, lengths in frames, and the share of frames without each of `PARTS`."""

    clips: int
    groups: int
    frames: int
    shortest: int
    median: float
    longest: int
    missing: dict[str, float]


@dataclass(frozen=True)
class Summary:
    """Statistics of a data set; `digest`, `estimator`, `grouped` and `skipped` as in `DataSet`."""

    sources: tuple[str, ...]  # names of the files and folders
    digest: str
    estimator: str
    grouped: bool
    total: ClipStatistics
    glosses: dict[str, ClipStatistics]
    groups: dict[str, int]  # number of clips of each group, the largest group first
    cells: dict[str, dict[str, int]]  # number of clips of each gloss in each of its groups
    lengths: list[int]  # of the clips, in frames
    rare: dict[str, int]  # number of groups of each gloss that is in too few groups for three subsets
    duplicates: list[list[str]]  # sets of clips with equal points, by name
    skipped: list[Skipped]


def summarize(data: DataSet) -> Summary:
    """Return the statistics of a data set; raise `DataError` for a clip that lacks points of layout 29."""
    missing = {id(clip): _count_missing(clip) for clip in data.clips}
    by_gloss = {gloss: [clip for clip in data.clips if clip.gloss == gloss] for gloss in data.glosses}
    return Summary(
        sources=tuple(source.resolve().name for source in data.sources),
        digest=data.digest(),
        estimator=data.estimator,
        grouped=data.grouped,
        total=_compute_statistics(data.clips, missing),
        glosses={gloss: _compute_statistics(clips, missing) for gloss, clips in by_gloss.items()},
        groups=dict(Counter(clip.group for clip in data.clips).most_common()),
        cells={gloss: dict(Counter(clip.group for clip in clips)) for gloss, clips in by_gloss.items()},
        lengths=[len(clip.clip) for clip in data.clips],
        rare=find_rare_glosses(data.clips),
        duplicates=[[clip.name for clip in clips] for clips in find_duplicates(data.clips)],
        skipped=data.skipped,
    )


def _count_missing(member: LabelledClip) -> dict[str, int]:
    """Return the number of frames without any landmark of each part."""
    x = member.clip.points[..., 0]  # x and y of a missing point are both NaN
    counts = {}
    for part, prefix in PARTS.items():
        columns = [i for i, name in enumerate(member.clip.names) if name.startswith(prefix)]
        counts[part] = int(np.isnan(x[:, columns]).all(axis=1).sum())  # without columns: all frames
    return counts


def _compute_statistics(clips: Sequence[LabelledClip], missing: dict[int, dict[str, int]]) -> ClipStatistics:
    lengths = [len(clip.clip) for clip in clips]
    frames = sum(lengths)
    return ClipStatistics(
        clips=len(clips),
        groups=len({clip.group for clip in clips}),
        frames=frames,
        shortest=min(lengths),
        median=float(np.median(lengths)),
        longest=max(lengths),
        missing={part: sum(missing[id(clip)][part] for clip in clips) / frames for part in PARTS},
    )


def draw_figure(summary: Summary) -> Figure:
    """Draw clips per gloss, lengths, missing hands, and clips by gloss and group; `DataError` without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise DataError("drawing needs matplotlib: pip install 'spoter[train]'") from error
    glosses, rows = list(summary.glosses), list(summary.glosses.values())
    places = np.arange(len(glosses))
    figure = Figure(figsize=(15, 2 * min(4 + 0.35 * len(glosses), 60)), layout="constrained")
    (clips, lengths), (hands, groups) = figure.subplots(2, 2)

    clips.barh(places, [row.clips for row in rows], color="tab:blue")
    clips.set(xlabel="clips", title=f"{summary.total.clips} clips of {len(glosses)} glosses")

    lengths.hist(summary.lengths, bins=min(40, len(set(summary.lengths))), color="tab:gray")
    lengths.axvline(summary.total.median, color="black", linestyle="--")
    lengths.set(xlabel="frames", ylabel="clips", title=f"Lengths, median {summary.total.median:g} frames")

    for part, offset, color in (("left_hand", -0.2, "tab:orange"), ("right_hand", 0.2, "tab:green")):
        shares = [row.missing[part] for row in rows]
        hands.barh(places + offset, shares, height=0.4, label=part.replace("_", " "), color=color)
    hands.set(xlabel="share of frames", xlim=(0, 1), title="Frames with a missing hand")
    hands.legend(loc="lower right")

    for axes in (clips, hands):
        axes.set_yticks(places, glosses, parse_math=False)
        axes.invert_yaxis()
    _draw_groups(groups, summary)
    return figure


def _draw_groups(axes: Axes, summary: Summary) -> None:
    """Draw a map of the clips by gloss and group, or a sentence for data without groups."""
    if not summary.grouped:
        axes.axis("off")
        axes.text(0.5, 0.5, "The data have no groups.", ha="center", va="center", fontsize=14)
        return
    shown = sorted(list(summary.groups)[:_MOST_GROUPS])
    counts = np.array([[row.get(group, 0) for group in shown] for row in summary.cells.values()])
    image = axes.imshow(counts, aspect="auto", cmap="Blues", interpolation="nearest")
    axes.set_yticks(range(len(summary.cells)), list(summary.cells), parse_math=False)
    axes.set_xticks(range(len(shown)), shown, rotation=90, parse_math=False)
    hidden = len(summary.groups) - len(shown)
    axes.set_title("Clips by gloss and group" + (f", without the {hidden} smallest groups" if hidden else ""))
    axes.figure.colorbar(image, ax=axes, label="clips")
    if counts.size <= 600:
        for (row, column), count in np.ndenumerate(counts):
            color = "white" if count > counts.max() / 2 else "black"
            axes.text(column, row, str(count), ha="center", va="center", color=color, fontsize=8)
