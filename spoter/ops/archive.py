"""Checks of an archive, .mar or model.tar.gz, before it is unpacked: path tricks, links, duplicates, zip bombs.

TorchServe 0.12.0 reads the local headers of a .mar from front to back and ignores the central directory at the end. It
refuses names with ``..``, but of two entries with one name it keeps the later one, and it limits no size. This module
therefore refuses archives whose headers and directory differ. It decompresses every byte once, within limits, and
discards it. `spoter.ops.tar_reader` reads a model.tar.gz. Only the standard library is imported: docker/start.py runs
this code where no other package is installed.
"""

import hashlib
import io
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from spoter.errors import DAMAGED_FILE_ERRORS, ModelFolderError, SpoterError, one_line
from spoter.ops.tar_reader import BadTar, GzipStream, members

# An archive of this project has about 80 entries and is about as large as its weights, which compress little.
MOST_ENTRIES = 2_000
MOST_BYTES = 4 * 2**30
# Deflate reaches a ratio of 1032:1, text about 10:1, weights about 1:1. Below `SMALL` bytes any ratio is harmless.
MOST_RATIO, SMALL = 50, 64 * 2**20
CHUNK = 2**20
EXPECTED = "a .mar or a model.tar.gz, as build_mar.py writes them"
# Local header of a zip file, APPNOTE.TXT 4.3.7: signature, flags, method, CRC, compressed and uncompressed size, length
# of the name and of the extra fields. The only accepted extra field is Zip64, 4.5.3: uncompressed, compressed size.
_LOCAL, _LARGE = struct.Struct("<4s2xHH4xIIIHH"), struct.Struct("<HHQQ")
_SEE_EXTRA = 0xFFFFFFFF
_ENCRYPTED, _SIZES_LATER, _UTF8 = 0x1, 0x8, 0x800


class ArchiveError(SpoterError):
    """An archive that must not be unpacked; `reasons` holds one line per problem."""

    exit_code = 1

    def __init__(self, path: Path, reasons: list[str]):
        more = f"; and {len(reasons) - 3} more" if len(reasons) > 3 else ""
        super().__init__(f"{path}: {'; '.join(reasons[:3])}{more}")
        self.reasons = reasons


@dataclass(frozen=True)
class Entry:
    """A file in an archive: its name with / as separator, its uncompressed size, and the SHA-256 of its content."""

    name: str
    size: int
    sha256: str


def scan(path: Path) -> dict[str, Entry]:
    """Read all of an archive and return its files by name, without its folders.

    Raises
    ------
    ArchiveError
        If entries are wrong; it lists all problems.
    SpoterError
        If the file is neither a .mar (zip) nor a .tar.gz, or cannot be read.
    """
    files: dict[str, Entry] = {}
    reasons: list[str] = []
    names: list[str] = []
    for name, is_file, header_problem, content in _entries(Path(path)):
        names.append(name)
        problem = header_problem or wrong_name(name)
        if problem is not None:
            reasons.append(f"{name[:80]!r} {problem}")
        else:
            digest, size = hashlib.sha256(), 0
            try:
                for chunk in _read(path, content):
                    digest.update(chunk)
                    size += len(chunk)
            except _BadContent as error:
                reasons.append(f"{name[:80]!r} {error}")
            if is_file:
                files[name] = Entry(name, size, digest.hexdigest())
            elif size:
                reasons.append(f"{name[:80]!r} is a folder with content")
        if len(names) > MOST_ENTRIES:
            reasons.append(f"has more than {MOST_ENTRIES:,} entries")
            break
    reasons += _collisions(names, files)
    if reasons:
        raise ArchiveError(path, reasons)
    return files


def copy(path: Path, names: Iterable[str], folder: Path) -> None:
    """Write files of an archive that `scan` has accepted to a folder, named by the last part of their paths."""
    wanted = set(names)
    for name, is_file, _, content in _entries(Path(path)):
        if is_file and name in wanted:
            with (Path(folder) / PurePosixPath(name).name).open("wb") as stream:
                stream.writelines(_read(path, content))


