"""Clips of a data set in files of a wire format: every request to a server can also be training data.

A server decodes for the layout of its model. A data set is read before a layout is chosen, so a clip keeps as many
landmarks as possible: those of layouts 54 and 71 together, or else those of the first built-in layout that fits.
"""

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
"""Content type of each file ending of `spoter.sources.clip_files` for files with one clip."""

LIMITS = Limits(max_frames=100_000, max_clips=10_000_000, max_bytes=2**36)
"""A server limits requests from strangers; a data set is trusted."""

# 54 before spoter54: 54 points without the name of a layout are those of layout 54. 29 last: it needs the fewest.
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
    """Return the layouts to try when decoding, the one with the most landmarks first."""
    layouts = [load_layout(name) for name in _LAYOUTS]
    everything = {landmark.name: landmark for layout in layouts for landmark in layout.landmarks}
    return (Layout("all", tuple(everything.values())), *layouts)


def read_clip(path: Path, options: Options = Options()) -> Clip:  # noqa: B008  frozen
    """Read the one clip of a .json, .csv or .npy file, or of a folder of frames (`spoter.sources.frame_folders`).

    `options` hold for all clips of the data set; options in the file override them. Raises `InputError` as
    `spoter.formats.decode`; for points that fit no layout, the error for the smallest layout. Raises `DataError` for a
    file that cannot be read or does not hold exactly one clip, and `SpoterError` as
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
    layout_error: InputError | None = None
    for layout in candidate_layouts():
        try:
            return _decode(body, content_type, layout, options)
        except InputError as error:
            if error.code in _DOES_NOT_FIT:
                layout_error = error
            elif error.code not in _OTHER_LAYOUT:
                raise
    raise layout_error or DataError(f"found a layout that is not built in, expected one of {', '.join(_LAYOUTS)}")


def _decode(body: bytes, content_type: str, layout: Layout, options: Options) -> Clip:
    """Return the only clip of a body; raise the error of a bad clip before an error for the number of clips."""
    clips = clip_files.decode_clips(body, content_type, layout, LIMITS, options)
    valid: list[Clip] = []
    for clip in clips:
        if isinstance(clip, InputError):
            raise clip
        valid.append(clip)
    if len(valid) != 1:
        raise DataError(f"found {len(valid)} clips, expected one clip per file")
    return valid[0]
