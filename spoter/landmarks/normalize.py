"""Normalization: from a layout's points to SPOTER's input, shared by training, evaluation and serving.

A model's config.json names one of three schemes:

``box``
    By the Peruvian system (``Lsp_dataset.py`` of Diccionario-LSP/Spoter-LSP-IA-Model, ``inference.py`` of its server):
    body and face relative to a box around head and chest, each hand relative to a box around it, then -0.5.
``bohacek``
    By the authors of the SPOTER paper (Boháček and Hrúz, "Sign Pose-based Transformer for Word-level Sign Language
    Recognition", WACV Workshops 2022; ``body_normalization.py``, ``hand_normalization.py``), with y pointing up.
``none``
    Image units shifted by -0.5, as in some versions of the Peruvian system (``Src/Lsp_dataset.py``).

All schemes set a missing point to 0 before the shift, so it becomes (-0.5, -0.5): models were trained on this value. No
other module turns NaN into a number. These rules cover the cases that the originals leave undefined:

- A frame without a body box (a shoulder is missing, or both shoulders are one point) uses the box of the last frame
  with a box. Frames before the first box use the first box. A clip without any box is an error.
- ``box`` and ``none``: each point of a missing hand becomes the pose's wrist in image units, as the Peruvian system's
  extractor wrote it. If the wrist is missing too, the points become 0.
- ``box``: the left eye replaces a missing right eye, or else the nose. A frame without any of the three has no box.
- A hand's box ignores the hand's missing points. (The original ``box`` would stretch the box to 0, but its estimator
  detects all points of a hand or none.)
- A hand whose box has no width or no height keeps its coordinates.
- A known point with x exactly 0 keeps its coordinates: both originals treat it as missing.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from spoter.error_codes import ErrorCode
from spoter.errors import InputError, ModelFolderError
from spoter.landmarks.arrays import BoolArray, Float32Array, Float64Array, IndexArray
from spoter.landmarks.estimators import NECK
from spoter.landmarks.layouts import Layout

SCHEMES = ("box", "none", "bohacek")
_HANDS = {"leftHand": "pose_left_wrist", "rightHand": "pose_right_wrist"}
_NEEDED: dict[str, tuple[str, ...]] = {
    "none": (),
    "box": ("pose_left_shoulder", "pose_right_shoulder", "pose_right_eye"),
    "bohacek": ("pose_left_shoulder", "pose_right_shoulder", "pose_left_eye", "pose_nose", NECK),
}
_SMALLEST_BOX = 1e-6
# Frames to normalize together, from several clips: their arrays still fit into the cache of one core.
_MAX_FRAMES_TOGETHER = 1024


def check_scheme(layout: Layout, scheme: str) -> None:
    """Raise `ModelFolderError` if `scheme` is unknown or needs a landmark that `layout` lacks."""
    if scheme not in SCHEMES:
        raise ModelFolderError(f"found normalize {scheme!r}, expected one of {', '.join(SCHEMES)}")
    lacking = [name for name in _NEEDED[scheme] if layout.column(name) is None]
    if lacking:
        raise ModelFolderError(f"normalize {scheme!r} needs {', '.join(lacking)}, which layout {layout.name} lacks")


def normalize(points: Float32Array, layout: Layout, scheme: str) -> Float32Array:
    """Compute a clip's features, the input of SPOTER: (T, 2K), float32, x and y interleaved: x0, y0, x1, y1, ….

    `points` (T, K, 2) are a layout's points (`Layout.select`) in image units, y down, NaN = missing. `scheme` is one of
    `SCHEMES` and fits the layout (`check_scheme`). Raises ``no_usable_frames`` if no frame holds any of the layout's
    points, or no frame has a body box.
    """
    [features] = normalize_clips([points], layout, scheme)
    if isinstance(features, InputError):
        raise features
    return features


def normalize_clips(clips: Sequence[Float32Array], layout: Layout, scheme: str) -> list[Float32Array | InputError]:
    """Return for each clip the features that `normalize` returns, or the error that it raises.

    Much faster than one `normalize` per clip: on arrays this small, most of the time is NumPy's overhead per call.
    """
    results: dict[int, Float32Array | InputError] = {}
    for i, points in enumerate(clips):
        if np.isnan(points).all():
            problem = f"found no landmark of layout {layout.name} in any of {len(points)} frames"
            results[i] = InputError(ErrorCode.NO_USABLE_FRAMES, f"{problem}, expected a person in at least one")
    for group in _group([i for i in range(len(clips)) if i not in results], clips):
        lengths = np.array([len(clips[i]) for i in group])
        starts = np.cumsum(lengths) - lengths
        # float64: a small hand's box divides by hundredths, and the result must match the original within 1e-6
        points64 = np.concatenate([clips[i] for i in group], dtype=np.float64)
        features, has_box = _normalize_frames(points64, layout, scheme, starts)
        for i, start, length, boxed in zip(group, starts, lengths, has_box, strict=True):
            results[i] = features[start : start + length]
            if not boxed:
                problem = f"found both shoulders and an eye in none of {length} frames, expected them in at least one"
                reason = "they give the size of the signer"
                results[i] = InputError(ErrorCode.NO_USABLE_FRAMES, f"{problem}: {reason}")
    return [results[i] for i in range(len(clips))]


def _group(indices: Sequence[int], clips: Sequence[Float32Array]) -> Iterator[list[int]]:
    """Yield lists of `indices`; the clips of a list are normalized together."""
    group: list[int] = []
    frames = 0
    for i in indices:
        if group and frames + len(clips[i]) > _MAX_FRAMES_TOGETHER:
            yield group
            group, frames = [], 0
        group.append(i)
        frames += len(clips[i])
    if group:
        yield group


def _normalize_frames(
    points: Float64Array, layout: Layout, scheme: str, starts: IndexArray
) -> tuple[Float32Array, BoolArray]:
    """Return the features (T, 2K) of the clips that begin at `starts`, and whether each clip has a body box."""
    has_box = np.ones(len(starts), dtype=bool)
    if scheme == "bohacek":  # their data come from Apple Vision, where y points up
        points = np.stack([points[..., 0], 1 - points[..., 1]], axis=-1)
    out = points.copy()
    if scheme != "none":
        corners = _box_corners(points, layout) if scheme == "box" else _bohacek_corners(points, layout)
        start, end, has_box = _fill_boxes(*corners, starts)
        _rescale(out, points, layout.section("pose", "face"), start, end)
        for section in _HANDS:
            hand = layout.section(section)
            _rescale(out, points, hand, *_hand_box(points[:, hand]))
    if scheme != "bohacek":
        _copy_wrists(out, points, layout)
    out[np.isnan(out)] = 0
    out -= 0.5
    return out.astype(np.float32).reshape(len(out), -1), has_box


def _box_corners(points: Float64Array, layout: Layout) -> tuple[Float64Array, Float64Array]:
    """Return the corners (T, 2) of each frame's body box in scheme ``box``.

    The picture's center and the factors 3, 1/2 and 4.5 on half the shoulder width are those of the original.
    """

    def at(name: str) -> Float64Array:
        column = layout.column(name)
        return points[:, column] if column is not None else np.full((len(points), 2), np.nan)

    half = np.linalg.norm(at("pose_left_shoulder") - at("pose_right_shoulder"), axis=1) / 2
    eye = at("pose_right_eye")[:, 1]
    for substitute in ("pose_left_eye", "pose_nose"):
        eye = np.where(np.isnan(eye), at(substitute)[:, 1], eye)
    start = np.stack([0.5 - 3 * half, eye - half / 2], axis=1)
    return start, np.stack([0.5 + 3 * half, 0.5 + 4.5 * half], axis=1)


def _bohacek_corners(points: Float64Array, layout: Layout) -> tuple[Float64Array, Float64Array]:
    """Return the corners (T, 2) of each frame's body box in scheme ``bohacek``; y points up.

    The box is six heads wide and high. A head is the distance between the shoulders, or else between neck and nose.
    """
    left, right, eye, nose, neck = (points[:, layout.names.index(name)] for name in _NEEDED["bohacek"])
    head = np.linalg.norm(left - right, axis=1)
    head = np.where(np.isnan(head), np.linalg.norm(neck - nose, axis=1), head)
    # As in the original, no side of the box lies below 0.
    x0, x1 = neck[:, 0] - 3 * head, neck[:, 0] + 3 * head
    y1 = eye[:, 1] + head
    y0 = y1 - 6 * head
    return np.maximum(np.stack([x0, y0], axis=1), 0), np.maximum(np.stack([x1, y1], axis=1), 0)


def _copy_wrists(out: Float64Array, points: Float64Array, layout: Layout) -> None:
    """Write the pose's wrist of `points` (T, K, 2), if it is known, into each point of a missing hand."""
    for section, name in _HANDS.items():
        hand, wrist = layout.section(section), layout.column(name)
        if wrist is not None:
            absent = np.flatnonzero(np.isnan(points[:, hand]).all(axis=(1, 2)))
            if len(absent):
                out[np.ix_(absent, hand)] = points[absent, wrist, None]


