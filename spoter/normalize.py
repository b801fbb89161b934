"""The one normalisation that training, evaluation and serving share: a layout's points in, what SPOTER is fed out.

Three schemes, named in a model's config.json:

``box``
    The Peruvian system's (``Lsp_dataset.py`` of Diccionario-LSP/Spoter-LSP-IA-Model, ``inference.py`` of its server):
    body and face points relative to a box around head and chest, each hand relative to its own box, then -0.5.
``bohacek``
    That of the SPOTER paper's authors (Boháček and Hrúz, "Sign Pose-based Transformer for Word-level Sign Language
    Recognition", WACV Workshops 2022; ``body_normalization.py``, ``hand_normalization.py``), with y pointing up.
``none``
    Image units, only shifted by -0.5, as some versions of the Peruvian system trained (``Src/Lsp_dataset.py``).

All three mark a missing point as 0 before the shift, thus (-0.5, -0.5) after it, because that is what models were
trained on; this is the only place where NaN becomes a number. What the originals leave undefined follows these rules:

- A frame without a body box (a shoulder is missing, or both are one point) takes the box of the last frame that had
  one; frames before the first box take the first. A clip without any box is an error.
- ``box`` and ``none``: a hand that is missing as a whole becomes copies of its wrist of the pose in image units, as the
  Peruvian system's extractor wrote it; with that wrist missing too it becomes 0.
- ``box``: a missing right eye is replaced by the left eye, then the nose; with none of them the frame has no box.
- A missing point of a hand that is there takes no part in the hand's box (the original of ``box`` would let 0 stretch
  it; its estimator finds all points of a hand or none).
- A hand whose box has no width or no height stays as it is.
- A point that is there with x exactly 0 stays as it is: both originals take it for missing.
"""

from __future__ import annotations

import numpy as np

from spoter.errors import InputError, ModelFolderError
from spoter.estimators import NECK
from spoter.layouts import Layout

SCHEMES = ("box", "none", "bohacek")
_HANDS = {"leftHand": "pose_left_wrist", "rightHand": "pose_right_wrist"}
_NEEDED = {
    "none": (),
    "box": ("pose_left_shoulder", "pose_right_shoulder", "pose_right_eye"),
    "bohacek": ("pose_left_shoulder", "pose_right_shoulder", "pose_left_eye", "pose_nose", NECK),
}
_SMALLEST_BOX = 1e-6


def check_scheme(layout: Layout, scheme: str) -> None:
    """Raise `ModelFolderError` where `scheme` is unknown or needs a landmark that `layout` lacks."""
    if scheme not in SCHEMES:
        raise ModelFolderError(f"found normalize {scheme!r}, expected one of {', '.join(SCHEMES)}")
    lacking = [name for name in _NEEDED[scheme] if layout.column(name) is None]
    if lacking:
        raise ModelFolderError(f"normalize {scheme!r} needs {', '.join(lacking)}, which layout {layout.name} lacks")


def normalize(points: np.ndarray, layout: Layout, scheme: str) -> np.ndarray:
    """Turn a clip's points into SPOTER's input.

    Parameters
    ----------
    points : numpy.ndarray, shape (T, K, 2)
        A layout's points (`Layout.select`): image units, y down, NaN = missing.
    layout : Layout
        Names the K columns.
    scheme : str
        One of `SCHEMES`; `check_scheme` tells whether it fits the layout.

    Returns
    -------
    numpy.ndarray, shape (T, 2K), float32
        x and y interleaved: x0, y0, x1, y1, ….

    Raises
    ------
    InputError
        ``no_usable_frames`` where no frame holds any of the layout's points, or none has a body box.
    """
    if np.isnan(points).all():
        raise InputError(
            "no_usable_frames",
            f"found no landmark of layout {layout.name} in any of {len(points)} frames, expected at least one person",
        )
    # float64: a small hand's box divides by hundredths, and 1e-6 of the original is asked for
    points = points.astype(np.float64)
    if scheme == "bohacek":
        out = _bohacek(points, layout)
    else:
        out = _box(points, layout) if scheme == "box" else points.copy()
        _copy_wrists(out, points, layout)
    out[np.isnan(out)] = 0
    out -= 0.5
    return out.astype(np.float32).reshape(len(out), -1)


