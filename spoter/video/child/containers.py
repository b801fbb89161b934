"""What can be told of a video file without decoding it: that it is one, and why a decoder found nothing in it.

Only files that begin as MP4, QuickTime, Matroska, WebM or AVI are handed to FFmpeg. Its other readers are as many ways
in, and some of them (playlists) open further files and addresses that a file names.
"""

from __future__ import annotations

import os
import stat
from typing import BinaryIO

# The boxes that an MP4 or QuickTime file may begin with: ISO/IEC 14496-12, and QuickTime's own `wide`.
_FIRST_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
_EXPECTED = "an MP4, MOV, WebM, MKV or AVI file"
_SEARCHED = 1 << 20  # bytes of the head of a Matroska file: its tracks come before its pictures
_LARGEST_INDEX = 64 << 20  # bytes of a moov box


class Refused(Exception):
    """A video that is not read: a code of docs/errors.md, and a sentence."""

    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.code, self.message = code, message


def check(path: str, max_bytes: int) -> str:
    """Return which kind of container a file is.

    Raises
    ------
    Refused
        ``bad_video`` for what is no file or no container known here, ``video_too_large`` for too many bytes.
    """
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):  # a pipe or a device never ends
            raise Refused("bad_video", f"found what is no regular file, expected {_EXPECTED}")
        if found.st_size > max_bytes:
            raise Refused("video_too_large", f"found {found.st_size} bytes, expected at most {max_bytes}")
        with open(path, "rb") as file:
            head = file.read(12)
    except OSError as error:
        raise Refused("bad_video", f"cannot be read ({error.strerror or error})") from error
    if not head:
        raise Refused("bad_video", f"found an empty file, expected {_EXPECTED}")
    if head[4:8] in _FIRST_BOXES:
        return "MP4"
    if head[:4] == b"\x1aE\xdf\xa3":
        return "Matroska"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "AVI"
    raise Refused("bad_video", f"found no video, expected {_EXPECTED}")


def why_nothing(path: str, kind: str) -> str:
    """Say why no frame of a container could be decoded, as far as its index tells."""
    with open(path, "rb") as file:
        if kind == "MP4":
            index = _moov(file)
            if index is None:
                return "found an MP4 file without its index (moov), expected a whole file; this one was cut short"
            pictures, sound = b"vide" in index, b"soun" in index
        else:
            head = file.read(_SEARCHED)
            pictures, sound = (b"V_" in head, b"A_" in head) if kind == "Matroska" else (b"vids" in head, True)
    if not pictures:
        return f"found {'only sound' if sound else 'no track of pictures'} in this {kind} file, expected pictures"
    return (
        f"found no frame in this {kind} file that can be decoded, expected at least one; it was cut short, or is "
        "written by a codec that is not known here (H.264, HEVC, VP8, VP9, AV1 and MPEG-4 are)"
    )


def _moov(file: BinaryIO) -> bytes | None:
    """Return what is in the box moov, or None where there is none, or only a part of it."""
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
