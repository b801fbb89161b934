"""Hostile archives: what `spoter check-archive`, the image's start and `deploy.py --local` refuse, and build_mar.py."""

from __future__ import annotations

import gzip
import importlib.util
import io
import json
import os
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from aws.local.container import unpack
from build_mar import build, zipped
from spoter import archive, archive_check
from spoter.archive import ArchiveError, scan
from spoter.cli import app
from spoter.errors import ModelFolderError, SpoterError

ROOT = Path(__file__).resolve().parents[1]
MANIFEST = "MAR-INF/MANIFEST.json"


@pytest.fixture(scope="module")
def built(dgs11: Path, tmp_path_factory) -> tuple[Path, Path]:
    return tuple(build(dgs11, "spoter", None, tmp_path_factory.mktemp("store")))


@pytest.fixture(scope="module")
def files(built) -> dict[str, bytes]:
    with zipfile.ZipFile(built[0]) as packed:
        return {name: packed.read(name) for name in packed.namelist()}


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
    """An archive whose front, which TorchServe reads, names another entry than the table at its end."""
    raw, name = zipped(files), b"spoter_handler.py"
    assert raw.count(name) >= 2
    place = raw.index(b"PK\x03\x04", raw.index(b"requirements.txt"))
    place = next(i for i in range(place, len(raw)) if raw[i : i + len(name)] == name)
    return raw[:place] + b"spoter_handles.py" + raw[place + len(name) :]


def hidden(files: dict[str, bytes]) -> bytes:
    """An entry in the front that the table at the end does not list."""
    raw, entry = zipped(files), b"PK\x03\x04" + struct.pack("<5H3I2H", 20, 0, 0, 0, 0x21, zlib.crc32(b"x"), 1, 1, 4, 0)
    with zipfile.ZipFile(io.BytesIO(raw)) as packed:
        end = packed.start_dir
    extra = entry + b"evil" + b"x"
    tail = bytearray(raw[end:])
    at = tail.rindex(b"PK\x05\x06") + 16  # where the table begins
    tail[at : at + 4] = struct.pack("<I", end + len(extra))
    return raw[:end] + extra + bytes(tail)


def nested(files: dict[str, bytes], large: bool = False) -> bytes:
    """An entry whose header in the front ends it early, before another one that the table says is its content."""
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
    """An entry that unpacks to more than the sizes in both its headers say."""
    raw = bytearray(with_more(files, ("evil", b"\0" * 100_000)))
    for at, offset in ((raw.rindex(b"PK\x03\x04"), 22), (raw.rindex(b"PK\x01\x02"), 24)):
        raw[at + offset : at + offset + 4] = struct.pack("<I", 10)
    return bytes(raw)


def bomb(files: dict[str, bytes]) -> bytes:
    return with_more({}, ("evil", bytes(archive.SMALL + 1)))


