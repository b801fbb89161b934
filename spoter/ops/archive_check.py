"""`spoter check-archive`: what is in a .mar or model.tar.gz from elsewhere, told without running anything of it."""

import hashlib
import json
import re
import tempfile
from functools import partial
from pathlib import Path

from spoter.errors import SpoterError
from spoter.ops import archive
from spoter.ops.archive import ArchiveError, Entry
from spoter.ops.readiness import Check
from spoter.resources import PACKAGE, RESOURCES

MANIFEST = "MAR-INF/MANIFEST.json"
HANDLER = "spoter_handler.py"
# Keys of a manifest that TorchServe 0.12.0 heeds, and that torch-model-archiver writes for us.
MANIFEST_KEYS = {"createdOn", "runtime", "model", "archiverVersion"}
MODEL_KEYS = {"modelName", "modelVersion", "handler", "serializedFile", "requirementsFile", "configFile"}
# What belongs to a model; all else in an archive is code, or decides what code does.
OF_MODELS = re.compile(r"[^/]+\.(pth|onnx|npz|csv)|(config|meaning|enrolled)\.json|MODEL_CARD\.md")
MOST_MANIFEST = 2**20


def checks(path: Path, other_code: bool = False) -> list[Check]:
    """Look at an archive, a .mar or model.tar.gz; where its entries are bad, nothing more is read.

    `other_code` accepts code that is not this project's. Raises `SpoterError` for a file that is no archive.
    """
    try:
        files = archive.scan(path)
    except ArchiveError as error:
        return [Check("entries", False, reason, "serve it nowhere") for reason in error.reasons]
    size = sum(entry.size for entry in files.values())
    found = [Check("entries", True, f"{len(files)} files, {size:,} bytes, inside the folder, each once")]
    with tempfile.TemporaryDirectory(prefix="spoter-") as scratch:
        folder = Path(scratch)
        small = {name for name in files if name == MANIFEST and files[name].size <= MOST_MANIFEST}
        archive.copy(path, small | {name for name in files if OF_MODELS.fullmatch(name)}, folder)
        return [*found, _manifest(folder / "MANIFEST.json", files), _code(files, other_code), _model(folder)]


def _manifest(path: Path, files: dict[str, Entry]) -> Check:
    fail = partial(Check, "manifest", False, advice="python build_mar.py writes one that fits")
    try:
        manifest = json.loads(path.read_bytes())
        model = manifest["model"]
        values = {key: model[key] for key in ("modelName", "modelVersion", "handler", "serializedFile")}
        unknown = sorted((manifest.keys() - MANIFEST_KEYS) | (model.keys() - MODEL_KEYS))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return fail(f"{MANIFEST} is missing or none of TorchServe's ({type(error).__name__})")
    if unknown:
        return fail(f"found the keys {', '.join(unknown)[:200]}, expected none but our own")
    if manifest.get("runtime", "python") != "python":
        return fail(f"found the runtime {str(manifest['runtime'])[:80]!r}, expected python")
    for key in ("modelName", "modelVersion"):
        if not (isinstance(values[key], str) and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.+-]*", values[key])):
            return fail(f"found the {key} {str(values[key])[:80]!r}, expected letters, digits, . _ + -")
    if values["handler"] != HANDLER:
        return fail(f"found the handler {str(values['handler'])[:80]!r}, expected {HANDLER}")
    named = [model[key] for key in ("handler", "serializedFile", "requirementsFile", "configFile") if key in model]
    absent = [str(each)[:80] for each in named if not isinstance(each, str) or each not in files]
    if absent:
        return fail(f"names {', '.join(absent)}, which the archive has not")
    return Check("manifest", True, f"{values['modelName']} {values['modelVersion']}, handler {HANDLER}")


def project_file(name: str) -> Path:
    """Return the file of this project that `build_mar.py` would put into an archive under a name."""
    if name in ("LICENSE", "NOTICE"):
        return RESOURCES / name
    if name.startswith("spoter/"):
        return PACKAGE.parent / name
    handler = RESOURCES / "handler"
    return handler / {"code/requirements.txt": "code-requirements.txt"}.get(name, name.removeprefix("code/"))


def _code(files: dict[str, Entry], accepted: bool) -> Check:
    """Compare what runs with this project's: an archive is code, and TorchServe runs it."""
    rest = [entry for name, entry in files.items() if name != MANIFEST and not OF_MODELS.fullmatch(name)]
    other = sorted(entry.name for entry in rest if not _same(entry))
    ours = f"{len(rest) - len(other)} files are those of this checkout"
    if not other:
        return Check("code", True, ours)
    listed = f"{ours}; {len(other)} are not: {', '.join(other[:10])}{', …' if len(other) > 10 else ''}"
    advice = "read them, or serve it only where you trust who built it (--other-code); a server runs them as its user"
    return Check("code", accepted, listed, advice)


def _same(entry: Entry) -> bool:
    try:
        contents = [project_file(entry.name).read_bytes()]
        if entry.name.endswith("requirements.txt"):  # in archives of ONNX Runtime one line more
            contents.append(contents[0] + project_file("onnx-requirements.txt").read_bytes())
    except OSError:
        return False
    return entry.sha256 in {hashlib.sha256(content).hexdigest() for content in contents}


def _model(folder: Path) -> Check:
    """Read the model as a server would, by this program's own code."""
    from spoter.serving.recognizer import Recognizer

    try:
        config = Recognizer.load(folder).config
    except SpoterError as error:
        found = str(error).replace(f"{folder}/", "").replace(f"{folder}: ", "")
        return Check("model", False, found, "spoter inspect tells what a checkpoint holds")
    told = f"{config.name} {config.version}, layout {config.layout}, {config.classes} glosses"
    return Check("model", True, f"{told}; its weights were read without running code")