def wrong_name(name: str) -> str | None:
    """Return the problem with an entry's name, or None."""
    parts = name.split("/")
    if name.startswith("/") or (len(name) > 1 and name[1] == ":"):
        return "is an absolute path"
    if ".." in parts:
        return "leads out of the folder"
    if "\\" in name or not name.isprintable():
        return "has a backslash or an unprintable character in its name"
    if "" in parts or "." in parts:
        return "has an empty part or the part '.' in its name"
    return "has too long a name" if len(name.encode()) > 1000 or max(len(p.encode()) for p in parts) > 255 else None


def refuse_tricks(folder: Path) -> None:
    """Raise `ModelFolderError` if a model folder holds something other than plain files with plain names.

    A link out of the folder, for example, would put another file of this machine into the archive.
    """
    folder = Path(folder)
    root = folder.resolve()
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        problem = wrong_name(path.name)
        if problem is not None:
            raise ModelFolderError(f"{folder}: {path.name!r} {problem}, expected plain file names")
        if path.is_symlink() and not path.resolve().is_relative_to(root):
            raise ModelFolderError(f"{path}: found a link out of the model folder, expected the file itself")
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise ModelFolderError(f"{path}: found a device, pipe or socket, expected a plain file")


class _BadContent(Exception):
    """The content of an entry contradicts its header."""


def _read(path: Path, content: Callable[[], Iterator[bytes]]) -> Iterator[bytes]:
    with _errors_on_one_line(path):
        yield from content()


_Listed = tuple[str, bool, str | None, Callable[[], Iterator[bytes]]]


def _entries(path: Path) -> Iterator[_Listed]:
    """Yield each entry: name, whether it is a file, a problem with its header or None, a function that reads it."""
    with _errors_on_one_line(path), path.open("rb") as file:
        start = file.read(2)
        file.seek(0)
        if start == b"PK":
            yield from _zip_entries(file, path)
        elif start == b"\x1f\x8b":
            yield from _tar_entries(file, path)
        else:
            raise SpoterError(f"{path}: found neither a zip nor a gzip file, expected {EXPECTED}")


@contextmanager
def _errors_on_one_line(path: Path) -> Iterator[None]:
    """Turn every error of reading a damaged archive into a `SpoterError` of one line."""
    try:
        yield
    except BadTar as error:
        raise ArchiveError(path, [str(error)]) from None
    except DAMAGED_FILE_ERRORS as error:
        raise SpoterError(f"{path}: found a damaged archive ({one_line(error)}), expected {EXPECTED}") from None
    except OSError as error:
        raise SpoterError(f"{path}: {error.strerror or error}; expected {EXPECTED}") from None


def _zip_entries(file: io.BufferedReader, path: Path) -> Iterator[_Listed]:
    with zipfile.ZipFile(file) as archive:
        listed, end = archive.infolist(), archive.start_dir
    total, packed = sum(info.file_size for info in listed), path.stat().st_size
    if _too_much(total, packed):
        raise ArchiveError(path, [f"claims to hold {total:,} bytes in {packed:,} bytes"])
    expected = 0
    for info in sorted(listed, key=lambda info: info.header_offset):
        file.seek(info.header_offset)
        signature, flags, method, crc, *sizes, name_length, extra_length = _LOCAL.unpack(file.read(_LOCAL.size))
        name, extra = file.read(name_length), file.read(extra_length)
        begin = file.tell()
        problem = None
        if info.header_offset != expected or signature != b"PK\x03\x04" or name != _encoded_name(info):
            problem = "has a local header of another entry than the central directory lists"
        elif not name.isascii() and not info.flag_bits & _UTF8:  # TorchServe decodes it as UTF-8, Python as CP437
            problem = "has a name that is neither ASCII nor marked as UTF-8"
        elif flags & (_ENCRYPTED | _SIZES_LATER) or method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            problem = "is packed in a way that build_mar.py and torch-model-archiver do not use"
        elif method != info.compress_type or crc != info.CRC or not _sizes_agree(info, sizes, extra):
            # A program that reads from the front would find the entry's end, and other entries, inside its content.
            problem = "has a local header with another size or CRC than the central directory lists"
        elif stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            problem = "is a link or a device"
        expected = begin + info.compress_size
        is_file = not info.orig_filename.endswith("/")
        content = _inflater(file, begin, info)
        yield info.orig_filename.removesuffix("/"), is_file, problem, content
    if expected != end:
        raise ArchiveError(path, ["has bytes between its entries and the central directory"])


