"""`scan` reads a model.tar.gz like every unpacker, and refuses files that they read differently."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from spoter.cli.main import app
from spoter.errors import SpoterError
from spoter.ops import archive, tar_reader
from spoter.ops.archive import ArchiveError, scan
from spoter.torchserve.pack import build
from stress.archive_mutations import BLOCK, FILES, make_tars
from tests import ROOT
from tests.archives import tar_files

END = bytes(2 * BLOCK)


def member(name: str, content: bytes = b"", kind: bytes = b"0", records: dict[str, str] | None = None) -> bytes:
    """Return a header with its content, after a pax header if there are records."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.type, entry.pax_headers = len(content), kind, records or {}
    form = tarfile.PAX_FORMAT if records else tarfile.USTAR_FORMAT
    return entry.tobuf(form) + content + bytes(-len(content) % BLOCK)


def changed(at: int, value: bytes, sign: int = 1, mends: bool = True) -> bytes:
    """Return a member with changed bytes in its header; with `sign` -1 the checksum sums signed bytes."""
    header = bytearray(member("config.json", b"{}"))
    header[at : at + len(value)] = value
    if mends:
        rest = bytes(header[:148]) + b" " * 8 + bytes(header[156:BLOCK])
        total = sum(rest) - (256 * sum(byte > 127 for byte in rest) if sign < 0 else 0)
        header[148:156] = b"%06o\0 " % total
    return bytes(header)


PLAIN = member("config.json", b"{}")
HANDLER = member("spoter_handler.py", b"print('another handler')\n")
BAD_SUM = HANDLER[:148] + b"000001" + HANDLER[154:]
LINES = {"comment": "x"}

