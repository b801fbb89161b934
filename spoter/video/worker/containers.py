"""The container of a video file, read without decoding: its kind, and why a decoder found no frame in it.

Only files that begin as MP4, QuickTime, Matroska, WebM or AVI reach FFmpeg. Each of its other readers is one more thing
to attack, and some of them (playlists) open further files and addresses that a file names. The parent calls
`check_container`, so that a file that is no video starts no child.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import BinaryIO

# The boxes that may come first in an MP4 or QuickTime file: ISO/IEC 14496-12, and QuickTime's own `wide`.
_FIRST_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
_EXPECTED = "an MP4, MOV, WebM, MKV or AVI file"
_SEARCHED = 1 << 20  # bytes of the head of a Matroska file: its tracks come before its pictures
_LARGEST_INDEX = 64 << 20  # bytes of a moov box
# By container: what a track of pictures and one of sound have in the index, and where the codec is named. MP4: in the
# first sample entry of a track whose handler is vide (ISO/IEC 14496-12, 8.4.3 and 8.5.2); Matroska: its CodecID
# (RFC 9559, 5.1.4.1.21); AVI: fccHandler of the stream's header.
_TRACKS = {
    "MP4": (b"vide", b"soun", rb"vide.*?stsd.{12}(.{4})"),
    "Matroska": (b"V_", b"A_", rb"V_([\w/]+)"),
    "AVI": (b"vids", b"auds", rb"vids(.{4})"),
}
_CODECS = "H.264, HEVC, VP8, VP9 or MPEG-4"  # the most common codecs that OpenCV's wheel decodes
_UNDECODED = ("av01", "av1")  # it only hands AV1 to graphics cards
_CONVERT = "`ffmpeg -i VIDEO NEW.mp4` makes one that is read"


class VideoError(Exception):
    """A video cannot be read: a code of docs/errors.md, and a message."""

    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.code, self.message = code, message


def check_container(path: str | Path, max_bytes: int) -> str:
    """Return the kind of container of a file: MP4, Matroska or AVI.

    Raise `VideoError`: ``bad_video`` for no regular file and an unknown container, ``video_too_large``.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):  # a pipe or a device never ends
            raise VideoError("bad_video", f"found what is no regular file, expected {_EXPECTED}")
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
    raise VideoError("bad_video", f"found no video, expected {_EXPECTED}")


def explain_no_frames(path: str, kind: str) -> str:
    """Return why no frame of a container could be decoded, as far as its index tells."""
    with open(path, "rb") as file:
        index = _read_moov(file) if kind == "MP4" else file.read(_SEARCHED)
    if index is None:
        return "found an MP4 file without its index (moov), expected a whole file; this one was cut short"
    pictures, sound, pattern = _TRACKS[kind]
    if pictures not in index:
        found = "only sound" if sound in index else "no track of pictures"
        return f"found {found} in this {kind} file, expected pictures"
    named = re.search(pattern, index, re.DOTALL)
    codec = named[1].decode("ascii", "replace") if named else "not named"
    if codec.lower() in _UNDECODED:
        return f"found the codec AV1 in this {kind} file, which is not decoded here, expected {_CODECS}; {_CONVERT}"
    return (
        f"found no frame in this {kind} file that can be decoded (codec: {codec!r}), expected {_CODECS}; it was cut "
        f"short, or else {_CONVERT}"
    )


def _read_moov(file: BinaryIO) -> bytes | None:
    """Return the content of the box moov, None if it is absent or truncated."""
    end = file.seek(0, os.SEEK_END)
    place = 0
    while place + 8 <= end:
        file.seek(place)
        head = file.read(16)
        size, kind, content = int.from_bytes(head[:4], "big"), head[4:8], 8
        if size == 1:  # the size is 64 bits wide and follows
            size, content = int.from_bytes(head[8:16], "big"), 16
        elif size == 0:  # up to the end of the file
            size = end - place
        if size < content:
            return None
        if kind == b"moov":
            if place + size > end:
                return None
            file.seek(place + content)
            return file.read(min(size - content, _LARGEST_INDEX))
        place += size
    return None