def _sizes_agree(info: zipfile.ZipInfo, sizes: list[int], extra: bytes) -> bool:
    """Return whether a local header has the sizes of the central directory, in one of three forms.

    With a Zip64 field, Python up to 3.11.3 writes the sizes in both places; TorchServe reads the field.
    """
    plain, large = [info.compress_size, info.file_size], _LARGE.pack(1, 16, info.file_size, info.compress_size)
    return (not extra and sizes == plain) or (extra == large and sizes in (plain, [_SEE_EXTRA, _SEE_EXTRA]))


def _encoded_name(info: zipfile.ZipInfo) -> bytes:
    return info.orig_filename.encode("utf-8" if info.flag_bits & _UTF8 else "cp437")


def _inflater(file: io.BufferedReader, begin: int, info: zipfile.ZipInfo) -> Callable[[], Iterator[bytes]]:
    """Return a function that decompresses an entry like TorchServe: to the end of its stream, at most to its size."""

    def read() -> Iterator[bytes]:
        file.seek(begin)
        left, size, crc = info.compress_size, 0, 0
        inflate = zlib.decompressobj(-zlib.MAX_WBITS) if info.compress_type == zipfile.ZIP_DEFLATED else None
        waiting = b""
        while left or waiting or (inflate and not inflate.eof):  # zlib may keep output back after its last input
            raw = waiting or file.read(min(left, CHUNK))
            left -= 0 if waiting else len(raw)
            chunk = inflate.decompress(raw, CHUNK) if inflate else raw
            if not (raw or chunk):
                break
            waiting = inflate.unconsumed_tail if inflate else b""
            size, crc = size + len(chunk), zlib.crc32(chunk, crc)
            if size > info.file_size:
                raise _BadContent(f"unpacks to more than the {info.file_size:,} bytes of its header")
            yield chunk
        complete = inflate is None or (inflate.eof and not inflate.unused_data)
        if not complete or size != info.file_size or crc != info.CRC:
            raise _BadContent("is damaged")

    return read


def _tar_entries(file: io.BufferedReader, path: Path) -> Iterator[_Listed]:
    stream, packed, total = GzipStream(file), path.stat().st_size, 0

    def read(size: int) -> bytes:
        nonlocal total
        content = stream.read(size)
        total += len(content)
        if _too_much(total, packed):
            raise ArchiveError(path, [f"unpacks to more than {total:,} bytes from {packed:,} bytes"])
        return content

    for name, is_file, content in members(read):
        # `tar -C folder .` names the folder "." and starts each name with "./". SageMaker's SDK repacks archives with
        # tarfile's add(folder, ""), which names the folder "/".
        if name not in (".", "") or is_file:
            yield name.removeprefix("./"), is_file, None, content


def _too_much(size: int, packed: int) -> bool:
    return size > MOST_BYTES or (size > SMALL and size > MOST_RATIO * packed)


def _collisions(names: list[str], files: dict[str, Entry]) -> Iterator[str]:
    """Yield the entries that would overwrite each other, also on a file system that ignores case."""
    earlier: dict[str, str] = {}
    for name in names:
        folded = unicodedata.normalize("NFC", name).casefold()
        if folded in earlier:
            other = earlier[folded]
            yield f"{name[:80]!r} comes twice" + ("" if other == name else f", also as {other[:80]!r}")
        earlier[folded] = name
    for name in names:
        for folder in PurePosixPath(name).parents:
            if str(folder) in files:
                yield f"{name[:80]!r} is inside {str(folder)[:80]!r}, which is a file"
