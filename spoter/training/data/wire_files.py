"""A clip of a data set in a file of a wire format: a request that can be sent to a server is training data, too.

A server decodes for its model's layout. A data set is read before a layout is chosen, so a clip keeps as much as its
file holds: the landmarks of layouts 54 and 71 together, or else those of the first built-in layout that fits.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from spoter.error_codes import ErrorCode
from spoter.errors import DataError, InputError
from spoter.formats import Limits, Options
from spoter.formats.request import JSON
from spoter.landmarks.clip import Clip
from spoter.landmarks.layouts import Layout, load_layout
from spoter.sources import clip_files, frame_folders

TYPES = {ending: kind for ending, kind in clip_files.CONTENT_TYPES.items() if ending != ".jsonl"}
"""Content type of each ending: those of `spoter.sources.clip_files` that hold one clip."""

LIMITS = Limits(max_frames=100_000, max_clips=10_000_000, max_bytes=2**36)
"""A server's limits guard against strangers; a data set is its owner's."""

# 54 before spoter54: 54 points without a layout's name are layout 54's. 29 last: it needs the fewest landmarks.
_LAYOUTS = ("71", "54", "spoter54", "29")
_OTHER_LAYOUT = (ErrorCode.WRONG_LAYOUT, ErrorCode.UNKNOWN_LAYOUT)
_DOES_NOT_FIT = (
    ErrorCode.MISSING_LANDMARKS,
    ErrorCode.MISSING_COLUMNS,
    ErrorCode.WRONG_POINT_COUNT,
    ErrorCode.UNKNOWN_LANDMARK,
)


@lru_cache(maxsize=1)
def candidate_layouts() -> tuple[Layout, ...]:
    """Return the layouts to decode by, the one with the most landmarks first."""
    layouts = [load_layout(name) for name in _LAYOUTS]
    everything = {landmark.name: landmark for layout in layouts for landmark in layout.landmarks}
    return (Layout("all", tuple(everything.values())), *layouts)


def read_clip(path: Path, options: Options = Options()) -> Clip:  # noqa: B008  frozen
    """Read the one clip of a .json, .csv or .npy file, or of a folder of frames (`spoter.sources.frame_folders`).

    `options` are those of all clips of the data set; the file's own win. Raises `InputError` as
    `spoter.formats.decode`; for points that fit no layout, the error for the smallest. Raises `DataError` for a file
    that cannot be read, or does not hold exactly one clip, and `SpoterError` as
    `spoter.sources.frame_folders.read_frame_folder`.
    """
    try:
        if path.is_dir():
            body, content_type = frame_folders.read_frame_folder(path)[0], JSON
        else:
            body, content_type = path.read_bytes(), TYPES[path.suffix.lower()]
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror or error})") from error
    if content_type == JSON:
        body = frame_folders.wrap_frame_list(body)
    misfit: InputError | None = None
    for layout in candidate_layouts():
        try:
            return _decode(body, content_type, layout, options)
        except InputError as error:
            if error.code in _DOES_NOT_FIT:
                misfit = error
            elif error.code not in _OTHER_LAYOUT:
                raise
    raise misfit or DataError(f"found points of a layout that is not built in, expected one of {', '.join(_LAYOUTS)}")


def _decode(body: bytes, content_type: str, layout: Layout, options: Options) -> Clip:
    """Return the one clip of a body; the first bad clip's error goes before the number of clips."""
    clips = clip_files.decode_clips(body, content_type, layout, LIMITS, options)
    good: list[Clip] = []
    for clip in clips:
        if isinstance(clip, InputError):
            raise clip
        good.append(clip)
    if len(good) != 1:
        raise DataError(f"found {len(good)} clips, expected one in a file")
    return good[0]
