"""Archives written by several programs, and mutations of their headers, order and compression."""

import gzip
import io
import itertools
import random
import re
import shutil
import struct
import subprocess
import tarfile
import tempfile
import zipfile
import zlib
from pathlib import Path

from spoter.torchserve.pack import gzipped_tar, zipped

BLOCK = 512
EVIL = b"print('another handler')\n"
# For a model.tar.gz, TorchServe removes the first part of a name, which is "." in these names.
FILES = {
    "./MAR-INF/MANIFEST.json": b"{}",
    "./config.json": b'{"layout": "54"}' * 40,
    "./spoter_handler.py": b"import spoter\n",
    "./spoter/clip.py": bytes(700),
    "./empty.csv": b"",
    "./\u00e4-\u624b.csv": b"1,2\n" * 20,
}
_LONG_NAMES = {"./" + "n" * 90 + "/" + "m" * 90 + ".csv": b"long", "./" + "\u624b" * 50 + ".csv": b"longer"}
_TEXTS = (
    b"", b"./evil", b"../evil", b"/evil", b"./evil\0.py", b"./spoter_handler.py", b"./a/", b".", b"\xff\xfe",
    b"a" * 155,
)  # fmt: skip
_NUMBERS = (
    b"", b"0", b"00000000000", b"644 ", b"  644", b"0000644\0", b"00000000014\0", b"00000000014 ", b"14\0 14", b"-1",
    b"8", b"\x80" + bytes(10) + b"\x14", b"\xff" * 12, b"\x80" + bytes(6) + b"\1", b"00000001000", b"77777777777",
    b"\0" * 12,
)  # fmt: skip
_TYPES = tuple(bytes([kind]) for kind in b"0123456789LKxXgSVMNDA\0 ")
_MAGICS = (b"ustar\x0000", b"ustar  \0", bytes(8), b"ustar\0\0\0", b"ustar\x0001", b"USTAR\x0000")
# Offset, length and test values of each field in a tar header.
_FIELDS = (
    *((start, length, _TEXTS) for start, length in ((0, 100), (157, 100), (265, 32), (297, 32), (345, 155))),
    *((start, 8, _NUMBERS) for start in (100, 108, 116, 148, 329, 337)),
    *((start, 12, _NUMBERS) for start in (124, 136, 500)),
    (156, 1, _TYPES),
    (257, 8, _MAGICS),
)
_RECORDS = (
    ("mtime", "1700000000.5"), ("atime", "1.1234567890123456789"), ("ctime", "0"), ("mtime", "-5"), ("mtime", "1e5"),
    ("path", "./evil"), ("path", "./\u00e4.csv"), ("path", "../evil"), ("path", ""), ("path", "./a\0b"), ("size", "3"),
    ("size", ""), ("linkpath", "evil"), ("uid", "5000000"), ("gid", "99999999999"), ("uname", "x"), ("comment", "x"),
    ("GNU.sparse.major", "1"), ("GNU.sparse.name", "./evil"), ("GNU.sparse.realsize", "9"), ("SCHILY.realsize", "9"),
    ("hdrcharset", "BINARY"), ("mtime", "9" * 30), ("path", "./folder/"), ("SCHILY.archtype", "xustar"),
)  # fmt: skip


def has_gnu_tar() -> bool:
    """Return whether the program `tar` is GNU tar."""
    program = shutil.which("tar")
    return program is not None and b"GNU tar" in subprocess.run([program, "--version"], capture_output=True).stdout


def make_tars() -> list[bytes]:
    """Return uncompressed tar files of `FILES`, written by `spoter pack`, by Python's tarfile and by GNU tar."""
    tars = [gzip.decompress(gzipped_tar(files)) for files in (FILES, FILES | _LONG_NAMES)]
    with tempfile.TemporaryDirectory(prefix="spoter-") as scratch:
        for name, content in FILES.items():
            Path(scratch, name).parent.mkdir(exist_ok=True)
            Path(scratch, name).write_bytes(content)
        for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT):
            buffer = io.BytesIO()
            with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
                archive.add(scratch, "./")
            tars.append(buffer.getvalue())
        for form in ("gnu", "ustar", "posix") if has_gnu_tar() else ():
            command = ["tar", f"--format={form}", "-cf", "-", "-C", scratch, "."]
            tars.append(subprocess.run(command, capture_output=True, check=True).stdout)
    return tars


