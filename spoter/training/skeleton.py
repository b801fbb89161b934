"""Clips as pictures: a strip of frames, the body and each hand in a colour of their own.

Which points are joined is said by names, so that an estimator's array and any layout are drawn alike: of a limb, those
points that the clip has. Joints follow MediaPipe's hand and pose topology.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from spoter.errors import DataError
from spoter.estimators import NECK

try:
    from matplotlib.axes import Axes
    from matplotlib.collections import LineCollection
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Rectangle
except ImportError:
    raise DataError("drawing pictures needs pip install 'spoter[train]'") from None

COLOURS = {"body": "#555555", "left hand": "#1f77b4", "right hand": "#d62728"}
_CELL = 1.3  # from one frame's left edge to the next one's, in widths of a picture
_ABOVE, _BELOW = 0.15, 0.6  # what is shown beyond the picture: estimators guess lowered hands below it
_INCHES = 1.15  # side of a frame
_FINGERS = ("index_finger", "middle_finger", "ring_finger", "pinky")


def _body() -> list[tuple[str, ...]]:
    """Chains of points of body and face that are joined one to the next."""
    pose = [
        [f"pose_{point}" for point in chain.split()]
        for chain in (
            "right_ear right_eye nose left_eye left_ear",
            "right_shoulder left_shoulder left_hip right_hip right_shoulder",
            "left_shoulder left_elbow left_wrist",
            "right_shoulder right_elbow right_wrist",
        )
    ]
    half = [
        "eyebrow_outer eyebrow_middle eyebrow_inner",
        "eye_outer eye_inner",
        "jaw_up jaw_middle jaw_down",
        "mouth_corner mouth_up",
        "mouth_corner mouth_down",
    ]
    face = [[f"face_{side}_{point}" for point in chain.split()] for chain in half for side in ("left", "right")]
    closed = [
        [f"face_{side}_{point}" for side in ("left", "right")] for point in ("jaw_down", "mouth_up", "mouth_down")
    ]
    return [(NECK, "pose_nose"), *map(tuple, [*pose, *face, *closed])]


def _hand(side: str) -> list[tuple[str, ...]]:
    """Chains of a hand, each finger from the wrist to its tip; the wrist is the pose's where the hand has none."""
    root = (f"pose_{side}_wrist", f"{side}Hand_wrist")
    thumb = tuple(f"{side}Hand_thumb_{joint}" for joint in ("cmc", "mcp", "ip", "tip"))
    fingers = [tuple(f"{side}Hand_{finger}_{joint}" for joint in ("mcp", "pip", "dip", "tip")) for finger in _FINGERS]
    knuckles = tuple(f"{side}Hand_{finger}_mcp" for finger in _FINGERS)
    return [*(root + finger for finger in (thumb, *fingers)), knuckles]


CHAINS = {"body": _body(), "left hand": _hand("left"), "right hand": _hand("right")}
"""For each part, the chains of points that are joined one to the next."""


@lru_cache(maxsize=64)
def limbs(names: tuple[str, ...], part: str) -> np.ndarray:
    """Return the pairs of columns that are joined in `part`, a key of `CHAINS`: (pairs, 2)."""
    place = {name: column for column, name in enumerate(names)}
    pairs = set()
    for chain in CHAINS[part]:
        columns = [place[name] for name in chain if name in place]
        pairs.update(zip(columns, columns[1:], strict=False))
    return np.array(sorted(pairs), dtype=np.intp).reshape(-1, 2)


