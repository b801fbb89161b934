"""A strict reader of gzipped tar files, for `spoter.ops.archive`.

Unpackers differ on damaged headers: Python's tarfile stops at the first one without an error, GNU tar skips to the next
valid header, and TorchServe 0.12.0 (Commons Compress) verifies no checksum. They also differ on several gzip members
and on bytes after the end marker. This reader refuses everything that they may read differently. It accepts files and
folders in the form that Python's tarfile and GNU tar write: ustar headers, with pax records for names and times.
`python -m stress.archive_differential` compares it with both unpackers.
"""

import io
import re
import struct
import zlib
from collections.abc import Callable, Iterator

_BLOCK, _CHUNK = 512, 2**20
# POSIX.1-2017, pax: name, mode, uid, gid, size, mtime, checksum, type, link, magic with version, user, group, device
# numbers, prefix; the last 12 bytes have no meaning.
_HEADER = struct.Struct("100s8s8s8s12s12s8s1s100s8s32s32s8s8s155s12s")
_CHECKSUM = slice(148, 156)
_USTAR, _GNU = b"ustar\x0000", b"ustar  \0"
_OCTAL = re.compile(rb"[0-7]+[ \0]*")
_FILE, _FOLDER, _PAX = (b"0", b"\0"), b"5", b"x"
_RECORD = re.compile(rb"([1-9][0-9]{0,4}) ([A-Za-z]+)=")
_PAX_VALUES = {
    b"path": re.compile(rb"[^\0]+"),
    # Commons Compress reads up to 19 digits after the decimal point.
    **dict.fromkeys((b"mtime", b"atime", b"ctime"), re.compile(rb"[0-9]{1,11}(\.[0-9]{1,19})?")),
    **dict.fromkeys((b"uid", b"gid"), re.compile(rb"[0-9]{1,9}")),
}
_MOST_PAX = 2**13


class BadTar(Exception):
    """A tar file that unpackers may read differently; the text gives the offset in the uncompressed tar file."""


Read = Callable[[int], bytes]
"""Return the next bytes of a stream, at most the given number, and none only at the end."""


class GzipStream:
    """The content of a file that holds one gzip member and nothing after it."""

    def __init__(self, file: io.BufferedReader):
        self._file, self._inflate, self._waiting = file, zlib.decompressobj(16 + zlib.MAX_WBITS), b""

    def read(self, size: int) -> bytes:
        """Return the next bytes; the method is a `Read`."""
        while not self._inflate.eof:
            raw = self._waiting or self._file.read(_CHUNK)
            if not raw:
                raise EOFError("the gzip stream is cut off")
            content = self._inflate.decompress(raw, size)
            self._waiting = self._inflate.unconsumed_tail
            if content:
                return content
        if self._inflate.unused_data or self._file.read(1):
            raise BadTar("has bytes after its gzip stream, expected one gzip member")
        return b""


def members(read: Read) -> Iterator[tuple[str, bool, Callable[[], Iterator[bytes]]]]:
    """Yield the name of each file and folder, whether it is a file, and a function that returns its content.

    The content can be read until the next member is requested. The names of folders have no final slash.

    Raises
    ------
    BadTar
        For anything that unpackers may read differently.
    EOFError
        If the file ends before its end marker.
    """
    reader = _Reader(read)
    records: dict[bytes, bytes] = {}
    while (block := reader.take(_BLOCK)) != bytes(_BLOCK):
        place = f"byte {reader.offset - _BLOCK:,}"  # of the header
        kind, name, size = _parse(block, place)
        if kind == _PAX:
            if records or not 0 < size <= _MOST_PAX:
                raise BadTar(f"{place}: found a pax header of {size:,} bytes, expected 1 to {_MOST_PAX:,} bytes")
            records = _pax_records(b"".join(reader.content(size)), place)
            continue
        name, records = records.get(b"path", name), {}
        try:
            text = name.decode()
        except UnicodeDecodeError:
            raise BadTar(f"{place}: found a name that is not UTF-8") from None
        if kind == _FOLDER:
            if size:
                raise BadTar(f"{place}: found a folder of {size:,} bytes, expected 0")
            text = text.removesuffix("/")
        content = reader.content(size)
        yield text, kind != _FOLDER, content.__iter__
        for _ in content:  # the rest that the caller has not read
            pass
    if records:
        raise BadTar(f"byte {reader.offset - _BLOCK:,}: found a pax header without a file after it")
    reader.end()


