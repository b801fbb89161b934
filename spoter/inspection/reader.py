"""Reads a clip to look at it: as a server does, and a clip that a server refuses, as far as it is readable."""

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
# Larger than any coordinate in pixels, so that all of them become fractions.
_HUGE_PICTURE = 100_000.0


@dataclass(frozen=True)
class InspectedClip:
    """A clip to look at."""

    clip: Clip
    layout: Layout  # the model's, or another built-in one if the clip lacks points of that
    points: Float32Array  # (T, K, 2), the layout's points in image units, NaN = missing
    normalized: Float32Array | None  # (T, K, 2), SPOTER's input; None if the clip cannot be normalized
    refusal: str  # why a server refuses the clip, with the error's code; "" if it does not
    notes: list[str]  # warnings about the reading
    number: int  # of the clip in the file, from 0
    count: int  # of clips in the file


class _LenientLayout(Layout):
    """A layout that requires nothing: a point out of range is missing, and a clip may be without any point."""

    def used_columns(self, names: tuple[str, ...], estimator: str | None) -> BoolArray:
        return np.zeros(len(names), dtype=bool)

    def select(self, clip: Clip) -> Float32Array:
        return np.zeros((len(clip), len(self), 2), dtype=np.float32)


def inspect_clip(
    file: Path, number: int, layout: Layout, scheme: str, limits: Limits, options: Options
) -> InspectedClip:
    """Read the clip with a `number`, from 0, of a file that `spoter predict` reads; layout to limits are a model's.

    Raise `SpoterError` as `spoter.sources.clip_files.read_body`, and for a number that the file lacks; `InputError`,
    the server's error, if nothing of the clip is readable.
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
    wanted: Layout,
    options: Options,
    refusal: InputError,
    notes: list[str],
) -> tuple[list[ClipOrError], Clip, Float32Array, Layout]:
    """Read a clip that a server refuses; return all clips, this one, its points by a layout, and that layout."""
    maybe_pixels = refusal.code in _ERRORS_OF_PIXELS or options.width is None  # pixels may be a second fault
    if maybe_pixels:
        options = dataclasses.replace(options, width=_HUGE_PICTURE, height=_HUGE_PICTURE)
    for layout in (wanted, *(load_layout(name) for name in BUILT_IN if name != wanted.name)):
        try:
            lenient = _LenientLayout(layout.name, layout.landmarks)
            clips = decode_clips(body, content_type, lenient, LIMITS, options)
            clip = _pick(clips, number, file)
            largest = np.nanmax(np.abs(clip.points), initial=0)
            if maybe_pixels and 0 < largest < 0.1:  # fractions were not divided by the size
                side = float(largest * _HUGE_PICTURE)
                notes.append(f"points in pixels: drawn as if the picture were {side:.0f} x {side:.0f}")
                clip = make_clip(clip.points / largest, clip.names, clip.estimator, clip.fps)
            points = layout.select(clip)
        except InputError:
            continue
        if layout is not wanted:
            notes.append(f"shown by layout {layout.name}, which it fits")
        return clips, clip, points, layout
    raise refusal


def _pick(clips: list[ClipOrError], number: int, file: Path) -> Clip:
    if number >= len(clips):
        raise SpoterError(f"{file}: found {len(clips)} clips, expected --clip 0 to {len(clips) - 1}")
    clip = clips[number]
    if isinstance(clip, InputError):
        raise clip
    return clip