ZIPS: dict[str, tuple[Callable[[dict[str, bytes]], bytes], str]] = {
    "parent": (lambda f: with_more(f, ("../evil", b"x")), "leads out"),
    "parent inside": (lambda f: with_more(f, ("spoter/../../evil", b"x")), "leads out"),
    "absolute": (lambda f: with_more(f, ("/tmp/evil", b"x")), "absolute"),
    "drive": (lambda f: with_more(f, ("C:/evil", b"x")), "absolute"),
    "backslash": (lambda f: with_more(f, ("..\\evil", b"x")), "backslash"),
    "line break": (lambda f: with_more(f, ("evil\nx", b"x")), "cannot be printed"),
    "right to left": (lambda f: with_more(f, ("evil\u202egnp.py", b"x")), "cannot be printed"),
    "link": (lambda f: with_more(f, (linked(), b"/etc/passwd")), "link or a device"),
    "twice": (lambda f: with_more(f, ("spoter_handler.py", b"x")), "twice"),
    "twice in another case": (lambda f: with_more(f, ("Spoter_Handler.py", b"x")), "twice"),
    "in a file": (lambda f: with_more(f, ("config.json/evil", b"x")), "lies in the file"),
    "two lists": (lying, "another entry"),
    "not listed": (hidden, "bytes between"),
    "bytes before": (lambda f: b"#!/bin/sh\n" + zipped(f), "neither a zip nor"),
    "nested": (nested, "another size"),
    "nested by large sizes": (lambda f: nested(f, large=True), "another size"),
    "understated": (understated, "more than the 10 bytes"),
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


def test_a_mar_with_sizes_as_of_large_files_passes(files, tmp_path):
    path = tmp_path / "spoter.mar"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in files.items():
            with packed.open(name, "w", force_zip64=True) as entry:
                entry.write(content)
    assert scan(path).keys() == files.keys()


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
    with pytest.raises(ArchiveError, match=words):  # of `deploy.py --local`
        unpack(path, inside)
    assert list(inside.iterdir()) == [] and sorted(p.name for p in tmp_path.iterdir()) == ["inside", "model.tar.gz"]


def test_a_tar_that_is_a_bomb_is_left_at_once(tmp_path):
    path = tmp_path / "model.tar.gz"
    path.write_bytes(tar_of([(member("zeros"), bytes(archive.SMALL + 1))]))
    with pytest.raises(ArchiveError, match="unpacks to more than"):
        scan(path)


def test_a_tar_as_people_make_it_is_none_the_worse(tmp_path):
    path = tmp_path / "model.tar.gz"
    (tmp_path / "tree" / "a").mkdir(parents=True)
    (tmp_path / "tree" / "a" / "b.txt").write_text("x")
    with tarfile.open(path, "w:gz") as packed:
        packed.add(tmp_path / "tree", "./")
    assert {name: entry.size for name, entry in scan(path).items()} == {"a/b.txt": 1}


@pytest.mark.parametrize("spoil", [lambda raw: raw[:-200], lambda raw: raw[:2], lambda raw: b"", lambda raw: b"text"])
@pytest.mark.parametrize("which", [0, 1])
def test_what_is_no_whole_archive_is_said_in_a_line(built, tmp_path, which, spoil):
    path = tmp_path / built[which].name
    path.write_bytes(spoil(built[which].read_bytes()))
    done = CliRunner().invoke(app, ["check-archive", str(path)])
    assert isinstance(done.exception, SpoterError) and "\n" not in str(done.exception)
    assert str(path) in str(done.exception)


def test_bits_that_fell_over_are_found(built, tmp_path):
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


@pytest.mark.parametrize("which", [0, 1])
def test_what_build_mar_wrote_passes(built, which):
    done = CliRunner().invoke(app, ["check-archive", str(built[which])])
    assert done.exit_code == 0, done.output
    assert [line.split()[:2] for line in done.output.splitlines()] == [
        ["ok", name] for name in ("entries", "manifest", "code", "model")
    ]
    assert "dgs11" in done.output and ".py" not in done.output.split("handler spoter_handler.py")[1]


def failed(tmp_path: Path, files: dict[str, bytes], *options: str) -> str:
    """Return what check-archive says is wrong with an archive of these files."""
    path = tmp_path / "spoter.mar"
    path.write_bytes(zipped(files))
    done = CliRunner().invoke(app, ["check-archive", str(path), *options])
    wrong = [line for line in done.output.splitlines() if line.startswith("FAIL")]
    assert done.exit_code == (1 if wrong else 0)
    return "\n".join(wrong)


def manifest(files: dict[str, bytes], **changes: object) -> dict[str, bytes]:
    told = json.loads(files[MANIFEST])
    told["model"] |= changes.pop("model", {})
    return files | {MANIFEST: json.dumps(told | changes).encode()}


def test_other_code_is_named_and_refused_unless_it_is_trusted(files, tmp_path):
    other = files | {"spoter_handler.py": b"import os", "spoter/more.py": b"", "conf.d/x.yaml": b""}
    said = failed(tmp_path, other)
    assert "3 are not: conf.d/x.yaml, spoter/more.py, spoter_handler.py" in said and "manifest" not in said
    assert failed(tmp_path, other, "--other-code") == ""


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": {"handler": "evil.py:run"}}, "found the handler 'evil.py:run'"),
        ({"model": {"modelName": "../x"}}, "found the modelName"),
        ({"model": {"modelVersion": 1}}, "found the modelVersion"),
        ({"model": {"serializedFile": "other.pt"}}, "other.pt, which the archive has not"),
        ({"model": {"envelope": "json"}}, "found the keys envelope"),
        ({"runtime": "LSP"}, "found the runtime 'LSP'"),
        ({"workflow": {}}, "found the keys workflow"),
    ],
)
def test_an_odd_manifest_is_refused(files, tmp_path, changes, words):
    assert words in failed(tmp_path, manifest(files, **changes))


@pytest.mark.parametrize(
    "text", [b"", b"[]", b'{"model": 7}', b"[" * 100_000, None], ids=["empty", "list", "number", "deep", "absent"]
)
def test_what_is_no_manifest_is_refused(files, tmp_path, text):
    rest = {name: content for name, content in files.items() if name != MANIFEST}
    assert "is missing or none of TorchServe's" in failed(tmp_path, rest | ({} if text is None else {MANIFEST: text}))