class _Reader:
    """A reader of exact numbers of bytes from a stream."""

    def __init__(self, read: Read):
        self._read, self.offset = read, 0

    def take(self, size: int) -> bytes:
        parts, left = [], size
        while left:
            part = self._read(left)
            if not part:
                raise EOFError(f"the tar file ends at byte {self.offset:,}, before its end marker")
            parts.append(part)
            left -= len(part)
            self.offset += len(part)
        return b"".join(parts)

    def content(self, size: int) -> Iterator[bytes]:
        """Yield the next bytes, then check that zeros fill their last block."""
        for start in range(0, size, _CHUNK):
            yield self.take(min(_CHUNK, size - start))
        if any(self.take(-size % _BLOCK)):
            raise BadTar(f"byte {self.offset:,}: found nonzero bytes after a file's content, expected zeros")

    def end(self) -> None:
        """Check that the second block of the end marker follows, and then only zeros."""
        rest = bytes(_BLOCK)
        if any(self.take(_BLOCK)):
            raise BadTar(f"byte {self.offset - _BLOCK:,}: found a lone block of zeros, expected an end marker of two")
        while rest:
            rest = self._read(_CHUNK)
            if any(rest):
                raise BadTar(f"byte {self.offset:,}: found nonzero bytes after the end marker, expected zeros")
            self.offset += len(rest)
        if self.offset % _BLOCK:
            raise BadTar(f"found {self.offset:,} bytes, expected a multiple of {_BLOCK}")


def _parse(block: bytes, place: str) -> tuple[bytes, bytes, int]:
    """Return the type and the name in a header, and the size of the content."""
    name, mode, uid, gid, size, mtime, checksum, kind, link, magic, user, group, *device, prefix, rest = _HEADER.unpack(
        block
    )
    for field, octal in (("checksum", checksum), ("size", size), ("mode", mode), ("uid", uid), ("gid", gid)):
        if not _OCTAL.fullmatch(octal):
            raise BadTar(f"{place}: found {field} {octal!r} in a tar header, expected octal digits")
    if not _OCTAL.fullmatch(mtime) or any(number.strip(b" \0") and not _OCTAL.fullmatch(number) for number in device):
        raise BadTar(f"{place}: found a bad time {mtime!r} or device number in a tar header, expected octal digits")
    if _number(checksum) != sum(block) - sum(block[_CHECKSUM]) + 8 * ord(" "):
        raise BadTar(f"{place}: found a tar header with a wrong checksum")
    if magic not in (_USTAR, _GNU) or any(rest) or (magic == _GNU and any(prefix)):
        raise BadTar(f"{place}: found a tar header of another format, expected ustar without extensions")
    if kind not in (*_FILE, _FOLDER, _PAX):
        raise BadTar(f"{place}: found an entry of type {kind!r} (a link, a device or an extension), expected a file")
    if link.strip(b"\0") or any(text.rstrip(b"\0").count(b"\0") for text in (name, user, group, prefix)):
        raise BadTar(f"{place}: found a link name, or bytes after the end of a name, in a tar header")
    if not (user + group).isascii():
        raise BadTar(f"{place}: found an owner's name that is not ASCII; repack with `tar --owner=0 --group=0`")
    name, prefix = name.rstrip(b"\0"), prefix.rstrip(b"\0")
    return kind, prefix + b"/" + name if prefix else name, _number(size)


def _number(octal: bytes) -> int:
    return int(octal.rstrip(b" \0"), 8)


def _pax_records(content: bytes, place: str) -> dict[bytes, bytes]:
    records: dict[bytes, bytes] = {}
    while content:
        start = _RECORD.match(content)
        length = int(start[1]) if start else 0
        record, content = content[:length], content[length:]
        if not start or len(record) != length or not record.endswith(b"\n") or length <= start.end():
            raise BadTar(f"{place}: found a damaged record in a pax header")
        key, value = start[2], record[start.end() : -1]
        if key in records or key not in _PAX_VALUES or not _PAX_VALUES[key].fullmatch(value):
            shown = f"{key.decode()}={value[:60]!r}"
            raise BadTar(f"{place}: found the pax record {shown}, expected only path, times, uid and gid, each once")
        records[key] = value
    return records