def draw_strip(
    axes: Axes,
    points: np.ndarray,
    names: tuple[str, ...],
    frames: Sequence[int],
    behind: np.ndarray | None = None,
) -> None:
    """Draw frames of a clip side by side.

    A hand that is missing as a whole is a ring at the pose's wrist, in the hand's colour. A frame without any point
    says "nobody"; one beyond the clip's end is an empty box that says "ended".

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    points : numpy.ndarray, shape (T, N, 2)
        Image units, y down, NaN = missing.
    names : tuple of str, length N
    frames : sequence of int
        Which frames to show; they may lie beyond the clip's end.
    behind : numpy.ndarray, shape (T, N, 2), optional
        Points to draw in light grey behind the clip's, to compare.
    """
    axes.set_xlim(-0.15, _CELL * len(frames) - 0.15)
    axes.set_ylim(1 + _BELOW, -_ABOVE)
    axes.set_aspect("equal")
    axes.axis("off")
    for cell, frame in enumerate(frames):
        ended = frame >= len(points)
        place = np.array([_CELL * cell, 0])
        axes.add_patch(Rectangle(place, 1, 1, facecolor="none" if ended else "#fafafa", edgecolor="#cccccc", lw=0.6))
        word = "ended" if ended else "nobody" if np.isnan(points[frame]).all() else ""
        axes.text(*(place + 0.5), word, ha="center", va="center", fontsize=7, color="#999999")
        if not ended:
            if behind is not None:
                _draw_frame(axes, behind[frame] + place, names, dict.fromkeys(COLOURS, "#cccccc"))
            _draw_frame(axes, points[frame] + place, names, COLOURS)


def _draw_frame(axes: Axes, points: np.ndarray, names: tuple[str, ...], colours: Mapping[str, str]) -> None:
    """Draw one frame's points (N, 2) where they are."""
    for part, colour in colours.items():
        lines = points[limbs(names, part)]
        lines = lines[~np.isnan(lines).any(axis=(1, 2))]
        axes.add_collection(LineCollection(lines, colors=colour, linewidths=1.0 if part == "body" else 0.8))
        if part == "body":
            continue
        side = part.split()[0]
        hand = [column for column, name in enumerate(names) if name.startswith(f"{side}Hand_")]
        wrist = points[[column for column, name in enumerate(names) if name == f"pose_{side}_wrist"]]
        if np.isnan(points[hand]).all() and len(wrist) and not np.isnan(wrist).any():
            axes.plot(*wrist[0], "o", markersize=5, markerfacecolor="white", color=colour)


def draw_rows(
    rows: Mapping[str, np.ndarray], names: tuple[str, ...], frames: Sequence[int], title: str, behind: str = ""
) -> Figure:
    """Draw one strip below the other, each with its caption: the same frames of clips that are to be compared.

    Parameters
    ----------
    rows : mapping of str to numpy.ndarray, shape (T, N, 2)
        Captions, which may have several lines, and points.
    names : tuple of str, length N
    frames : sequence of int
        Which frames to show of each.
    title : str
    behind : str, optional
        Caption of the row to draw in grey behind all others that are as long.

    Returns
    -------
    matplotlib.figure.Figure
        `png` makes a file of it.
    """
    caption, head, strip = 1.9, 0.75, _INCHES * (1 + _ABOVE + _BELOW)
    width, height = caption + _INCHES * _CELL * len(frames), head + strip * len(rows)
    figure = Figure(figsize=(width, height))
    figure.text(0.1 / width, 1 - 0.1 / height, title, ha="left", va="top", fontsize=10)
    handles = [Line2D([], [], color=colour, label=part) for part, colour in COLOURS.items()]
    handles.append(Line2D([], [], color="black", marker="o", mfc="white", linestyle="", label="hand missing"))
    figure.legend(handles=handles, loc="upper right", ncols=4, fontsize=8, frameon=False)
    for number, (text, points) in enumerate(rows.items()):
        bottom = 1 - (head + strip * (number + 1)) / height
        axes = figure.add_axes((caption / width, bottom, 1 - caption / width, strip / height))
        grey = rows.get(behind) if text != behind else None
        draw_strip(axes, points, names, frames, grey if grey is not None and len(grey) == len(points) else None)
        figure.text(0.1 / width, bottom + strip / height / 2, text, ha="left", va="center", fontsize=8.5)
        if number == 0:
            for cell, frame in enumerate(frames):
                axes.text(_CELL * cell + 0.5, -0.05, f"frame {frame}", ha="center", va="bottom", fontsize=7)
    return figure


def png(figure: Figure, dots: int = 100) -> bytes:
    """Return a figure as a PNG file, `dots` pixels an inch."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=dots)
    return content.getvalue()