def _box(points: np.ndarray, layout: Layout) -> np.ndarray:
    """Scheme ``box``. The numbers 3, 1/2 and 4.5 half shoulder widths and the picture's centre are the original's."""

    def at(name: str) -> np.ndarray:
        column = layout.column(name)
        return points[:, column] if column is not None else np.full((len(points), 2), np.nan)

    half = np.linalg.norm(at("pose_left_shoulder") - at("pose_right_shoulder"), axis=1) / 2
    eye = at("pose_right_eye")[:, 1]
    for stand_in in ("pose_left_eye", "pose_nose"):
        eye = np.where(np.isnan(eye), at(stand_in)[:, 1], eye)
    start = np.stack([0.5 - 3 * half, eye - half / 2], axis=1)
    end = np.stack([0.5 + 3 * half, 0.5 + 4.5 * half], axis=1)
    start, end = _fill_boxes(start, end)

    out = points.copy()
    body = layout.section("pose", "face")
    _rescale(out, points, body, start, end)
    for section in _HANDS:
        hand = layout.section(section)
        _rescale(out, points, hand, *_hand_box(points[:, hand]))
    return out


def _copy_wrists(out: np.ndarray, points: np.ndarray, layout: Layout) -> None:
    """Write the pose's wrist of `points` (T, K, 2), where it is known, into each point of a hand that is not there."""
    for section, name in _HANDS.items():
        hand, wrist = layout.section(section), layout.column(name)
        if wrist is not None:
            absent = np.flatnonzero(np.isnan(points[:, hand]).all(axis=(1, 2)))
            if len(absent):
                out[np.ix_(absent, hand)] = points[absent, wrist, None]


def _bohacek(points: np.ndarray, layout: Layout) -> np.ndarray:
    """Scheme ``bohacek``. Six head sizes, a head being the distance of the shoulders, else of neck and nose."""
    points = np.stack([points[..., 0], 1 - points[..., 1]], axis=-1)  # their data come from Apple Vision: y points up
    left, right, eye, nose, neck = (points[:, layout.column(name)] for name in _NEEDED["bohacek"])
    head = np.linalg.norm(left - right, axis=1)
    head = np.where(np.isnan(head), np.linalg.norm(neck - nose, axis=1), head)
    # Their box starts at its upper left corner and ends at the lower right one, and leaves the picture nowhere at 0.
    x0, x1 = neck[:, 0] - 3 * head, neck[:, 0] + 3 * head
    y1 = eye[:, 1] + head
    y0 = y1 - 6 * head
    start, end = _fill_boxes(*(np.maximum(np.stack(corner, axis=1), 0) for corner in ((x0, y0), (x1, y1))))

    out = points.copy()
    _rescale(out, points, layout.section("pose", "face"), start, end)
    for section in _HANDS:
        hand = layout.section(section)
        _rescale(out, points, hand, *_hand_box(points[:, hand]))
    return out


def _fill_boxes(start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give frames without a box that of the last frame with one, or else the first; corners are (T, 2)."""
    found = (np.abs(end - start) > _SMALLEST_BOX).all(axis=1)  # False where a corner is NaN
    if not found.any():
        raise InputError(
            "no_usable_frames",
            f"found both shoulders and an eye in none of {len(found)} frames, expected them in at least one: "
            "the size of the signer cannot be told without them",
        )
    source = np.maximum.accumulate(np.where(found, np.arange(len(found)), -1))
    source[source < 0] = np.argmax(found)
    return start[source], end[source]


def _hand_box(hand: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the corners (T, 2) of a square around each frame's hand (T, P, 2), a tenth of its larger side wider.

    NaN where the hand is missing, or has neither width nor height to be measured by.
    """
    absent = np.isnan(hand)
    low = np.where(absent, np.inf, hand).min(axis=1, initial=np.inf)
    high = np.where(absent, -np.inf, hand).max(axis=1, initial=-np.inf)
    low = np.where(np.isinf(low), np.nan, low)
    width, height = (high - low).T
    margin = 0.1 * np.maximum(width, height)
    grow_x = np.where(width > height, margin, margin + (height - width) / 2)
    grow_y = np.where(width > height, margin + (width - height) / 2, margin)
    grow = np.stack([grow_x, grow_y], axis=1)
    return low - grow, high + grow


def _rescale(out: np.ndarray, points: np.ndarray, columns: np.ndarray, start: np.ndarray, end: np.ndarray) -> None:
    """Write `columns` of `points` (T, K, 2) relative to each frame's box into `out`; frames without a box are left."""
    size = end - start
    usable = (np.abs(size) > _SMALLEST_BOX).all(axis=1)  # False for NaN
    size = np.where(usable[:, None], size, 1.0)[:, None]
    raw = points[:, columns]
    moved = usable[:, None] & (raw[..., 0] != 0)
    out[:, columns] = np.where(moved[..., None], (raw - start[:, None]) / size, raw)
