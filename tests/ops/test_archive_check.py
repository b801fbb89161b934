"""What `spoter check-archive` says of code, manifest and model in an archive, and what build_mar.py does not pack."""

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


def test_the_image_holds_what_its_start_and_health_check_import():
    """They run where no package of the project's is installed."""
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
    with pytest.raises(ModelFolderError, match=r"MODEL_CARD.md: found a device, pipe or socket"):
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
    for name in (
        "spoter/landmarks/clip.py",
        "NOTICE",
        "spoter_handler.py",
        "code/inference.py",
        "code/requirements.txt",
    ):
        assert archive_check.project_file(name).is_file()
