"""Checks of a video file's container without decoding: its kind, and the reason why it has no frame.

Only files that start like MP4, QuickTime, Matroska, WebM or AVI reach FFmpeg. Each of FFmpeg's other readers adds
attack surface, and some (playlists) open further files and URLs that a file names. The parent calls `check_container`,
so that other files do not start a child process.
"""

import os
import re
import stat
from pathlib import Path
from typing import BinaryIO

# The boxes that may start an MP4 or QuickTime file: ISO/IEC 14496-12, and QuickTime's `wide`.
_FIRST_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
_EXPECTED = "an MP4, MOV, WebM, MKV or AVI file"
_SEARCHED = 1 << 20  # bytes read from the start of a Matroska or AVI file: its tracks come before its frames
_LARGEST_INDEX = 64 << 20  # bytes read of a moov box
# For each container: the marks of a video and an audio track in the index, and a pattern for the codec. MP4: the first
# sample entry of a track with the handler vide (ISO/IEC 14496-12, 8.4.3 and 8.5.2). Matroska: CodecID (RFC 9559,
# 5.1.4.1.21). AVI: fccHandler in the stream's header.
_TRACKS = {
    "MP4": (b"vide", b"soun", rb"vide.*?stsd.{12}(.{4})"),
    "Matroska": (b"V_", b"A_", rb"V_([\w/]+)"),
    "AVI": (b"vids", b"auds", rb"vids(.{4})"),
}
_CODECS = "H.264, HEVC, VP8, VP9 or MPEG-4"  # the most common codecs that OpenCV's wheel decodes
_UNDECODED = ("av01", "av1")  # OpenCV's wheel decodes AV1 on graphics cards only
_CONVERT = "convert it with `ffmpeg -i VIDEO NEW.mp4`"


class VideoError(Exception):
    """An unusable video: a code of docs/errors.md and a message."""

    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.code, self.message = code, message


def check_container(path: str | Path, max_bytes: int) -> str:
    """Return the kind of a file's container: MP4, Matroska or AVI.

    Raise `VideoError`: ``bad_video`` if it is not a regular file or its container is unknown; ``video_too_large``.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):  # reading a pipe or a device may never end
            raise VideoError("bad_video", f"not a regular file, expected {_EXPECTED}")
        if status.st_size > max_bytes:
            raise VideoError("video_too_large", f"found {status.st_size} bytes, expected at most {max_bytes}")
        with open(path, "rb") as file:
            head = file.read(12)
    except OSError as error:
        raise VideoError("bad_video", f"cannot be read ({error.strerror or error})") from error
    if not head:
        raise VideoError("bad_video", f"found an empty file, expected {_EXPECTED}")
    if head[4:8] in _FIRST_BOXES:
        return "MP4"
    if head[:4] == b"\x1aE\xdf\xa3":
        return "Matroska"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "AVI"
    raise VideoError("bad_video", f"found an unknown kind of file, expected {_EXPECTED}")


def explain_no_frames(path: str, kind: str) -> str:
    """Return the reason why no frame could be decoded, according to the container's index."""
    with open(path, "rb") as file:
        index = _read_moov(file) if kind == "MP4" else file.read(_SEARCHED)
    if index is None:
        return "found an MP4 file without an index (moov), expected a complete file; it is truncated"
    video, audio, pattern = _TRACKS[kind]
    if video not in index:
        tracks = "only audio" if audio in index else "no audio or video track"
        return f"found {tracks} in this {kind} file, expected a video track"
    match = re.search(pattern, index, re.DOTALL)
    codec = match[1].decode("ascii", "replace") if match else "unknown"
    if codec.lower() in _UNDECODED:
        return f"found the codec AV1 in this {kind} file, expected {_CODECS}; {_CONVERT}"
    return (
        f"found no frame in this {kind} file that can be decoded (codec: {codec!r}), expected {_CODECS}; {_CONVERT}, "
        "or record it again if it is truncated"
    )


def _read_moov(file: BinaryIO) -> bytes | None:
    """Return the content of the box moov, or None if it is absent or truncated."""
    end = file.seek(0, os.SEEK_END)
    offset = 0
    while offset + 8 <= end:
        file.seek(offset)
        head = file.read(16)
        size, kind, content = int.from_bytes(head[:4], "big"), head[4:8], 8
        if size == 1:  # the size is 64 bits wide and follows
            size, content = int.from_bytes(head[8:16], "big"), 16
        elif size == 0:  # up to the end of the file
            size = end - offset
        if size < content:
            return None
        if kind == b"moov":
            if offset + size > end:
                return None
            file.seek(offset + content)
            return file.read(min(size - content, _LARGEST_INDEX))
        offset += size
    return None
