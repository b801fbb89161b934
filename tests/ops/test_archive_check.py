"""The checks of `spoter check-archive` on code, manifest and model, and what `spoter pack` refuses to pack."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from spoter.cli.main import app
from spoter.errors import ModelFolderError
from spoter.ops import archive_check
from spoter.ops.archive import scan
from spoter.torchserve.pack import build, zipped
from tests import ROOT
from tests.archives import mar_files

MANIFEST = "MAR-INF/MANIFEST.json"


@pytest.fixture(scope="module")
def files(built) -> dict[str, bytes]:
    return mar_files(built[0])


@pytest.mark.parametrize("which", [0, 1])
def test_packed_archives_pass(built, which):
    done = CliRunner().invoke(app, ["check-archive", str(built[which])])
    assert done.exit_code == 0, done.output
    assert [line.split()[:2] for line in done.output.splitlines()] == [
        ["ok", name] for name in ("entries", "manifest", "code", "model")
    ]
    assert "dgs11" in done.output and ".py" not in done.output.split("handler spoter_handler.py")[1]


def failed(tmp_path: Path, files: dict[str, bytes], *options: str) -> str:
    """Return the failures that check-archive reports for an archive of these files."""
    path = tmp_path / "spoter.mar"
    path.write_bytes(zipped(files))
    done = CliRunner().invoke(app, ["check-archive", str(path), *options])
    failures = [line for line in done.output.splitlines() if line.startswith("FAIL")]
    assert done.exit_code == (1 if failures else 0)
    return "\n".join(failures)


def manifest(files: dict[str, bytes], **changes: object) -> dict[str, bytes]:
    content = json.loads(files[MANIFEST])
    content["model"] |= changes.pop("model", {})
    return files | {MANIFEST: json.dumps(content | changes).encode()}


def test_other_code_is_listed_and_refused_unless_it_is_trusted(files, tmp_path):
    other = files | {"spoter_handler.py": b"import os", "spoter/more.py": b"", "conf.d/x.yaml": b""}
    failures = failed(tmp_path, other)
    assert "3 do not: conf.d/x.yaml, spoter/more.py, spoter_handler.py" in failures and "manifest" not in failures
    assert failed(tmp_path, other, "--other-code") == ""


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": {"handler": "evil.py:run"}}, "handler 'evil.py:run'"),
        ({"model": {"modelName": "../x"}}, "modelName"),
        ({"model": {"modelVersion": 1}}, "modelVersion"),
        ({"model": {"serializedFile": "other.pt"}}, "other.pt"),
        ({"model": {"envelope": "json"}}, "envelope"),
        ({"runtime": "LSP"}, "runtime 'LSP'"),
        ({"workflow": {}}, "workflow"),
    ],
)
def test_manifest_with_other_content_is_refused(files, tmp_path, changes, words):
    assert words in failed(tmp_path, manifest(files, **changes))


@pytest.mark.parametrize(
    "text", [b"", b"[]", b'{"model": 7}', b"[" * 100_000, None], ids=["empty", "list", "number", "deep", "absent"]
)
def test_missing_or_damaged_manifest_is_refused(files, tmp_path, text):
    rest = {name: content for name, content in files.items() if name != MANIFEST}
    assert MANIFEST in failed(tmp_path, rest | ({} if text is None else {MANIFEST: text}))


class Trap:
    """An object that runs code when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, (os.environ["SPOTER_TRAP"],)


def test_weights_that_would_run_code_are_refused_without_running_it(files, tmp_path, monkeypatch):
    import torch

    monkeypatch.setenv("SPOTER_TRAP", str(tmp_path / "sprung"))
    torch.save({"class_query": Trap()}, tmp_path / "trap.pth")
    in_torch = files["config.json"].replace(b'"runtime": "onnx"', b'"runtime": "torch"')
    trapped = {"config.json": in_torch, "model.pth": (tmp_path / "trap.pth").read_bytes()}
    assert "model.pth" in failed(tmp_path, files | trapped) and not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("name", ["config.json", "meaning.json"])
def test_a_model_that_cannot_be_served_is_refused(files, tmp_path, name):
    assert name in failed(tmp_path, files | {name: b"{"})


def test_the_image_holds_the_imports_of_its_start_and_health_check():
    """They run where no package of this project is installed."""
    lines = (ROOT / "docker" / "Dockerfile").read_text().splitlines()
    copied = [line.split()[1:-1] for line in lines if re.search(r" /opt/spoter/spoter/(ops/)?$", line)]
    inside = {name for names in copied for name in names}
    assert len(inside) > 5
    for name in inside:
        tree = ast.parse((ROOT / name).read_text())
        tree.body = [statement for statement in tree.body if "TYPE_CHECKING" not in ast.unparse(statement)[:20]]
        imported = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        for module in imported:
            if module.split(".")[0] == "spoter":
                assert f"{module.replace('.', '/')}.py" in inside, f"{name} imports {module}"


@pytest.fixture
def model(dgs11: Path, tmp_path: Path) -> Path:
    shutil.copytree(dgs11, tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("name", ["model.pth", "MODEL_CARD.md", "notes.csv"])
def test_a_link_out_of_a_model_folder_is_not_packed(model, tmp_path, name):
    (tmp_path / "secret").write_bytes((model / name).read_bytes() if (model / name).exists() else b"secret")
    (model / name).unlink(missing_ok=True)
    (model / name).symlink_to(tmp_path / "secret")
    with pytest.raises(ModelFolderError, match=f"{name}: found a link"):
        build(model, "spoter", None, tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_a_link_inside_a_model_folder_is_packed(model, tmp_path):
    (model / "weights").mkdir()
    shutil.move(model / "model.onnx", model / "weights" / "model.onnx")
    (model / "model.onnx").symlink_to("weights/model.onnx")
    (tmp_path / "current").symlink_to(model)
    mar, _ = build(tmp_path / "current", "spoter", None, tmp_path / "store")
    assert scan(mar)["model.onnx"].size == (model / "model.onnx").stat().st_size


def test_a_pipe_in_a_model_folder_is_refused_without_waiting(model, tmp_path):
    (model / "MODEL_CARD.md").unlink()
    os.mkfifo(model / "MODEL_CARD.md")
    with pytest.raises(ModelFolderError, match=r"MODEL_CARD.md: found .*pipe"):
        build(model, "spoter", None, tmp_path / "store")


@pytest.mark.parametrize("name", ["line\nbreak.csv", "back\\slash.csv"])
def test_an_unsafe_name_in_a_model_folder_is_refused(model, tmp_path, name):
    (model / name).write_text("x")
    with pytest.raises(ModelFolderError, match=f"{model}: .*file names"):
        build(model, "spoter", None, tmp_path / "store")


@pytest.mark.parametrize("layout", ["../x.csv", "/etc/x.csv", "a/b.csv", "x\n.csv", "..csv/../../y.csv"])
def test_a_layout_that_is_a_path_is_refused(model, tmp_path, layout):
    config = json.loads((model / "config.json").read_bytes())
    (model / "config.json").write_text(json.dumps(config | {"layout": layout}))
    with pytest.raises(ModelFolderError, match="layout"):
        build(model, "spoter", None, tmp_path / "store")


def test_entries_map_to_files_of_the_project():
    for name in (
        "spoter/landmarks/clip.py",
        "NOTICE",
        "spoter_handler.py",
        "code/inference.py",
        "code/requirements.txt",
    ):
        assert archive_check.project_file(name).is_file()
