"""Reading a clip to look at it: as a server would, and where that refuses it, as far as it can be read all the same."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spoter.errors import InputError, SpoterError
from spoter.formats import Limits, Options
from spoter.landmarks.clip import Clip, make_clip
from spoter.landmarks.layouts import BUILT_IN, Layout, load_layout
from spoter.landmarks.normalize import normalize
from spoter.sources.clip_files import LIMITS, clips_in, read_body

_IN_PIXELS = ("missing_image_size", "out_of_range")
# Larger than any coordinate in pixels, so that all of them come out as fractions of it.
_ANY_PICTURE = 100_000.0


@dataclass(frozen=True)
class Shown:
    """A clip to look at.

    Attributes
    ----------
    clip : Clip
    layout : Layout
        The one it is shown by: the model's, or another built-in one where the clip has no points of that.
    points : numpy.ndarray, shape (T, K, 2)
        The layout's points in image units, NaN = missing.
    fed : numpy.ndarray or None, shape (T, K, 2)
        What SPOTER is fed; None where the clip cannot be normalised.
    refused : str
        Why a server would refuse the clip, with the error's code; "" where it would not.
    notes : list of str
        What else has to be said about how it was read.
    number, clips : int
        Which clip of how many in the file.
    """

    clip: Clip
    layout: Layout
    points: np.ndarray
    fed: np.ndarray | None
    refused: str
    notes: list[str]
    number: int
    clips: int


class _AnyValues(Layout):
    """A layout that asks for nothing: a point out of range is missing, and a clip may be without any point."""

    def uses(self, names: tuple[str, ...], estimator: str | None) -> np.ndarray:
        return np.zeros(len(names), dtype=bool)

    def select(self, clip: Clip) -> np.ndarray:
        return np.zeros((len(clip), len(self), 2), dtype=np.float32)


def read(file: Path, number: int, layout: Layout, scheme: str, limits: Limits, options: Options) -> Shown:
    """Read a clip.

    Parameters
    ----------
    file : Path
        Anything that `spoter predict` reads.
    number : int
        Which of the file's clips.
    layout, scheme, limits
        The model's.
    options : Options

    Raises
    ------
    SpoterError
        As `spoter.sources.clip_files.read_body`, and for a number that the file has no clip of.
    InputError
        What a server would answer, where nothing of the clip can be read at all.
    """
    notes: list[str] = []
    body, content_type = read_body(file, lambda text: notes.append(text.removeprefix(f"{file}: ")))
    count = 1
    try:
        clips = clips_in(body, content_type, layout, limits, options)
        count = len(clips)
        clip = _pick(clips, number, file)
        points, refused = layout.select(clip), ""
    except InputError as error:
        refused = f"{error.code}: {error}"
        clip, points, layout, count = _as_it_is(body, content_type, file, number, layout, options, error, notes)
    try:
        fed = normalize(points, layout, scheme).reshape(points.shape)
    except InputError as error:
        fed, refused = None, refused or f"{error.code}: {error}"
    return Shown(clip, layout, points, fed, refused, notes, number, count)


def _as_it_is(
    body: bytes,
    content_type: str,
    file: Path,
    number: int,
    wanted: Layout,
    options: Options,
    refusal: InputError,
    notes: list[str],
) -> tuple[Clip, np.ndarray, Layout, int]:
    """Read what a server refuses for `refusal`; return the clip, its points by a layout, that layout, and the count."""
    guessing = refusal.code in _IN_PIXELS or options.width is None  # pixels may be a second fault, behind the first
    if guessing:
        options = dataclasses.replace(options, width=_ANY_PICTURE, height=_ANY_PICTURE)
    for layout in (wanted, *(load_layout(name) for name in BUILT_IN if name != wanted.name)):
        try:
            clips = clips_in(body, content_type, _AnyValues(layout.name, layout.landmarks), LIMITS, options)
            clip = _pick(clips, number, file)
            largest = np.nanmax(np.abs(clip.points), initial=0)
            # of fractions nothing was divided
            if guessing and 0 < largest < 0.1:
                side = float(largest * _ANY_PICTURE)
                notes.append(f"points in pixels: drawn as if the picture were {side:.0f} x {side:.0f}")
                clip = make_clip(clip.points / largest, clip.names, clip.estimator, clip.fps)
            points = layout.select(clip)
        except InputError:
            continue
        if layout is not wanted:
            notes.append(f"shown by layout {layout.name}, which it fits")
        return clip, points, layout, len(clips)
    raise refusal


def _pick(clips: list, number: int, file: Path) -> Clip:
    if number >= len(clips):
        raise SpoterError(f"{file}: found {len(clips)} clips, expected --clip 0 to {len(clips) - 1}")
    if isinstance(clips[number], InputError):
        raise clips[number]
    return clips[number]
