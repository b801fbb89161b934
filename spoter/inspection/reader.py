"""Reads a clip for inspection: as a server does, or leniently if a server refuses the clip."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spoter.errors import InputError, SpoterError
from spoter.formats import Limits, Options
from spoter.formats.request import ClipOrError
from spoter.landmarks.arrays import BoolArray, Float32Array
from spoter.landmarks.clip import Clip, make_clip
from spoter.landmarks.layouts import BUILT_IN, Layout, load_layout
from spoter.landmarks.normalize import normalize
from spoter.sources.clip_files import LIMITS, decode_clips, read_body

_ERRORS_OF_PIXELS = ("missing_image_size", "out_of_range")
# Larger than any coordinate in pixels: dividing by it turns all coordinates into fractions.
_HUGE_PICTURE = 100_000.0


@dataclass(frozen=True)
class InspectedClip:
    """A clip to inspect."""

    clip: Clip
    layout: Layout  # the model's, or a built-in layout if the clip lacks points of the model's layout
    points: Float32Array  # (T, K, 2): the layout's points in image units, NaN = missing
    normalized: Float32Array | None  # (T, K, 2): SPOTER's input; None if the clip cannot be normalized
    refusal: str  # the error code and message of a server; "" if it accepts the clip
    notes: list[str]  # warnings from reading the file
    number: int  # number of the clip in the file, from 0
    count: int  # number of clips in the file


class _LenientLayout(Layout):
    """A layout that accepts any clip: points out of range become missing, and all points may be missing."""

    def used_columns(self, names: tuple[str, ...], estimator: str | None) -> BoolArray:
        return np.zeros(len(names), dtype=bool)

    def select(self, clip: Clip) -> Float32Array:
        return np.zeros((len(clip), len(self), 2), dtype=np.float32)


def inspect_clip(
    file: Path, number: int, layout: Layout, scheme: str, limits: Limits, options: Options
) -> InspectedClip:
    """Read clip `number`, from 0, of a file that `spoter predict` reads. Layout, scheme and limits are a model's.

    Raises `SpoterError` as `spoter.sources.clip_files.read_body` does, and for a number that the file lacks. Raises
    `InputError`, the server's error, if even lenient reading fails.
    """
    notes: list[str] = []
    refusal = ""
    body, content_type = read_body(file, lambda text: notes.append(text.removeprefix(f"{file}: ")))
    try:
        clips = decode_clips(body, content_type, layout, limits, options)
        clip = _pick(clips, number, file)
        points = layout.select(clip)
    except InputError as error:
        refusal = f"{error.code}: {error}"
        clips, clip, points, layout = _read_leniently(body, content_type, file, number, layout, options, error, notes)
    normalized: Float32Array | None = None
    try:
        normalized = normalize(points, layout, scheme).reshape(points.shape)
    except InputError as error:
        refusal = refusal or f"{error.code}: {error}"
    return InspectedClip(clip, layout, points, normalized, refusal, notes, number, len(clips))


def _read_leniently(
    body: bytes,
    content_type: str,
    file: Path,
    number: int,
    preferred: Layout,
    options: Options,
    refusal: InputError,
    notes: list[str],
) -> tuple[list[ClipOrError], Clip, Float32Array, Layout]:
    """Read a clip that a server refuses; return all clips, the clip, its points, and the layout of the points."""
    maybe_pixels = refusal.code in _ERRORS_OF_PIXELS or options.width is None  # the points may also be in pixels
    if maybe_pixels:
        options = dataclasses.replace(options, width=_HUGE_PICTURE, height=_HUGE_PICTURE)
    for layout in (preferred, *(load_layout(name) for name in BUILT_IN if name != preferred.name)):
        try:
            lenient = _LenientLayout(layout.name, layout.landmarks)
            clips = decode_clips(body, content_type, lenient, LIMITS, options)
            clip = _pick(clips, number, file)
            largest = np.nanmax(np.abs(clip.points), initial=0)
            if maybe_pixels and 0 < largest < 0.1:  # the points were in pixels, not fractions
                side = float(largest * _HUGE_PICTURE)
                notes.append(f"points in pixels: drawn as if the picture were {side:.0f} x {side:.0f}")
                clip = make_clip(clip.points / largest, clip.names, clip.estimator, clip.fps)
            points = layout.select(clip)
        except InputError:
            continue
        if layout is not preferred:
            notes.append(f"shown in layout {layout.name}, which fits the clip")
        return clips, clip, points, layout
    raise refusal


def _pick(clips: list[ClipOrError], number: int, file: Path) -> Clip:
    if number >= len(clips):
        raise SpoterError(f"{file}: found {len(clips)} clips, expected --clip 0 to {len(clips) - 1}")
    clip = clips[number]
    if isinstance(clip, InputError):
        raise clip
    return clip