# Refused files, and a part of the reason.
REFUSED: dict[str, tuple[bytes, str]] = {
    "hidden by a checksum": (gzip.compress(PLAIN + BAD_SUM + END), "byte 1,024: .* wrong checksum"),
    "hidden by a bad block": (gzip.compress(PLAIN + b"x" * BLOCK + HANDLER + END), "byte 1,024: .*checksum"),
    "hidden by a lone block": (gzip.compress(PLAIN + bytes(BLOCK) + HANDLER + END), "lone block"),
    "hidden after the end": (gzip.compress(PLAIN + END + HANDLER + END), "after the end marker"),
    "hidden in a second member": (gzip.compress(PLAIN) + gzip.compress(HANDLER + END), "one gzip member"),
    "a second member after the end": (gzip.compress(PLAIN + END) + gzip.compress(HANDLER + END), "one gzip member"),
    "bytes after gzip": (gzip.compress(PLAIN + END) + b"\0", "one gzip member"),
    "no whole block at the end": (gzip.compress(PLAIN + END + b"\0"), "multiple of 512"),
    "content after content": (gzip.compress(PLAIN[:-1] + b"x" + END), "after a file's content"),
    "checksum of signed bytes": (gzip.compress(changed(0, b"\xc3\xa4", sign=-1) + END), "wrong checksum"),
    "no checksum": (gzip.compress(changed(148, b"\0" * 8, mends=False) + END), "checksum"),
    "size in base 256": (gzip.compress(changed(124, b"\x80" + bytes(10) + b"\2") + END), "size"),
    "size after a space": (gzip.compress(changed(124, b" 0000000002\0") + END), "size"),
    "size with more digits": (gzip.compress(changed(124, b"02\x0000000000\0") + END), "size"),
    "no size": (gzip.compress(changed(124, bytes(12)) + END), "size"),
    "uid in base 256": (gzip.compress(changed(108, b"\x80" + bytes(6) + b"\1") + END), "uid"),
    "mode": (gzip.compress(changed(100, b"abc") + END), "mode"),
    "time": (gzip.compress(changed(136, b"-1") + END), "time"),
    "device number": (gzip.compress(changed(329, b"x") + END), "device number"),
    "old magic": (gzip.compress(changed(257, bytes(8)) + END), "another format"),
    "GNU magic, prefix": (gzip.compress(changed(257, b"ustar  \0" + bytes(80) + b"evil") + END), "another format"),
    "star's trailer": (gzip.compress(changed(508, b"tar\0") + END), "another format"),
    "name after its end": (gzip.compress(changed(0, b"a\0evil") + END), "end of a name"),
    "link of a file": (gzip.compress(changed(157, b"evil") + END), "link name"),
    "name of no text": (gzip.compress(changed(0, b"\xff") + END), "not UTF-8"),
    "owner": (gzip.compress(changed(265, b"\xc3\xa4") + END), "owner"),
    "file named as a folder": (gzip.compress(changed(0, b"spoter/\0\0\0\0") + END), "empty part"),
    "folder with content": (gzip.compress(member("spoter/", b"12", b"5") + END), "folder of 2 bytes"),
    **{
        f"type {chr(kind)}": (gzip.compress(member("x", b"", bytes([kind])) + END), "type")
        for kind in b"1234678LKgSVMNDXA "
    },
    "pax: another key": (gzip.compress(member("x", records=LINES) + END), "comment"),
    "pax: size": (gzip.compress(member("x", records={"size": "3"}) + END), "size"),
    "pax: sparse": (gzip.compress(member("x", records={"GNU.sparse.major": "1"}) + END), "damaged record"),
    "pax: no path": (gzip.compress(member("x", records={"path": ""}) + END), "path="),
    "pax: path with a zero": (gzip.compress(member("x", records={"path": "a\0b"}) + END), "path"),
    "pax: path out": (gzip.compress(member("x", records={"path": "../evil"}) + END), "leads out"),
    "pax: time": (gzip.compress(member("x", records={"mtime": "1e9"}) + END), "mtime"),
    "pax: twice": (gzip.compress(member("x", b"9 path=a\n9 path=b\n", b"x") + PLAIN + END), "path"),
    "pax: length": (gzip.compress(member("x", b"8 path=a\n", b"x") + PLAIN + END), "damaged record"),
    "pax: nothing": (gzip.compress(member("x", b"", b"x") + PLAIN + END), "pax header of 0 bytes"),
    "pax: two headers": (gzip.compress(member("x", b"9 path=a\n", b"x") * 2 + PLAIN + END), "pax header"),
    "pax: no file": (gzip.compress(PLAIN + member("x", b"9 path=a\n", b"x") + END), "without a file"),
    "pax: endless": (gzip.compress(member("x", b"9 path=a\n" * 999, b"x") + PLAIN + END), "pax header of"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_files_that_unpackers_read_differently_are_refused(tmp_path, kind):
    path, (content, words) = tmp_path / "model.tar.gz", REFUSED[kind]
    path.write_bytes(content)
    with pytest.raises(SpoterError, match=words) as error:
        scan(path)
    assert "\n" not in str(error.value) and str(path) in str(error.value)


def test_unchanged_headers_pass(tmp_path):
    """So the headers of REFUSED are refused because of their changes."""
    path = tmp_path / "model.tar.gz"
    for content in (changed(0, b""), member("x", b"9 path=a\n", b"x") + PLAIN, member("x/", b"", b"5"), b""):
        path.write_bytes(gzip.compress(content + END))
        scan(path)


@pytest.mark.parametrize("cut", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 3 * BLOCK])
def test_a_tar_that_ends_early_is_refused(tmp_path, cut):
    path = tmp_path / "model.tar.gz"
    path.write_bytes(gzip.compress((PLAIN + END)[:cut]))
    with pytest.raises(SpoterError, match="ends at byte"):
        scan(path)


def hidden_handler(raw: bytes) -> bytes:
    content = gzip.decompress(raw)
    with tarfile.open(fileobj=io.BytesIO(content)) as packed:
        end = max(entry.offset_data + -(-entry.size // BLOCK) * BLOCK for entry in packed.getmembers())
    return gzip.compress(content[:end] + BAD_SUM)


def test_check_archive_finds_a_hidden_handler(built, tmp_path):
    """TorchServe's unpacker verifies no checksum, so this handler would replace the other one."""
    path = tmp_path / "model.tar.gz"
    path.write_bytes(hidden_handler(built[1].read_bytes()))
    with tarfile.open(path) as packed:
        assert packed.getnames().count("spoter_handler.py") == 1  # Python's tarfile reports nothing
    done = CliRunner().invoke(app, ["check-archive", str(path)])
    assert done.exit_code == 1 and done.output.startswith("FAIL  entries"), done.output
    with pytest.raises(ArchiveError):
        archive.copy(path, ["config.json", "spoter_handler.py"], tmp_path)


@pytest.mark.parametrize("number", range(len(make_tars())))
def test_tars_of_other_programs_pass(tmp_path, number):
    path = tmp_path / "model.tar.gz"
    path.write_bytes(gzip.compress(make_tars()[number]))
    digests = {name: entry.sha256 for name, entry in scan(path).items()}
    for name, content in FILES.items():
        assert digests[name.removeprefix("./")] == hashlib.sha256(content).hexdigest()
    archive.copy(path, ["config.json"], tmp_path)
    assert (tmp_path / "config.json").read_bytes() == FILES["./config.json"]


def test_the_root_folder_that_sagemakers_sdk_writes_passes(tmp_path):
    """It repacks a folder by tarfile's add(folder, "/"), which names the folder itself "/"."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "config.json").write_bytes(b"{}")
    with tarfile.open(tmp_path / "model.tar.gz", "w:gz") as packed:
        packed.add(tmp_path / "folder", "/")
    assert list(scan(tmp_path / "model.tar.gz")) == ["config.json"]


@pytest.mark.parametrize(
    "name", ["a" * 120 + ".csv", "\u624b" * 80 + ".csv", "\u00e4.csv"], ids=["long", "cjk", "umlaut"]
)
def test_packed_archives_with_unusual_layout_names_pass(dgs11, tmp_path, name):
    model = Path(shutil.copytree(dgs11, tmp_path / "model"))
    config = json.loads((model / "config.json").read_bytes())
    shutil.copy(ROOT / "spoter" / "landmarks" / "tables" / f"points_{config['layout']}.csv", model / name)
    (model / "config.json").write_text(json.dumps(config | {"layout": name}))
    _, tar = build(model, "signs", None, tmp_path / "store")
    assert set(scan(tar)) == set(tar_files(tar)) >= {name}


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_content_is_read_to_its_end_for_all_positions_in_chunks(tmp_path, monkeypatch, kind):
    """zlib may keep the last bytes of its output back after it has read all input."""
    from spoter.torchserve.pack import gzipped_tar, zipped

    monkeypatch.setattr(archive, "CHUNK", 64)
    monkeypatch.setattr(tar_reader, "_CHUNK", 64)
    make: Callable[[dict[str, bytes]], bytes] = gzipped_tar if kind == "tar" else zipped
    rng, path = random.Random(1), tmp_path / "archive"
    for size in range(1, 700, 3):
        content = bytes(size) if size % 2 else bytes(rng.choices(b"ab", k=size))
        path.write_bytes(make({"a": content}))
        assert scan(path)["a"].sha256 == hashlib.sha256(content).hexdigest()
