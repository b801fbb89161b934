"""Archives that `spoter pack` writes, and model folders that it refuses."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from spoter.errors import ModelFolderError
from spoter.landmarks.layouts import load_layout
from spoter.serving.enroll import enroll
from spoter.sources.clip_files import read_clips
from spoter.torchserve import pack
from spoter.torchserve.pack import build
from tests import ROOT
from tests.archives import mar_files, tar_files


def test_both_archives_hold_the_same_tree(built, dgs11):
    mar, tar = built
    files = mar_files(mar)
    assert files == tar_files(tar)
    assert list(files) == sorted(files)
    for name in ("model.onnx", "config.json", "meaning.json", "MODEL_CARD.md"):
        assert files[name] == (dgs11 / name).read_bytes()
    assert "model.pth" not in files
    for name, source in {
        "spoter_handler.py": "handler/spoter_handler.py",
        "video_bucket.py": "handler/video_bucket.py",
        "model-config.yaml": "handler/model-config.yaml",
        "code/inference.py": "handler/inference.py",
        "spoter/serving/service.py": "spoter/serving/service.py",
        "spoter/landmarks/tables/points_54.csv": "spoter/landmarks/tables/points_54.csv",
        "spoter/video/worker/__main__.py": "spoter/video/worker/__main__.py",
        "spoter/video/requirements.txt": "spoter/video/requirements.txt",
    }.items():
        assert files[name] == (ROOT / source).read_bytes()
    onnx = (ROOT / "handler" / "onnx-requirements.txt").read_bytes()
    assert files["requirements.txt"] == (ROOT / "handler" / "requirements.txt").read_bytes() + onnx
    assert files["code/requirements.txt"] == (ROOT / "handler" / "code-requirements.txt").read_bytes() + onnx
    packed = {name.split("/")[1] for name in files if name.startswith("spoter/")}
    assert packed == set(pack.SERVED)
    assert not [name for name in files if "__pycache__" in name]


def test_the_archive_holds_every_module_that_its_code_imports(built):
    """Except for spoter/video, parts of which run only in `spoter extract`."""
    files = mar_files(built[0])
    missing = set()
    for name, content in files.items():
        if not name.endswith(".py") or name.startswith("spoter/video/"):
            continue
        tree = ast.parse(content)
        tree.body = [statement for statement in tree.body if not ast.unparse(statement).startswith("if TYPE_CHECKING")]
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "spoter":
                path = node.module.replace(".", "/")
                inside = f"{path}.py" in files or f"{path}/__init__.py" in files
                missing |= set() if inside else {f"{name}: {node.module}"}
    assert missing == set()


def test_the_manifest_is_at_the_root(built, dgs11):
    manifest = json.loads(mar_files(built[0])["MAR-INF/MANIFEST.json"])
    config = json.loads((dgs11 / "config.json").read_bytes())
    assert manifest["model"] == {
        "modelName": "spoter",
        "serializedFile": "model.onnx",
        "handler": "spoter_handler.py",
        "modelVersion": config["version"],
        "requirementsFile": "requirements.txt",
        "configFile": "model-config.yaml",
    }


def test_the_same_input_gives_the_same_bytes(built, dgs11, tmp_path, monkeypatch):
    """Also from a copy of the folder, at another time, in another working folder and with another umask."""
    copy = tmp_path / "elsewhere"
    shutil.copytree(dgs11, copy)
    for path in copy.iterdir():
        os.utime(path, (1e9, 1e9))
    monkeypatch.chdir(tmp_path)
    before = os.umask(0o077)
    try:
        again = build(copy, "spoter", None, tmp_path / "store")
    finally:
        os.umask(before)
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in built]


def test_no_path_of_this_machine_is_inside(built, dgs11):
    for name, content in mar_files(built[0]).items():
        for path in (ROOT, Path.home(), dgs11):
            assert len(str(path)) < 4 or str(path).encode() not in content, name


def test_an_archive_with_a_name_a_version_and_a_custom_layout(dgs11, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(dgs11, model)
    config = json.loads((model / "config.json").read_bytes())
    shutil.copy(ROOT / "spoter" / "landmarks" / "tables" / f"points_{config['layout']}.csv", model / "mine.csv")
    (model / "config.json").write_text(json.dumps(config | {"layout": "mine.csv"}))
    (model / "MODEL_CARD.md").unlink()
    mar, _ = build(model, "signs", "2.1", tmp_path)
    assert mar.name == "signs.mar"
    files = mar_files(mar)
    assert files["mine.csv"] == (model / "mine.csv").read_bytes() and "MODEL_CARD.md" not in files
    manifest = json.loads(files["MAR-INF/MANIFEST.json"])
    assert (manifest["model"]["modelName"], manifest["model"]["modelVersion"]) == ("signs", "2.1")


@pytest.mark.parametrize("spoiled", ["model.pth", "model.onnx", "config.json", "meaning.json"])
@pytest.mark.parametrize("how", ["absent", "cut short"])
def test_a_broken_folder_is_refused_and_an_earlier_archive_stays(dgs11, tmp_path, spoiled, how):
    model, store = tmp_path / "model", tmp_path / "store"
    shutil.copytree(dgs11, model)
    store.mkdir()
    (store / "spoter.mar").write_bytes(b"an older one")
    path = model / spoiled
    if how == "absent":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ModelFolderError, match=spoiled):
        build(model, "spoter", None, store, "torch" if spoiled == "model.pth" else None)
    assert {p.name: p.read_bytes() for p in store.iterdir()} == {"spoter.mar": b"an older one"}


def test_build_mar_reports_an_error_in_one_line(tmp_path):
    command = [sys.executable, ROOT / "build_mar.py", "--model", tmp_path / "nowhere", "--out", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "nowhere" in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_name_that_torchserve_refuses_is_refused(dgs11, tmp_path):
    with pytest.raises(ModelFolderError, match="torch-model-archiver"):
        build(dgs11, "../spoter", None, tmp_path / "store")
    assert not (tmp_path / "spoter.mar").exists()


def test_the_archives_copy_of_spoter_is_imported(built, tmp_path):
    """Even if the user's PYTHONPATH, which TorchServe puts first, has another one."""
    archive, decoy = tmp_path / "archive", tmp_path / "decoy"
    with zipfile.ZipFile(built[0]) as packed:
        packed.extractall(archive)
    (decoy / "spoter").mkdir(parents=True)
    (decoy / "spoter" / "__init__.py").write_text("")
    program = (
        "import sys, types, spoter_handler\n"
        "properties = {'model_dir': sys.argv[1], 'gpu_id': None}\n"
        "context = types.SimpleNamespace(system_properties=properties, model_yaml_config={}, metrics=None)\n"
        "spoter_handler.SpoterHandler().initialize(context)\n"
        "import spoter\n"
        "print(spoter.__file__)"
    )
    path = os.pathsep.join([str(decoy), str(archive)])
    done = subprocess.run(
        [sys.executable, "-c", program, archive],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == [str(archive / "spoter" / "__init__.py")]


def test_an_enrolled_gloss_is_served_from_the_archive(dgs11, samples, tmp_path):
    """By the handler, with only the files and the code of the archive."""
    model, archive = tmp_path / "model", tmp_path / "archive"
    shutil.copytree(dgs11, model)
    clips = read_clips([samples / "mainz-long.csv"], load_layout("54"))
    enroll(model, "NEW", clips)
    with zipfile.ZipFile(build(model, "spoter", None, tmp_path / "store")[0]) as packed:
        packed.extractall(archive)
    program = (
        "import sys, types, spoter_handler\n"
        "properties = {'model_dir': sys.argv[1], 'gpu_id': None}\n"
        "context = types.SimpleNamespace(system_properties=properties, model_yaml_config={}, metrics=None)\n"
        "handler = spoter_handler.SpoterHandler()\n"
        "handler.initialize(context)\n"
        "from spoter.serving.service import RawRequest\n"
        "request = RawRequest(open(sys.argv[2], 'rb').read(), 'text/csv')\n"
        "print(spoter_handler.respond_each(handler.recognizer, [request])[0][0].body.decode())\n"
        "training = {'scipy', 'sklearn', 'matplotlib', 'jinja2', 'h5py'}.intersection(sys.modules)\n"
        "assert not training and not any(name.startswith('spoter.training') for name in sys.modules), training"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, archive, samples / "mainz-long.csv"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(archive)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    answer = json.loads(done.stdout)
    assert (answer["instances"][0]["gloss"], answer["instances"][0]["index"]) == ("NEW", 11)
    assert answer["known"] is True


def requirements(path: Path) -> set[str]:
    lines = path.read_text().splitlines()
    return {str(Requirement(line)) for line in lines if line and not line.startswith("#")}


def test_requirements_of_an_archive_are_those_of_pyproject():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *extras["serve"], *extras["onnx"]]
    declared = {str(Requirement(line)) for line in lines}
    packed = requirements(ROOT / "handler" / "requirements.txt")
    assert packed and packed <= declared


def test_sagemaker_installs_only_packages_that_the_aws_image_lacks():
    """spoter/aws/local/requirements.txt lists the packages of the image that serving needs."""
    packed = requirements(ROOT / "handler" / "requirements.txt")
    image = {Requirement(line).name for line in requirements(ROOT / "spoter" / "aws" / "local" / "requirements.txt")}
    missing = {line for line in packed if Requirement(line).name not in image}
    assert requirements(ROOT / "handler" / "code-requirements.txt") == missing != set()


def test_other_files_of_a_checkout_are_not_packed(dgs11, tmp_path, built, monkeypatch):
    root = tmp_path / "checkout"
    for name in ("spoter", "handler"):
        shutil.copytree(ROOT / name, root / name)
    for name in ("LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, root)
    for stray in (
        "spoter/.DS_Store",
        "spoter/landmarks/clip.py.orig",
        "spoter/landmarks/tables/points_54.csv~",
        "spoter/__pycache__/x.pyc",
    ):
        (root / stray).parent.mkdir(exist_ok=True)
        (root / stray).write_text("stray")
    monkeypatch.setattr(pack, "PACKAGE", root / "spoter")
    monkeypatch.setattr(pack, "RESOURCES", root)
    monkeypatch.setattr(pack, "HANDLER", root / "handler")
    mar, _ = pack.build(dgs11, "spoter", None, tmp_path / "out")
    assert mar_files(mar) == mar_files(built[0])


def test_an_archive_holds_the_notice(built):
    assert mar_files(built[0])["NOTICE"] == (ROOT / "NOTICE").read_bytes()


@pytest.mark.parametrize("version", ["", " ", "1/0", "../1", "ü", "-x"])
def test_a_version_that_does_not_fit_into_a_url_is_refused(dgs11, tmp_path, version):
    with pytest.raises(ModelFolderError, match="version"):
        pack.build(dgs11, "spoter", version, tmp_path)
    assert not list(tmp_path.iterdir())