def _fill_boxes(
    start: Float64Array, end: Float64Array, starts: IndexArray
) -> tuple[Float64Array, Float64Array, BoolArray]:
    """Fill in the box of frames without one: the last box before the frame, or else the first box of the clip.

    The corners `start` and `end` have shape (T, 2); corners that are NaN or equal are no box. `starts` (C,) is the
    first frame of each clip. Returns the corners, and whether each clip has a box (C,).
    """
    boxed = _is_box(end - start)
    if boxed.all():
        return start, end, np.ones(len(starts), dtype=bool)
    frames, nowhere = np.arange(len(boxed)), len(boxed)
    first = np.minimum.reduceat(np.where(boxed, frames, nowhere), starts)
    last = np.maximum.accumulate(np.where(boxed, frames, -1))
    clip = np.searchsorted(starts, frames, side="right") - 1
    source = np.where(last < starts[clip], first[clip], last)  # before a clip's first box, `last` is another clip's
    source = np.minimum(source, nowhere - 1)  # keeps the index valid; a clip without any box is an error
    return start[source], end[source], first < nowhere


def _is_box(size: Float64Array) -> BoolArray:
    """Return which boxes of these sizes (T, 2) have a width and a height."""
    large: BoolArray = np.abs(size) > _SMALLEST_BOX  # False for NaN
    return large[:, 0] & large[:, 1]


def _hand_box(hand: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Return the corners (T, 2) of a square around each frame's hand (T, P, 2), with a margin of a tenth of its side.

    The corners are NaN if the hand is missing, and equal if it has neither width nor height.
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


def _rescale(
    out: Float64Array, points: Float64Array, columns: IndexArray, start: Float64Array, end: Float64Array
) -> None:
    """Write `columns` of `points` (T, K, 2) into `out` relative to each frame's box, or unchanged without a box."""
    size = end - start
    usable = _is_box(size)
    size = np.where(usable[:, None], size, 1.0)[:, None]
    raw = points[:, columns]
    moved = usable[:, None] & (raw[..., 0] != 0)
    out[:, columns] = np.where(moved[..., None], (raw - start[:, None]) / size, raw)
