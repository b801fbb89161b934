"""Hostile and damaged archives are refused before they are unpacked, also by `spoter deploy --local` and the image."""

from __future__ import annotations

import gzip
import importlib.util
import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable

import pytest
from typer.testing import CliRunner

from spoter.aws.local.container import unpack
from spoter.cli.main import app
from spoter.errors import SpoterError
from spoter.ops import archive
from spoter.ops.archive import ArchiveError, scan
from spoter.torchserve.pack import zipped
from tests import ROOT
from tests.archives import mar_files


@pytest.fixture(scope="module")
def files(built) -> dict[str, bytes]:
    return mar_files(built[0])


def linked() -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo("evil")
    entry.create_system, entry.external_attr = 3, 0o120777 << 16
    return entry


def with_more(files: dict[str, bytes], *more: tuple[str | zipfile.ZipInfo, bytes]) -> bytes:
    buffer = io.BytesIO(zipped(files))
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as packed:
        for name, content in more:
            packed.writestr(name, content)
    return buffer.getvalue()


def lying(files: dict[str, bytes]) -> bytes:
    """Return an archive with a local header, which TorchServe reads, of another name than the central directory."""
    raw, name = zipped(files), b"spoter_handler.py"
    assert raw.count(name) >= 2
    place = raw.index(b"PK\x03\x04", raw.index(b"requirements.txt"))
    place = next(i for i in range(place, len(raw)) if raw[i : i + len(name)] == name)
    return raw[:place] + b"spoter_handles.py" + raw[place + len(name) :]


def hidden(files: dict[str, bytes]) -> bytes:
    """Return an archive with an entry that the central directory does not list."""
    raw, entry = zipped(files), b"PK\x03\x04" + struct.pack("<5H3I2H", 20, 0, 0, 0, 0x21, zlib.crc32(b"x"), 1, 1, 4, 0)
    with zipfile.ZipFile(io.BytesIO(raw)) as packed:
        end = packed.start_dir
    extra = entry + b"evil" + b"x"
    tail = bytearray(raw[end:])
    at = tail.rindex(b"PK\x05\x06") + 16  # offset of the central directory
    tail[at : at + 4] = struct.pack("<I", end + len(extra))
    return raw[:end] + extra + bytes(tail)


def nested(files: dict[str, bytes], large: bool = False) -> bytes:
    """Return an archive with an entry whose local header ends it before another entry inside its content."""
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as packed:
        packed.writestr("spoter_handler.py", b"evil")
    content = b"text" + inner.getvalue()
    outer = io.BytesIO(zipped(files))
    with zipfile.ZipFile(outer, "a") as packed, packed.open("notes.csv", "w", force_zip64=large) as entry:
        entry.write(content)
    raw, name = bytearray(outer.getvalue()), b"notes.csv"
    at = raw.index(name) + (len(name) + 4 if large else -12)
    if large:
        raw[at : at + 16] = struct.pack("<QQ", 4, 4)
    else:
        raw[at : at + 8] = struct.pack("<II", 4, 4)
    return bytes(raw)


def understated(files: dict[str, bytes]) -> bytes:
    """Return an archive with an entry that unpacks to more than the sizes in both headers."""
    raw = bytearray(with_more(files, ("evil", b"\0" * 100_000)))
    for at, offset in ((raw.rindex(b"PK\x03\x04"), 22), (raw.rindex(b"PK\x01\x02"), 24)):
        raw[at + offset : at + offset + 4] = struct.pack("<I", 10)
    return bytes(raw)


def unmarked(files: dict[str, bytes]) -> bytes:
    """Return an archive with a UTF-8 name that neither header marks: Python reads another name than TorchServe."""
    raw, name = bytearray(with_more(files, ("é.csv", b"x"))), "é.csv".encode()
    for at in (raw.index(name) - 30 + 6, raw.rindex(name) - 46 + 8):
        raw[at : at + 2] = b"\0\0"
    return bytes(raw)


