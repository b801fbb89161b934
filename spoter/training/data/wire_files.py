"""A clip of a data set in a file of a wire format: what can be sent to a server can be trained on.

A server decodes for its model's layout. A data set is read before anybody has chosen one, so as much is decoded as a
file holds: the landmarks of layouts 54 and 71 together, or else those of the first built-in layout that fits.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from spoter.errors import DataError, InputError
from spoter.formats import Limits, Options, Request, decode
from spoter.formats.request import JSON
from spoter.landmarks.clip import Clip
from spoter.landmarks.layouts import Layout, load_layout
from spoter.sources import clip_files, frame_folders

TYPES = {ending: kind for ending, kind in clip_files.TYPES.items() if ending != ".jsonl"}
"""Content type of each ending: those of `spoter.sources.clip_files` that hold one clip."""

LIMITS = Limits(max_frames=100_000, max_clips=10_000_000, max_bytes=2**36)
"""Those of a server guard it from strangers; a data set is its owner's."""

# 54 before spoter54: 54 points without a name of their layout are layout 54's. 29 last: the least that can be lacking.
_LAYOUTS = ("71", "54", "spoter54", "29")
_ANOTHER_LAYOUT = ("wrong_layout", "unknown_layout")
_DOES_NOT_FIT = (*_ANOTHER_LAYOUT, "missing_landmarks", "missing_columns", "wrong_point_count", "unknown_landmark")


@lru_cache(maxsize=1)
def layouts() -> tuple[Layout, ...]:
    """Return the layouts to decode by, that with the most landmarks first."""
    known = [load_layout(name) for name in _LAYOUTS]
    everything = {landmark.name: landmark for layout in known for landmark in layout.landmarks}
    return (Layout("all", tuple(everything.values())), *known)


def read_clip(path: Path, options: Options = Options()) -> Clip:  # noqa: B008  frozen
    """Read the one clip of a .json, .csv or .npy file, or of a folder of frames (`spoter.sources.frame_folders`).

    Parameters
    ----------
    path : Path
    options : Options
        What the data set says of all its clips; what the file says itself goes before it.

    Raises
    ------
    InputError
        As `spoter.formats.decode`; for points that fit no layout, what the smallest of them lacks.
    DataError
        For a file that cannot be read, or holds another number of clips than one.
    SpoterError
        As `spoter.sources.frame_folders.read`.
    """
    try:
        if path.is_dir():
            body, kind = frame_folders.read(path)[0], JSON
        else:
            body, kind = path.read_bytes(), TYPES[path.suffix.lower()]
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror or error})") from error
    clips = _decode(frame_folders.wrap(body) if kind == JSON else body, kind, options).clips
    if len(clips) != 1:
        raise DataError(f"found {len(clips)} clips, expected one in a file")
    if isinstance(clips[0], InputError):
        raise clips[0]
    return clips[0]


def _decode(body: bytes, content_type: str, options: Options) -> Request:
    refusals = []
    for layout in layouts():
        try:
            request = decode(body, content_type, layout, LIMITS, options)
            error = next((clip for clip in request.clips if isinstance(clip, InputError)), None)
        except InputError as refused:
            error = refused
        if error is None:
            return request
        if error.code not in _DOES_NOT_FIT:
            raise error
        if error.code not in _ANOTHER_LAYOUT:
            refusals.append(error)
    if not refusals:
        raise DataError(f"found points of a layout that is not built in, expected one of {', '.join(_LAYOUTS)}")
    raise refusals[-1]