class Trap:
    """What runs code when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, (os.environ["SPOTER_TRAP"],)


def test_weights_that_would_run_code_are_refused_and_run_none(files, tmp_path, monkeypatch):
    import torch

    monkeypatch.setenv("SPOTER_TRAP", str(tmp_path / "sprung"))
    torch.save({"class_query": Trap()}, tmp_path / "trap.pth")
    in_torch = files["config.json"].replace(b'"runtime": "onnx"', b'"runtime": "torch"')
    trapped = {"config.json": in_torch, "model.pth": (tmp_path / "trap.pth").read_bytes()}
    said = failed(tmp_path, files | trapped)
    assert "would run code" in said and not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("name", ["config.json", "meaning.json"])
def test_a_model_that_cannot_be_served_is_refused(files, tmp_path, name):
    assert name in failed(tmp_path, files | {name: b"{"})


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_the_image_refuses_to_start_with_a_hostile_archive(files, tmp_path, monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location("docker_start", ROOT / "docker" / "start.py")
    start = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(start)
    monkeypatch.setattr(start, "STORE", tmp_path)
    (tmp_path / "spoter.mar").write_bytes(zipped(files))
    assert start.model("torchserve") == tmp_path / "spoter.mar"
    (tmp_path / "spoter.mar").write_bytes(ZIPS["twice"][0](files))
    with pytest.raises(start.StartError, match="'spoter_handler.py' comes twice") as error:
        start.model("torchserve")
    assert error.value.status == 2


def test_the_image_holds_what_its_start_and_health_check_import():
    """They run where no package of the project's is installed."""
    lines = (ROOT / "docker" / "Dockerfile").read_text().splitlines()
    (line,) = [line for line in lines if line.endswith(" /opt/spoter/spoter/")]
    inside = {Path(word).stem for word in line.split()[1:-1]}
    for name in inside:
        for imported in (ROOT / "spoter" / f"{name}.py").read_text().splitlines():
            if imported.lstrip().startswith("from spoter"):
                module = imported.split()[1]
                assert module.removeprefix("spoter.").split(".")[0] in inside, imported


@pytest.fixture
def model(dgs11: Path, tmp_path: Path) -> Path:
    shutil.copytree(dgs11, tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("name", ["model.pth", "MODEL_CARD.md", "notes.csv"])
def test_a_link_out_of_a_model_folder_is_not_packed(model, tmp_path, name):
    (tmp_path / "secret").write_bytes((model / name).read_bytes() if (model / name).exists() else b"secret")
    (model / name).unlink(missing_ok=True)
    (model / name).symlink_to(tmp_path / "secret")
    with pytest.raises(ModelFolderError, match=f"{name}: found a link out of the model folder"):
        build(model, "spoter", None, tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_a_link_inside_a_model_folder_is(model, tmp_path):
    (model / "weights").mkdir()
    shutil.move(model / "model.onnx", model / "weights" / "model.onnx")
    (model / "model.onnx").symlink_to("weights/model.onnx")
    (tmp_path / "current").symlink_to(model)
    mar, _ = build(tmp_path / "current", "spoter", None, tmp_path / "store")
    assert scan(mar)["model.onnx"].size == (model / "model.onnx").stat().st_size


def test_a_pipe_in_a_model_folder_is_named_and_not_waited_for(model, tmp_path):
    (model / "MODEL_CARD.md").unlink()
    os.mkfifo(model / "MODEL_CARD.md")
    with pytest.raises(ModelFolderError, match="MODEL_CARD.md: found a device, pipe or socket"):
        build(model, "spoter", None, tmp_path / "store")


@pytest.mark.parametrize("name", ["line\nbreak.csv", "back\\slash.csv"])
def test_an_odd_name_in_a_model_folder_is_refused(model, tmp_path, name):
    (model / name).write_text("x")
    with pytest.raises(ModelFolderError, match="expected plain file names"):
        build(model, "spoter", None, tmp_path / "store")


@pytest.mark.parametrize("layout", ["../x.csv", "/etc/x.csv", "a/b.csv", "x\n.csv", "..csv/../../y.csv"])
def test_a_layout_that_is_a_path_is_refused(model, tmp_path, layout):
    config = json.loads((model / "config.json").read_bytes())
    (model / "config.json").write_text(json.dumps(config | {"layout": layout}))
    with pytest.raises(ModelFolderError, match="found layout"):
        build(model, "spoter", None, tmp_path / "store")


def test_the_file_that_an_entry_comes_from_is_the_projects():
    for name in ("spoter/clip.py", "NOTICE", "spoter_handler.py", "code/inference.py", "code/requirements.txt"):
        assert archive_check.project_file(name).is_file()
