"""The checks of `spoter check-archive`: a .mar or model.tar.gz from somebody else, without running it."""

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
# Keys of a manifest that TorchServe 0.12.0 reads and torch-model-archiver writes for this project.
MANIFEST_KEYS = {"createdOn", "runtime", "model", "archiverVersion"}
MODEL_KEYS = {"modelName", "modelVersion", "handler", "serializedFile", "requirementsFile", "configFile"}
# Files of a model; every other file in an archive is code or changes what code does.
OF_MODELS = re.compile(r"[^/]+\.(pth|onnx|npz|csv)|(config|meaning|enrolled)\.json|MODEL_CARD\.md")
MOST_MANIFEST = 2**20


def checks(path: Path, other_code: bool = False) -> list[Check]:
    """Check a .mar or model.tar.gz: its entries first, and only if they are good its manifest, code and model.

    `other_code` accepts code of another origin. Raises `SpoterError` for a file that is not an archive.
    """
    try:
        files = archive.scan(path)
    except ArchiveError as error:
        return [Check("entries", False, reason, "do not serve this archive") for reason in error.reasons]
    size = sum(entry.size for entry in files.values())
    entries = Check("entries", True, f"{len(files)} files, {size:,} bytes; no path tricks, links or duplicates")
    with tempfile.TemporaryDirectory(prefix="spoter-") as scratch:
        folder = Path(scratch)
        small = {name for name in files if name == MANIFEST and files[name].size <= MOST_MANIFEST}
        archive.copy(path, small | {name for name in files if OF_MODELS.fullmatch(name)}, folder)
        return [entries, _manifest(folder / "MANIFEST.json", files), _code(files, other_code), _model(folder)]


def _manifest(path: Path, files: dict[str, Entry]) -> Check:
    fail = partial(Check, "manifest", False, advice="pack the model again with `spoter pack`")
    try:
        manifest = json.loads(path.read_bytes())
        model = manifest["model"]
        values = {key: model[key] for key in ("modelName", "modelVersion", "handler", "serializedFile")}
        unknown = sorted((manifest.keys() - MANIFEST_KEYS) | (model.keys() - MODEL_KEYS))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return fail(f"{MANIFEST} is missing or not a manifest of TorchServe ({type(error).__name__})")
    if unknown:
        return fail(f"found unexpected keys: {', '.join(unknown)[:200]}")
    if manifest.get("runtime", "python") != "python":
        return fail(f"found runtime {str(manifest['runtime'])[:80]!r}, expected python")
    for key in ("modelName", "modelVersion"):
        if not (isinstance(values[key], str) and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.+-]*", values[key])):
            return fail(f"found {key} {str(values[key])[:80]!r}, expected letters, digits, . _ + -")
    if values["handler"] != HANDLER:
        return fail(f"found handler {str(values['handler'])[:80]!r}, expected {HANDLER}")
    named = [model[key] for key in ("handler", "serializedFile", "requirementsFile", "configFile") if key in model]
    absent = [str(each)[:80] for each in named if not isinstance(each, str) or each not in files]
    if absent:
        return fail(f"names {', '.join(absent)}, which is not in the archive")
    return Check("manifest", True, f"{values['modelName']} {values['modelVersion']}, handler {HANDLER}")


def project_file(name: str) -> Path:
    """Return the file of this project that `spoter pack` writes to an archive under `name`."""
    if name in ("LICENSE", "NOTICE"):
        return RESOURCES / name
    if name.startswith("spoter/"):
        return PACKAGE.parent / name
    handler = RESOURCES / "handler"
    return handler / {"code/requirements.txt": "code-requirements.txt"}.get(name, name.removeprefix("code/"))


def _code(files: dict[str, Entry], accepted: bool) -> Check:
    """Compare the archive's code, which TorchServe would run, with this project's."""
    code = [entry for name, entry in files.items() if name != MANIFEST and not OF_MODELS.fullmatch(name)]
    other = sorted(entry.name for entry in code if not _is_project_file(entry))
    equal = f"{len(code) - len(other)} files equal those of this checkout"
    if not other:
        return Check("code", True, equal)
    listed = f"{equal}; {len(other)} do not: {', '.join(other[:10])}{', …' if len(other) > 10 else ''}"
    advice = "a server runs them as its user: review them, and use --other-code if you trust their author"
    return Check("code", accepted, listed, advice)


def _is_project_file(entry: Entry) -> bool:
    try:
        contents = [project_file(entry.name).read_bytes()]
        if entry.name.endswith("requirements.txt"):  # one more line in archives for ONNX Runtime
            contents.append(contents[0] + project_file("onnx-requirements.txt").read_bytes())
    except OSError:
        return False
    return entry.sha256 in {hashlib.sha256(content).hexdigest() for content in contents}


def _model(folder: Path) -> Check:
    """Load the model like a server, but with the code of this checkout."""
    from spoter.serving.recognizer import Recognizer

    try:
        config = Recognizer.load(folder).config
    except SpoterError as error:
        problem = str(error).replace(f"{folder}/", "").replace(f"{folder}: ", "")
        return Check("model", False, problem, "`spoter inspect` prints what a checkpoint holds")
    model = f"{config.name} {config.version}, layout {config.layout}, {config.classes} glosses"
    return Check("model", True, f"{model}; the weights were read without running code")