def mutate_tar(raw: bytes, rng: random.Random) -> bytes:
    """Return a model.tar.gz: a tar file with up to three mutations and sometimes a mutated compression."""
    content = bytearray(raw)
    for _ in range(rng.choice((0, 1, 1, 1, 2, 3))):
        header, block = rng.choice(_headers(content)), BLOCK * rng.randrange(1 + len(content) // BLOCK)
        match rng.choice(("byte", "byte", *["field"] * 4, "insert", "insert", "insert", "remove", "cut")):
            case "byte":
                at = header + rng.randrange(BLOCK)
                content[at : at + 1] = bytes([rng.choice((0, 0x20, 0x2F, 0x30, 0x80, 0xFF, rng.randrange(256)))])
            case "field":
                start, length, values = rng.choice(_FIELDS)
                value = rng.choice(values).ljust(rng.choice((0, length)), rng.choice((b"\0", b"\0", b" ")))[:length]
                content[header + start : header + start + len(value)] = value
            case "insert":
                at = rng.choice((header, block, len(content)))
                content[at:at] = _new_blocks(rng)
            case "remove":
                del content[block : block + BLOCK]
            case "cut":
                data_end = len(content.rstrip(b"\0"))
                blocks = -(-data_end // BLOCK) + 1 + rng.randrange(4)
                del content[rng.choice((data_end, data_end + BLOCK, blocks * BLOCK, rng.randrange(1 + data_end))) :]
    kind = rng.random()
    if kind < 0.85:
        _correct_checksums(content, signed=kind < 0.05)
    return _compress(bytes(content), rng)


def _headers(content: bytearray) -> list[int]:
    """Return the offsets of the headers; after a broken size, the next block counts as a header."""
    offsets, at = [], 0
    while at + BLOCK <= len(content) and any(content[at : at + BLOCK]):
        offsets.append(at)
        try:
            at += BLOCK + -(-max(0, tarfile.nti(content[at + 124 : at + 136])) // BLOCK) * BLOCK
        except tarfile.TarError:
            at += BLOCK
    return offsets or [0]


def _correct_checksums(content: bytearray, signed: bool) -> None:
    for at in _headers(content):
        if len(header := content[at : at + BLOCK]) == BLOCK:
            content[at + 148 : at + 156] = b"%06o\0 " % max(0, tarfile.calc_chksums(header)[signed])


def _member(name: str, content: bytes, kind: bytes = b"0") -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size, entry.type = len(content), kind
    return entry.tobuf(tarfile.USTAR_FORMAT) + content + bytes(-len(content) % BLOCK)


def _records(rng: random.Random) -> bytes:
    """Return a pax header for one member or for all; the length of its first record is sometimes wrong."""
    header = bytearray(tarfile.TarInfo.create_pax_global_header(dict(rng.sample(_RECORDS, rng.choice((1, 1, 2))))))
    header[156:157] = rng.choice((b"x", b"x", b"g"))
    header[BLOCK] ^= rng.choice((0, 0, 0, 0, 1))
    return bytes(header)


def _new_blocks(rng: random.Random) -> bytes:
    return rng.choice((
        bytes(BLOCK), bytes(2 * BLOCK), b"x" * BLOCK, _member("./spoter_handler.py", EVIL), _member("./new.csv", b"1"),
        _records(rng), _records(rng), _records(rng), _member("././@LongLink", b"./evil\0", b"L"),
        _member("./folder/", b"", b"5"), _member("./folder", b"12", b"5"),
    ))  # fmt: skip


def _compress(content: bytes, rng: random.Random) -> bytes:
    plain = gzip.compress(content, 6, mtime=0)
    if rng.random() < 0.7:
        return plain
    body, other = plain[10:], gzip.compress(_member("./spoter_handler.py", EVIL) + bytes(2 * BLOCK), mtime=0)
    crc = struct.pack("<H", zlib.crc32(b"\x1f\x8b\x08\x02" + bytes(6)) & 0xFFFF)
    cut = rng.randrange(1, len(content) + 1)
    return rng.choice((
        plain + other, plain + b"\0" * 9, plain + b"x", plain[: -rng.randrange(1, 12)],
        gzip.compress(content[:cut], mtime=0) + gzip.compress(content[cut:], mtime=0),
        b"\x1f\x8b\x08\x08" + bytes(6) + b"model.tar\0" + body, b"\x1f\x8b\x08\x04" + bytes(6) + b"\2\0ab" + body,
        b"\x1f\x8b\x08\x10" + bytes(6) + b"a note\0" + body, b"\x1f\x8b\x08\x02" + bytes(6) + crc + body,
        b"\x1f\x8b\x08\xe0" + bytes(6) + body, plain[:-8] + bytes(8), plain[:-4] + b"\1\0\0\0",
    ))  # fmt: skip


def make_zips() -> list[bytes]:
    """Return .mar files of `FILES`: from `spoter pack`, stored, with folders, and with the fields of large files."""
    names = {name.removeprefix("./"): content for name, content in FILES.items()}
    zips = [zipped(names)]
    for method, large in itertools.product((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED), (False, True)):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", method) as archive:
            archive.writestr("spoter/", b"")
            for name, content in names.items():
                with archive.open(name, "w", force_zip64=large) as entry:
                    entry.write(content)
        zips.append(buffer.getvalue())
    return zips


def mutate_zip(raw: bytes, rng: random.Random) -> bytes:
    """Return a .mar file with up to three mutations."""
    content = bytearray(raw)
    for _ in range(rng.choice((0, 1, 1, 1, 2, 3))):
        headers = [match.start() for match in re.finditer(rb"PK[\x01\x03\x05]", content[:-2])]
        header, cut = rng.choice(headers or [0]), rng.randrange(1 + len(content))
        match rng.choice(("field", "field", "field", "byte", "insert", "entry", "cut")):
            case "field":
                at = header + rng.choice((*range(4, 36, 2), 38, 42))
                form, numbers = rng.choice((("<H", (0, 1, 8, 0x800, 9, 20, 0xFFFF)), ("<I", (0, 2, 0xFFFFFFFF))))
                content[at : at + struct.calcsize(form)] = struct.pack(form, rng.choice(numbers))
            case "byte":
                at = header + rng.randrange(60)
                content[at : at + 1] = bytes([rng.choice((0, 1, 8, 0xFF, rng.randrange(256)))])
            case "insert":
                values = (b"\0", b"x" * 30, b"PK\x03\x04", struct.pack("<HHQQ", 1, 16, 9, 9), bytes(content))
                at = rng.choice((header, len(content), 0))
                content[at:at] = rng.choice(values)
            case "entry":
                content = _add_entry(content, rng)
            case "cut":
                del content[cut : cut + rng.choice((1, 4, 30, len(content)))]
    return bytes(content)


def _add_entry(content: bytearray, rng: random.Random) -> bytearray:
    """Add an entry with Python's zipfile; its name may exist already, and it may have an extra field."""
    names = ("new.csv", "spoter_handler.py", "./new.csv", "a/b/c.csv", "../evil", "\u00e4.csv", "d/")
    entry = zipfile.ZipInfo(rng.choice(names))
    entry.compress_type = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    entry.extra = rng.choice((b"", b"", struct.pack("<HHQQ", 1, 16, 25, 25), b"UT\5\0\1abcd"))
    buffer = io.BytesIO(content)
    try:
        with zipfile.ZipFile(buffer, "a") as archive:
            archive.writestr(entry, EVIL)
    except Exception:  # the archive is too broken to add to
        return content
    return bytearray(buffer.getvalue())
