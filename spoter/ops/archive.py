"""Looking into an archive, .mar or model.tar.gz, before anything unpacks it: path tricks, links, duplicates, bombs.

TorchServe 0.12.0 reads a .mar from its front, entry by entry, and not by the table at its end. It refuses names with
``..``, but takes the last of two entries of one name and unpacks however much there is. So an archive is refused here
where its two lists differ, and every byte is unpacked once, within bounds and into nothing. A model.tar.gz is read by
`spoter.ops.tar_reader`. Python's own library only: the image's start runs this where nothing else is installed.
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

# An archive of ours has about 80 entries and is as large as its weights, which do not shrink much.
MOST_ENTRIES = 2_000
MOST_BYTES = 4 * 2**30
# Below `SMALL` bytes any ratio is harmless; deflate reaches 1032:1, text some 10:1, weights hardly more than 1:1.
MOST_RATIO, SMALL = 50, 64 * 2**20
CHUNK = 2**20
EXPECTED = "a .mar or a model.tar.gz, as build_mar.py writes them"
# A local header of a zip file, APPNOTE.TXT 4.3.7: signature, flags, method, CRC, sizes packed and unpacked, lengths of
# the name and of extra fields. Of those only the one of large files, 4.5.3, is let in: sizes unpacked and packed.
_LOCAL, _LARGE = struct.Struct("<4s2xHH4xIIIHH"), struct.Struct("<HHQQ")
_SEE_EXTRA = 0xFFFFFFFF
_ENCRYPTED, _SIZES_LATER, _UTF8 = 0x1, 0x8, 0x800


class ArchiveError(SpoterError):
    """An archive that nothing should unpack; `reasons` says why, one line each."""

    exit_code = 1

    def __init__(self, path: Path, reasons: list[str]):
        more = f"; and {len(reasons) - 3} more" if len(reasons) > 3 else ""
        super().__init__(f"{path}: {'; '.join(reasons[:3])}{more}")
        self.reasons = reasons


@dataclass(frozen=True)
class Entry:
    """A file in an archive: its name with / between its parts, its size unpacked, and the SHA-256 of its content."""

    name: str
    size: int
    sha256: str


def scan(path: Path) -> dict[str, Entry]:
    """Read an archive through and return its files by name; folders are left out.

    Raises
    ------
    ArchiveError
        With all that is wrong with its entries.
    SpoterError
        Where it is no .mar (zip) and no .tar.gz, or cannot be read.
    """
    files: dict[str, Entry] = {}
    reasons: list[str] = []
    names: list[str] = []
    for name, is_file, wrong, content in _entries(Path(path)):
        names.append(name)
        found = wrong or wrong_name(name)
        if found is not None:
            reasons.append(f"{name[:80]!r} {found}")
        else:
            digest, size = hashlib.sha256(), 0
            try:
                for chunk in _read(path, content):
                    digest.update(chunk)
                    size += len(chunk)
            except _Spoiled as error:
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
    """Write files of an archive that `scan` has passed into a folder, by their last part."""
    wanted = set(names)
    for name, is_file, _, content in _entries(Path(path)):
        if is_file and name in wanted:
            with (Path(folder) / PurePosixPath(name).name).open("wb") as stream:
                stream.writelines(_read(path, content))


def wrong_name(name: str) -> str | None:
    """Say what is wrong with an entry's name; None where nothing is."""
    parts = name.split("/")
    if name.startswith("/") or (len(name) > 1 and name[1] == ":"):
        return "is an absolute path"
    if ".." in parts:
        return "leads out of the folder"
    if "\\" in name or not name.isprintable():
        return "has a backslash, or what cannot be printed, in its name"
    if "" in parts or "." in parts:
        return "has an empty part or a dot for one"
    return "has too long a name" if len(name.encode()) > 1000 or max(len(p.encode()) for p in parts) > 255 else None


def refuse_tricks(folder: Path) -> None:
    """Raise `ModelFolderError` where a model folder holds what would put something else of this machine in an archive.

    A link out of the folder, a device, a socket, a name with line breaks.
    """
    folder = Path(folder)
    root = folder.resolve()
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        wrong = wrong_name(path.name)
        if wrong is not None:
            raise ModelFolderError(f"{folder}: {path.name!r} {wrong}, expected plain file names")
        if path.is_symlink() and not path.resolve().is_relative_to(root):
            raise ModelFolderError(f"{path}: found a link out of the model folder, expected the file itself")
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise ModelFolderError(f"{path}: found a device, pipe or socket, expected a plain file")


class _Spoiled(Exception):
    """An entry's content is not what its header says."""


def _read(path: Path, content: Callable[[], Iterator[bytes]]) -> Iterator[bytes]:
    with _errors_on_one_line(path):
        yield from content()


_Listed = tuple[str, bool, str | None, Callable[[], Iterator[bytes]]]


def _entries(path: Path) -> Iterator[_Listed]:
    """List name, whether it is a file, what is wrong by the header, and a way to its content."""
    with _errors_on_one_line(path), path.open("rb") as file:
        start = file.read(2)
        file.seek(0)
        if start == b"PK":
            yield from _of_zip(file, path)
        elif start == b"\x1f\x8b":
            yield from _of_tar(file, path)
        else:
            raise SpoterError(f"{path}: found neither a zip nor a gzip file, expected {EXPECTED}")


