"""Clips in files, as the command line takes them: what can be sent to a server can be kept in a file."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from spoter.error_codes import ErrorCode
from spoter.errors import InputError, SpoterError
from spoter.formats import Limits, Options, decode
from spoter.formats.request import CSV, JSON, JSONLINES, NPY, Video
from spoter.landmarks.clip import Clip
from spoter.landmarks.layouts import Layout
from spoter.sources import frame_folders
from spoter.video.reader import VIDEO_SUFFIXES

TYPES = {".json": JSON, ".csv": CSV, ".npy": NPY, ".jsonl": JSONLINES}
"""Content type that each ending tells."""

LIMITS = Limits(max_frames=100_000, max_clips=100_000, max_bytes=2**31)
"""Of a file of one's own, which is no stranger's request."""


def read_body(file: Path, note: Callable[[str], None] = lambda text: None) -> tuple[bytes, str]:
    """Return what is in a file, and the content type that its ending tells.

    A folder of OpenPose's or MMPose's frames (`spoter.sources.frame_folders`) is read as the JSON body it amounts to, and so is
    a video (`spoter.video`), with a bar on stderr while that takes.

    Parameters
    ----------
    file : Path
    note : callable
        Is told in a line each what has to be said although it is no error: gaps in a folder, several people.

    Raises
    ------
    SpoterError
        For a file that cannot be read, and an ending that tells none.
    InputError
        As `spoter.sources.frame_folders.read`, and as `spoter.video.reader.read`.
    """
    if file.is_dir():
        body, notes = frame_folders.read(file)
        for text in (*notes, *_crowd(body)):
            note(f"{file}: {text}")
        return body, JSON
    ending = file.suffix.lower()
    if ending in VIDEO_SUFFIXES:
        return _landmarks_of(file, note), JSON
    try:
        if ending not in TYPES:
            file.stat()  # of what is not there the ending is not the trouble
            known = ", ".join((*TYPES, *VIDEO_SUFFIXES))
            raise SpoterError(f"{file}: found {ending or 'no ending'}, expected one of {known}, or a folder of frames")
        body = file.read_bytes()
    except OSError as error:
        raise SpoterError(f"{file}: {error.strerror or error}") from error
    if TYPES[ending] == JSON:
        body = frame_folders.wrap(body)
        for text in _crowd(body):
            note(f"{file}: {text}")
    return body, TYPES[ending]


def clips_in(
    body: bytes, content_type: str, layout: Layout, limits: Limits, options: Options
) -> list[Clip | InputError]:
    """Return the clips of a file's body, as `spoter.formats.decode` reads them.

    Raises
    ------
    InputError
        As `spoter.formats.decode`; and for a request that a server can answer, but that holds no clip:
        ``no_stored_videos`` for the key of a stored video, ``unknown_form`` for ``describe``.
    """
    request = decode(body, content_type, layout, limits, options)
    if request.describe:
        raise InputError(ErrorCode.UNKNOWN_FORM, "found describe, expected a clip")
    if any(isinstance(clip, Video) for clip in request.clips):
        raise InputError(
            ErrorCode.NO_STORED_VIDEOS, "found the key of a stored video, expected the video itself, or its landmarks"
        )
    return request.clips


def read_clips(
    files: Iterable[Path],
    layout: Layout,
    options: Options = Options(),  # noqa: B008  frozen
    note: Callable[[str], None] = lambda text: None,
) -> list[Clip]:
    """Read all clips of some files; `note` as for `read_body`.

    Raises
    ------
    SpoterError
        As `read_body`.
    InputError
        For the first clip that cannot be used, with its file before its place.
    """
    clips = []
    for file in files:
        body, content_type = read_body(file, note)
        try:
            for clip in clips_in(body, content_type, layout, LIMITS, options):
                if isinstance(clip, InputError):
                    raise clip
                clips.append(clip)
        except InputError as error:
            raise error.within(str(file)) from None
    return clips


def _landmarks_of(video: Path, note: Callable[[str], None]) -> bytes:
    """Return the body that a video's landmarks amount to."""
    from spoter.video.progress import read_video
    from spoter.video.writers import to_json

    return to_json(read_video(video, note))


class _People(msgspec.Struct):
    people: list[msgspec.Raw] | None = None
    instances: list[msgspec.Raw] | None = None


class _Frames(msgspec.Struct):
    frames: list[_People | None] | None = None
    instance_info: list[_People | None] | None = None


def _crowd(body: bytes) -> list[str]:
    """Say where a JSON body has several people in a frame; nothing of a body that no decoder will read either."""
    try:
        content = msgspec.json.decode(body, type=_Frames)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []
    frames = [frame for frame in content.frames or content.instance_info or () if frame is not None]
    several = sum(len(frame.people or frame.instances or ()) > 1 for frame in frames)
    if not several:
        return []
    return [f"several people in {several} of {len(frames)} frames: the one who is largest for longest is followed"]
