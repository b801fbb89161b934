"""Clips in files, as the command line takes them: what can be sent to a server can be kept in a file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from spoter.clip import Clip
from spoter.errors import InputError, SpoterError
from spoter.formats import Limits, Options, decode
from spoter.formats.request import CSV, JSON, JSONLINES, NPY
from spoter.layouts import Layout

TYPES = {".json": JSON, ".csv": CSV, ".npy": NPY, ".jsonl": JSONLINES}
"""Content type that each ending tells."""

# A file of one's own, not a stranger's request.
_LIMITS = Limits(max_frames=100_000, max_clips=100_000, max_bytes=2**31)


def read_body(file: Path) -> tuple[bytes, str]:
    """Return what is in a file, and the content type that its ending tells.

    Raises
    ------
    SpoterError
        For a file that cannot be read, and an ending that tells none.
    """
    if file.suffix not in TYPES:
        raise SpoterError(f"{file}: found {file.suffix or 'no ending'}, expected one of {', '.join(TYPES)}")
    try:
        return file.read_bytes(), TYPES[file.suffix]
    except OSError as error:
        raise SpoterError(f"{file}: {error.strerror or error}") from error


def read_clips(files: Iterable[Path], layout: Layout, options: Options = Options()) -> list[Clip]:  # noqa: B008  frozen
    """Read all clips of some files.

    Raises
    ------
    SpoterError
        As `read_body`.
    InputError
        For the first clip that cannot be used, with its file before its place.
    """
    clips = []
    for file in files:
        body, content_type = read_body(file)
        try:
            for clip in decode(body, content_type, layout, _LIMITS, options).clips:
                if isinstance(clip, InputError):
                    raise clip
                clips.append(clip)
        except InputError as error:
            raise error.within(str(file)) from None
    return clips
