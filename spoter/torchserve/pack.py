"""Archives of a model folder: model_store/NAME.mar for TorchServe, model.tar.gz for SageMaker.

Both hold the same tree: the model's files, a copy of the spoter package, the entry points of handler/, and TorchServe's
MAR-INF/MANIFEST.json at the root. The same input gives the same bytes: entries are sorted and have a fixed time.
"""

import gzip
import io
import json
import re
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
from model_archiver.model_archiver_config import ModelArchiverConfig
from model_archiver.model_archiver_error import ModelArchiverError
from model_archiver.model_packaging_utils import ModelExportUtils

from spoter.errors import ModelFolderError
from spoter.fewshot.enrolled import ENROLLED
from spoter.files import atomic_write_bytes
from spoter.landmarks.layouts import BUILT_IN
from spoter.model.config import CONFIG, choose_runtime
from spoter.model.folder import CARD, MEANING, PROTOTYPES, RUNTIME_FILES
from spoter.ops.archive import refuse_tricks
from spoter.resources import PACKAGE, RESOURCES
from spoter.runtime.loading import load_runtime

HANDLER = RESOURCES / "handler"
MANIFEST = "MAR-INF/MANIFEST.json"
# Files of handler/ that the manifest names.
ENTRY_POINT, REQUIREMENTS, WORKER_SETTINGS = "spoter_handler.py", "requirements.txt", "model-config.yaml"
# The parts of the spoter package that serving needs. An archive holds no other parts.
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
# Optional files of a model folder.
MAYBE = (CARD, PROTOTYPES, ENROLLED)
# The earliest time that a zip file can hold.
EPOCH = (1980, 1, 1, 0, 0, 0)


def build(model: Path, name: str, version: str | None, out: Path, runtime: str | None = None) -> list[Path]:
    """Write ``out/NAME.mar`` and ``out/model.tar.gz`` of a model folder, each atomically.

    `archive_files` documents the parameters and the errors.
    """
    files = archive_files(model, name, version, runtime)
    out.mkdir(parents=True, exist_ok=True)
    contents = {out / f"{name}.mar": zipped(files), out / "model.tar.gz": gzipped_tar(files)}
    for path, content in contents.items():
        atomic_write_bytes(path, content)
    return list(contents)


def archive_files(
    model: Path, name: str = "spoter", version: str | None = None, runtime: str | None = None
) -> dict[str, bytes]:
    """Check a model folder, and return the content of each file of its archive, sorted by name.

    Requests go to /predictions/NAME. `version` and `runtime`, one of `spoter.model.config.RUNTIMES`, default to those
    of the model. The archive holds only the weights or the graph of this runtime.

    Raises `ModelFolderError` if the folder cannot be served, or if torch-model-archiver refuses the name.
    """
    refuse_tricks(model)
    runtime = choose_runtime(model, runtime)
    model_folder, _ = load_runtime(model, runtime)  # also checks that a graph has the weights of the folder
    config = msgspec.structs.replace(model_folder.config, runtime=runtime)
    version = config.version if version is None else version
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.+-]*", version):  # part of URLs: /predictions/NAME/VERSION
        raise ModelFolderError(f"found version {version!r}, expected letters, digits and . _ + - such as 1.0")
    files = {file: (model / file).read_bytes() for file in [*model_files(model, config.layout), RUNTIME_FILES[runtime]]}
    if model_folder.config != config:
        files[CONFIG] = config.to_json()
    files |= {path.relative_to(PACKAGE.parent).as_posix(): path.read_bytes() for path in package_files(SERVED)}
    files |= {name: (RESOURCES / name).read_bytes() for name in ("LICENSE", "NOTICE")}
    files |= {name: (HANDLER / name).read_bytes() for name in (ENTRY_POINT, "video_bucket.py", WORKER_SETTINGS)}
    files[REQUIREMENTS] = _requirements(REQUIREMENTS, runtime)
    files["code/inference.py"] = (HANDLER / "inference.py").read_bytes()
    files["code/requirements.txt"] = _requirements("code-requirements.txt", runtime)
    files[MANIFEST] = _manifest(name, version, RUNTIME_FILES[runtime])
    return dict(sorted(files.items()))


def _manifest(name: str, version: str, weights: str) -> bytes:
    """Return the manifest of torch-model-archiver, with a fixed time."""
    config = ModelArchiverConfig(
        name, ENTRY_POINT, version, weights, requirements_file=REQUIREMENTS, config_file=WORKER_SETTINGS
    )
    try:
        ModelExportUtils.check_model_name_regex_or_exit(name)
    except ModelArchiverError as error:
        raise ModelFolderError(f"torch-model-archiver: {' '.join(str(error).split())}") from None
    manifest = json.loads(ModelExportUtils.generate_manifest_json(config))
    return json.dumps(manifest | {"createdOn": "01/01/1980 00:00:00"}, indent=2).encode()


def _requirements(name: str, runtime: str) -> bytes:
    """Return the content of a requirements file of handler/ in an archive for `runtime`."""
    names = [name, *(["onnx-requirements.txt"] if runtime != "torch" else [])]
    return b"".join((HANDLER / each).read_bytes() for each in names)


def model_files(model: Path, layout: str) -> list[str]:
    """Return the names of the files of a model folder that go into an archive, without its weights or graph."""
    names = [CONFIG, MEANING, *((layout,) if layout not in BUILT_IN else ())]
    return names + [name for name in MAYBE if (model / name).is_file()]


def package_files(parts: Sequence[str]) -> list[Path]:
    """Return the files and all files of the folders in `parts`, which are relative to the spoter package."""
    paths = [PACKAGE / part for part in parts]
    files = {file for path in paths for file in ([path] if path.is_file() else path.rglob("*"))}
    # spoter/video compares its requirements.txt with the one that the environment for videos was built from.
    return sorted(file for file in files if file.suffix in (".py", ".csv") or file.name == "requirements.txt")


def zipped(files: dict[str, bytes]) -> bytes:
    """Return a zip file of `files`, in their order; equal input gives equal bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix on every platform, so that the mode in external_attr applies
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content)
    return buffer.getvalue()


def gzipped_tar(files: dict[str, bytes]) -> bytes:
    """Return a gzipped tar file of `files`, in their order; equal input gives equal bytes."""
    buffer = io.BytesIO()
    with gzip.GzipFile("", "wb", fileobj=buffer, mtime=0) as packed, tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)  # owner, group and time are 0
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
