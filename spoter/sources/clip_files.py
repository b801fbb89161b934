"""Clips in files, for the command line: a file may hold any body that a server accepts."""

from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from spoter.error_codes import ErrorCode
from spoter.errors import InputError, SpoterError
from spoter.files import naming_errors
from spoter.formats import Limits, Options, decode
from spoter.formats.request import CSV, JSON, JSONLINES, NPY, ClipOrError
from spoter.landmarks.clip import Clip
from spoter.landmarks.layouts import Layout
from spoter.sources import frame_folders
from spoter.video.reader import VIDEO_SUFFIXES

CONTENT_TYPES = {".json": JSON, ".csv": CSV, ".npy": NPY, ".jsonl": JSONLINES}
"""The content type for each file extension."""

LIMITS = Limits(max_frames=100_000, max_clips=100_000, max_bytes=2**31)
"""Limits for the user's own files; a server's limits guard against strangers."""


def read_body(file: Path, note: Callable[[str], None] = lambda text: None) -> tuple[bytes, str]:
    """Return a file's content and its content type.

    A folder of OpenPose or MMPose frames (`spoter.sources.frame_folders`) is converted to the equivalent JSON body. So
    is a video (`spoter.video`), with a progress bar on stderr. `note` is called with each warning, one line of text:
    gaps in a folder, several people.

    Raise `SpoterError` for an unreadable file or an unknown extension, and the errors of
    `spoter.sources.frame_folders.read_frame_folder` and `spoter.video.reader.read`.
    """
    if file.is_dir():
        body, notes = frame_folders.read_frame_folder(file)
        for text in (*notes, *_several_people(body)):
            note(f"{file}: {text}")
        return body, JSON
    ending = file.suffix.lower()
    if ending in VIDEO_SUFFIXES:
        from spoter.video.progress import read_video
        from spoter.video.writers import to_json

        return to_json(read_video(file, note)), JSON
    with naming_errors(file):
        if ending not in CONTENT_TYPES:
            file.stat()  # report a missing file rather than its extension
            extensions = ", ".join((*CONTENT_TYPES, *VIDEO_SUFFIXES))
            raise SpoterError(f"{file}: found {ending or 'no extension'}, expected {extensions}, or a folder of frames")
        body = file.read_bytes()
    if CONTENT_TYPES[ending] == JSON:
        body = frame_folders.wrap_frame_list(body)
        for text in _several_people(body):
            note(f"{file}: {text}")
    return body, CONTENT_TYPES[ending]


def decode_clips(body: bytes, content_type: str, layout: Layout, limits: Limits, options: Options) -> list[ClipOrError]:
    """Return the clips of a file's body, decoded by `spoter.formats.decode`.

    Raise its `InputError`, and for a request without a clip ``no_stored_videos`` (the key of a stored video) or
    ``unknown_form`` (``describe``).
    """
    request = decode(body, content_type, layout, limits, options)
    if request.describe:
        raise InputError(ErrorCode.UNKNOWN_FORM, "found 'describe', expected a clip")
    if request.video is not None:
        raise InputError(ErrorCode.NO_STORED_VIDEOS, "found the key of a stored video, expected a video or landmarks")
    return request.clips


def read_clips(
    files: Iterable[Path],
    layout: Layout,
    options: Options = Options(),  # noqa: B008  frozen
    note: Callable[[str], None] = lambda text: None,
) -> list[Clip]:
    """Read all clips of some files; `note` and errors are those of `read_body`.

    Raise `InputError` for the first unusable clip; its place starts with the file.
    """
    clips = []
    for file in files:
        body, content_type = read_body(file, note)
        try:
            for clip in decode_clips(body, content_type, layout, LIMITS, options):
                if isinstance(clip, InputError):
                    raise clip
                clips.append(clip)
        except InputError as error:
            raise error.within(str(file)) from None
    return clips


class _Frame(msgspec.Struct):
    people: list[msgspec.Raw] | None = None
    instances: list[msgspec.Raw] | None = None


class _Frames(msgspec.Struct):
    frames: list[_Frame | None] | None = None
    instance_info: list[_Frame | None] | None = None


def _several_people(body: bytes) -> list[str]:
    """Return a warning if frames of a JSON body show several people; none for a body that cannot be decoded."""
    try:
        content = msgspec.json.decode(body, type=_Frames)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []
    frames = [frame for frame in content.frames or content.instance_info or () if frame is not None]
    several = sum(len(frame.people or frame.instances or ()) > 1 for frame in frames)
    if not several:
        return []
    return [f"several people in {several} of {len(frames)} frames; the one who is largest over all frames is followed"]