def damaged_folder(files: dict[str, bytes]) -> bytes:
    """Return an archive with a compressed entry of a folder, at which TorchServe fails."""
    folder = zipfile.ZipInfo("folder/")
    buffer = io.BytesIO(zipped(files))
    with zipfile.ZipFile(buffer, "a") as packed, packed.open(folder, "w") as entry:
        folder.compress_type = zipfile.ZIP_DEFLATED
        entry.write(b"")
    raw = bytearray(buffer.getvalue())
    for at in (raw.index(b"folder/") - 30 + 8, raw.rindex(b"folder/") - 46 + 10):
        raw[at : at + 2] = struct.pack("<H", zipfile.ZIP_DEFLATED)
    return bytes(raw)


def bomb(files: dict[str, bytes]) -> bytes:
    return with_more({}, ("evil", bytes(archive.SMALL + 1)))


ZIPS: dict[str, tuple[Callable[[dict[str, bytes]], bytes], str]] = {
    "parent": (lambda f: with_more(f, ("../evil", b"x")), "leads out"),
    "parent inside": (lambda f: with_more(f, ("spoter/../../evil", b"x")), "leads out"),
    "absolute": (lambda f: with_more(f, ("/tmp/evil", b"x")), "absolute"),
    "drive": (lambda f: with_more(f, ("C:/evil", b"x")), "absolute"),
    "backslash": (lambda f: with_more(f, ("..\\evil", b"x")), "backslash"),
    "line break": (lambda f: with_more(f, ("evil\nx", b"x")), "unprintable"),
    "right to left": (lambda f: with_more(f, ("evil\u202egnp.py", b"x")), "unprintable"),
    "link": (lambda f: with_more(f, (linked(), b"/etc/passwd")), "link or a device"),
    "twice": (lambda f: with_more(f, ("spoter_handler.py", b"x")), "twice"),
    "twice in another case": (lambda f: with_more(f, ("Spoter_Handler.py", b"x")), "twice"),
    "in a file": (lambda f: with_more(f, ("config.json/evil", b"x")), "config.json/evil"),
    "two lists": (lying, "another entry"),
    "not listed": (hidden, "bytes between"),
    "bytes before": (lambda f: b"#!/bin/sh\n" + zipped(f), "neither a zip nor"),
    "nested": (nested, "another size"),
    "nested by large sizes": (lambda f: nested(f, large=True), "another size"),
    "understated": (understated, "10 bytes"),
    "name of no text": (lambda f: with_more(f, ("évil", b"x")).replace("é".encode(), b"\xc3\xc3"), "damaged archive"),
    "folder with content": (lambda f: with_more(f, ("folder/", b"x")), "folder with content"),
    "damaged folder": (damaged_folder, "is damaged"),
    "name of no known encoding": (unmarked, "nor marked as UTF-8"),
    "bomb": (bomb, "claims to hold"),
    "many": (lambda f: zipped(f | {f"x/{i}": b"" for i in range(archive.MOST_ENTRIES)}), "more than"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", ZIPS)
def test_a_hostile_mar_is_refused(files, tmp_path, kind):
    make, words = ZIPS[kind]
    path = tmp_path / "spoter.mar"
    path.write_bytes(make(files))
    with pytest.raises(SpoterError, match=words):
        scan(path)


def test_a_mar_with_zip64_sizes_passes(files, tmp_path):
    path = tmp_path / "spoter.mar"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in files.items():
            with packed.open(name, "w", force_zip64=True) as entry:
                entry.write(content)
    assert scan(path).keys() == files.keys()


@pytest.mark.parametrize("see_extra", [True, False], ids=["in the field", "in both places"])
def test_both_forms_of_zip64_sizes_pass(tmp_path, see_extra):
    """Python up to 3.11.3 writes the sizes in both places, later versions only in the Zip64 field."""
    path, name, content = tmp_path / "spoter.mar", b"config.json", b"{}"
    sizes = struct.pack("<II", *((0xFFFFFFFF,) * 2 if see_extra else (len(content),) * 2))
    head = struct.pack("<5HI", 20, 0, 0, 0, 0x21, zlib.crc32(content))
    local = b"PK\x03\x04" + head + sizes + struct.pack("<HH", len(name), 20) + name
    local += struct.pack("<HHQQ", 1, 16, len(content), len(content)) + content
    central = b"PK\x01\x02\x14\x00" + head + struct.pack("<II5HII", 2, 2, len(name), 0, 0, 0, 0, 0, 0) + name
    end = b"PK\x05\x06" + struct.pack("<4HIIH", 0, 0, 1, 1, len(central), len(local), 0)
    path.write_bytes(local + central + end)
    assert scan(path)["config.json"].size == 2
    lying = local.replace(struct.pack("<Q", 2), struct.pack("<Q", 1), 1)
    path.write_bytes(lying + central + end)
    with pytest.raises(SpoterError, match="another size"):
        scan(path)


def tar_of(members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as packed:
        for member, content in members:
            member.size = len(content)
            packed.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


TARS = {
    "parent": (member("../evil"), "leads out"),
    "absolute": (member("/tmp/evil"), "absolute"),
    "link": (member("evil", tarfile.SYMTYPE, "/etc"), "link, a device"),
    "hard link": (member("evil", tarfile.LNKTYPE, "../../etc/passwd"), "link, a device"),
    "device": (member("evil", tarfile.CHRTYPE), "link, a device"),
    "pipe": (member("evil", tarfile.FIFOTYPE), "link, a device"),
}


@pytest.mark.parametrize("kind", TARS)
def test_a_hostile_tar_is_refused_and_not_unpacked(tmp_path, kind):
    info, words = TARS[kind]
    path, inside = tmp_path / "model.tar.gz", tmp_path / "inside" / "tree"
    content = b"x" if info.isreg() else b""
    path.write_bytes(tar_of([(member("config.json"), b"{}"), (info, content)]))
    with pytest.raises(ArchiveError, match=words):
        scan(path)
    inside.mkdir(parents=True)
    with pytest.raises(ArchiveError, match=words):  # as `spoter deploy --local` does
        unpack(path, inside)
    assert list(inside.iterdir()) == [] and sorted(p.name for p in tmp_path.iterdir()) == ["inside", "model.tar.gz"]


def test_a_tar_bomb_is_refused_early(tmp_path):
    path = tmp_path / "model.tar.gz"
    path.write_bytes(tar_of([(member("zeros"), bytes(archive.SMALL + 1))]))
    with pytest.raises(ArchiveError, match="unpacks to more than"):
        scan(path)


def test_a_tar_of_a_folder_with_dot_slash_names_passes(tmp_path):
    path = tmp_path / "model.tar.gz"
    (tmp_path / "tree" / "a").mkdir(parents=True)
    (tmp_path / "tree" / "a" / "b.txt").write_text("x")
    with tarfile.open(path, "w:gz") as packed:
        packed.add(tmp_path / "tree", "./")
    assert {name: entry.size for name, entry in scan(path).items()} == {"a/b.txt": 1}


@pytest.mark.parametrize("spoil", [lambda raw: raw[:-200], lambda raw: raw[:2], lambda raw: b"", lambda raw: b"text"])
@pytest.mark.parametrize("which", [0, 1])
def test_damaged_archives_are_reported_in_one_line(built, tmp_path, which, spoil):
    path = tmp_path / built[which].name
    path.write_bytes(spoil(built[which].read_bytes()))
    done = CliRunner().invoke(app, ["check-archive", str(path)])
    assert isinstance(done.exception, SpoterError) and "\n" not in str(done.exception)
    assert str(path) in str(done.exception)


def test_flipped_bits_are_found(built, tmp_path):
    raw = bytearray(built[0].read_bytes())
    raw[len(raw) // 2] ^= 1
    path = tmp_path / "spoter.mar"
    path.write_bytes(bytes(raw))
    with pytest.raises(SpoterError):
        scan(path)
    raw = bytearray(gzip.decompress(built[1].read_bytes()))
    path.write_bytes(gzip.compress(bytes(raw))[:-8] + b"\0" * 8)
    with pytest.raises(SpoterError):
        scan(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_the_image_refuses_to_start_with_a_hostile_archive(files, tmp_path, monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location("docker_start", ROOT / "docker" / "start.py")
    start = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(start)
    monkeypatch.setattr(start, "STORE", tmp_path)
    (tmp_path / "spoter.mar").write_bytes(zipped(files))
    assert start.model("torchserve") == tmp_path / "spoter.mar"
    (tmp_path / "spoter.mar").write_bytes(ZIPS["twice"][0](files))
    with pytest.raises(start.StartError, match=r"'spoter_handler.py' .*twice") as error:
        start.model("torchserve")
    assert error.value.status == 2