@contextmanager
def _errors_on_one_line(path: Path) -> Iterator[None]:
    """Make one line of whatever reading a damaged archive comes to."""
    try:
        yield
    except BadTar as error:
        raise ArchiveError(path, [str(error)]) from None
    except DAMAGED_FILE_ERRORS as error:
        raise SpoterError(f"{path}: found no whole archive ({one_line(error)}), expected {EXPECTED}") from None
    except OSError as error:
        raise SpoterError(f"{path}: {error.strerror or error}; expected {EXPECTED}") from None


def _of_zip(file: io.BufferedReader, path: Path) -> Iterator[_Listed]:
    with zipfile.ZipFile(file) as archive:
        listed, end = archive.infolist(), archive.start_dir
    total, packed = sum(info.file_size for info in listed), path.stat().st_size
    if _too_much(total, packed):
        raise ArchiveError(path, [f"claims to hold {total:,} bytes in {packed:,}"])
    expected = 0
    for info in sorted(listed, key=lambda info: info.header_offset):
        file.seek(info.header_offset)
        signature, flags, method, crc, *sizes, name_length, extra_length = _LOCAL.unpack(file.read(_LOCAL.size))
        name, extra = file.read(name_length), file.read(extra_length)
        begin = file.tell()
        wrong = None
        if info.header_offset != expected or signature != b"PK\x03\x04" or name != _raw(info):
            wrong = "is another entry at its place in the file than in the table at the end"
        elif not name.isascii() and not info.flag_bits & _UTF8:  # TorchServe decodes it as UTF-8, Python as CP437
            wrong = "has a name that is neither ASCII nor marked as UTF-8"
        elif flags & (_ENCRYPTED | _SIZES_LATER) or method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            wrong = "is packed in a way that build_mar.py and torch-model-archiver do not use"
        elif method != info.compress_type or crc != info.CRC or not _of_size(info, sizes, extra):
            # Whoever reads from the front would find this entry's end, and others, somewhere within it.
            wrong = "is of another size or content at its place in the file than in the table at the end"
        elif stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            wrong = "is a link or a device"
        expected = begin + info.compress_size
        is_file = not info.orig_filename.endswith("/")
        content = _inflater(file, begin, info)
        yield info.orig_filename.removesuffix("/"), is_file, wrong, content
    if expected != end:
        raise ArchiveError(path, ["has bytes between its entries and the table at its end"])


def _of_size(info: zipfile.ZipInfo, sizes: list[int], extra: bytes) -> bool:
    """Tell whether a local header says, in one of three ways, the sizes that the table at the end does.

    With the field of large files, Python up to 3.11.3 writes the sizes in both places; TorchServe reads the field.
    """
    plain, large = [info.compress_size, info.file_size], _LARGE.pack(1, 16, info.file_size, info.compress_size)
    return (not extra and sizes == plain) or (extra == large and sizes in (plain, [_SEE_EXTRA, _SEE_EXTRA]))


def _raw(info: zipfile.ZipInfo) -> bytes:
    return info.orig_filename.encode("utf-8" if info.flag_bits & _UTF8 else "cp437")


def _inflater(file: io.BufferedReader, begin: int, info: zipfile.ZipInfo) -> Callable[[], Iterator[bytes]]:
    """Return what unpacks an entry as TorchServe does, up to the end of its stream, but never beyond its own size."""

    def read() -> Iterator[bytes]:
        file.seek(begin)
        left, size, crc = info.compress_size, 0, 0
        inflate = zlib.decompressobj(-zlib.MAX_WBITS) if info.compress_type == zipfile.ZIP_DEFLATED else None
        waiting = b""
        while left or waiting or (inflate and not inflate.eof):  # zlib may hold content back after its last input
            raw = waiting or file.read(min(left, CHUNK))
            left -= 0 if waiting else len(raw)
            chunk = inflate.decompress(raw, CHUNK) if inflate else raw
            if not (raw or chunk):
                break
            waiting = inflate.unconsumed_tail if inflate else b""
            size, crc = size + len(chunk), zlib.crc32(chunk, crc)
            if size > info.file_size:
                raise _Spoiled(f"unpacks to more than the {info.file_size:,} bytes it claims")
            yield chunk
        whole = inflate is None or (inflate.eof and not inflate.unused_data)
        if not whole or size != info.file_size or crc != info.CRC:
            raise _Spoiled("is damaged")

    return read


def _of_tar(file: io.BufferedReader, path: Path) -> Iterator[_Listed]:
    stream, packed, total = GzipStream(file), path.stat().st_size, 0

    def read(size: int) -> bytes:
        nonlocal total
        content = stream.read(size)
        total += len(content)
        if _too_much(total, packed):
            raise ArchiveError(path, [f"unpacks to more than {total:,} bytes from {packed:,}"])
        return content

    for name, is_file, content in members(read):
        # `tar -C folder .` writes the folder as "." and "./" before each name; tarfile's add(folder, ""), which
        # SageMaker's SDK repacks archives with, writes it as "/".
        if name not in (".", "") or is_file:
            yield name.removeprefix("./"), is_file, None, content


def _too_much(size: int, packed: int) -> bool:
    return size > MOST_BYTES or (size > SMALL and size > MOST_RATIO * packed)


def _collisions(names: list[str], files: dict[str, Entry]) -> Iterator[str]:
    """Say which entries would lie on one another, also where the file system does not tell cases apart."""
    seen: dict[str, str] = {}
    for name in names:
        same = unicodedata.normalize("NFC", name).casefold()
        if same in seen:
            yield f"{name[:80]!r} comes twice" + ("" if seen[same] == name else f", first as {seen[same][:80]!r}")
        seen[same] = name
    for name in names:
        for folder in PurePosixPath(name).parents:
            if str(folder) in files:
                yield f"{name[:80]!r} lies in the file {str(folder)[:80]!r}"
