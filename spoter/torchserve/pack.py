"""Pack a model folder into what servers load: model_store/NAME.mar for TorchServe, model.tar.gz for SageMaker.

Both hold the same tree: the model's files, a copy of the spoter package, the entry points of handler/, and TorchServe's
MAR-INF/MANIFEST.json at the root. The same input gives the same bytes: entries are sorted and nothing holds a time.
"""

import gzip
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from spoter.errors import ModelFolderError
from spoter.fewshot.enrolled import ENROLLED
from spoter.files import atomic_write_bytes
from spoter.landmarks.layouts import BUILT_IN
from spoter.model.config import CONFIG, ModelConfig, choose_runtime, read_config
from spoter.model.folder import CARD, MEANING, PROTOTYPES, RUNTIME_FILES
from spoter.ops.archive import refuse_tricks
from spoter.resources import PACKAGE, RESOURCES
from spoter.runtime.loading import load_runtime

HANDLER = RESOURCES / "handler"
MANIFEST = "MAR-INF/MANIFEST.json"
# The parts of the spoter package that serve. Nothing else goes into an archive.
SERVED = (
    "__init__.py",
    "error_codes.py",
    "errors.py",
    "files.py",
    "limits.py",
    "messages.py",
    "fewshot",
    "formats",
    "landmarks",
    "model",
    "runtime",
    "serving",
    "video",
)
# Parts of a model folder that a model need not have.
MAYBE = (CARD, PROTOTYPES, ENROLLED)
# A zip file cannot hold an earlier time.
EPOCH = (1980, 1, 1, 0, 0, 0)


def build(model: Path, name: str, version: str | None, out: Path, runtime: str | None = None) -> list[Path]:
    """Check a model folder and write ``out/NAME.mar`` and ``out/model.tar.gz``, each whole or not at all.

    Requests go to /predictions/NAME. The archive's version is the model's own unless given. It holds the file of one
    runtime of `spoter.model.config.RUNTIMES` only, by default the model's own.

    Raises `ModelFolderError` where the folder cannot be served, or torch-model-archiver refuses it.
    """
    refuse_tricks(model)
    runtime = choose_runtime(model, runtime)
    model_folder, _ = load_runtime(model, runtime)  # also checks, for example, that a graph has the folder's weights
    config = msgspec.structs.replace(model_folder.config, runtime=runtime)
    version = config.version if version is None else version
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.+-]*", version):  # it stands in URLs: /predictions/NAME/VERSION
        raise ModelFolderError(f"found version {version!r}, expected letters, digits and . _ + - such as 1.0")
    with tempfile.TemporaryDirectory(prefix="spoter-") as scratch:
        extra = Path(scratch, "extra")
        _stage(model, config, extra)
        tree = _archive(model / RUNTIME_FILES[config.runtime], extra, name, version, Path(scratch), config.runtime)
        paths = sorted(path for path in tree.rglob("*") if path.is_file())
        files = {path.relative_to(tree).as_posix(): path.read_bytes() for path in paths}
    # The archiver writes the time of day into the manifest.
    manifest = json.loads(files[MANIFEST])
    manifest["createdOn"] = "01/01/1980 00:00:00"
    files[MANIFEST] = json.dumps(manifest, indent=2).encode()
    out.mkdir(parents=True, exist_ok=True)
    contents = {out / f"{name}.mar": zipped(files), out / "model.tar.gz": _tar(files)}
    for path, content in contents.items():
        atomic_write_bytes(path, content)
    return list(contents)


def _stage(model: Path, config: ModelConfig, extra: Path) -> None:
    """Gather in `extra` what goes into the archive beside weights, handler, model-config.yaml and requirements.txt."""
    extra.mkdir()
    for file in model_files(model, config.layout):
        shutil.copy(model / file, extra)
    if read_config(model) != config:
        (extra / CONFIG).write_bytes(config.to_json())
    for path in package_files(SERVED):
        to = extra / path.relative_to(PACKAGE.parent)
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, to)
    shutil.copy(HANDLER / "video_bucket.py", extra)
    for name in ("LICENSE", "NOTICE"):
        shutil.copy(RESOURCES / name, extra)
    (extra / "code").mkdir()
    shutil.copy(HANDLER / "inference.py", extra / "code")
    (extra / "code" / "requirements.txt").write_bytes(_requirements("code-requirements.txt", config.runtime))


def _requirements(name: str, runtime: str) -> bytes:
    """Return what one of the requirements files of handler/ is in an archive of a runtime."""
    names = [name, *(["onnx-requirements.txt"] if runtime != "torch" else [])]
    return b"".join((HANDLER / each).read_bytes() for each in names)


def model_files(model: Path, layout: str) -> list[str]:
    """Return the names of a model folder's files that are served, but that of its weights."""
    names = [CONFIG, MEANING, *((layout,) if layout not in BUILT_IN else ())]
    return names + [name for name in MAYBE if (model / name).is_file()]


def package_files(parts: Sequence[str]) -> list[Path]:
    """Return the files of the spoter package that `parts` names, and those below the folders that it names."""
    paths = [PACKAGE / part for part in parts]
    files = {file for path in paths for file in ([path] if path.is_file() else path.rglob("*"))}
    # spoter/video compares its requirements.txt with those that an environment for videos was made from.
    return sorted(file for file in files if file.suffix in (".py", ".csv") or file.name == "requirements.txt")


def _archive(computes: Path, extra: Path, name: str, version: str, scratch: Path, runtime: str) -> Path:
    """Have torch-model-archiver lay out the archive's tree; it writes the manifest and checks the name."""
    # The archiver empties and fills the temporary folder's NAME: it gets a temporary folder of its own.
    for folder in ("tmp", "tree"):
        (scratch / folder).mkdir()
    command = [sys.executable, "-m", "model_archiver.model_packaging", "--archive-format", "no-archive"]
    command += ["--model-name", name, "--version", version, "--export-path", str(scratch / "tree")]
    command += ["--serialized-file", str(computes), "--handler", str(HANDLER / "spoter_handler.py")]
    command += ["--extra-files", str(extra), "--config-file", str(HANDLER / "model-config.yaml")]
    requirements = scratch / "requirements.txt"
    requirements.write_bytes(_requirements("requirements.txt", runtime))
    command += ["--requirements-file", str(requirements)]
    done = subprocess.run(command, env=os.environ | {"TMPDIR": str(scratch / "tmp")}, capture_output=True, text=True)
    if done.returncode:
        reason = [line for line in done.stderr.strip().splitlines() if not line.startswith(" ")]
        raise ModelFolderError(f"torch-model-archiver: {reason[-1] if reason else f'exit status {done.returncode}'}")
    return scratch / "tree" / name


def zipped(files: dict[str, bytes]) -> bytes:
    """Return a zip file of `files`, in their order; the same ones give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix, whatever this runs on, so that the mode below counts
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content)
    return buffer.getvalue()


def _tar(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with gzip.GzipFile("", "wb", fileobj=buffer, mtime=0) as packed, tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)  # owner, group and time are 0 unless said otherwise
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
