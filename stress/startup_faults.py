"""Model folders and archives that are broken before a server starts: each must be refused with the reason."""

import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks import MODEL
from benchmarks.load.processes import run_to_end
from benchmarks.serving.server import running_server
from spoter.ops.local_server import NAME
from spoter.ops.ports import free_port
from spoter.torchserve.pack import zipped
from spoter.torchserve.process import StartError
from spoter.torchserve.server import TorchServe

SERVE, ARCHIVE = "spoter serve", "an archive"
MOST_SECONDS = 120.0  # seconds within which `spoter serve` must refuse a model folder
TRACEBACK = "Traceback (most recent call last)"
# What is done to the content of a file; None removes the file.
_DAMAGES: dict[str, Callable[[bytes], bytes | None]] = {
    "no": lambda content: None,
    "half of": lambda content: content[: len(content) // 2],
    "text as": lambda content: b"this is no file of weights\n",
    "another layout in": lambda content: json.dumps(json.loads(content) | {"layout": "29"}).encode(),
}


@dataclass(frozen=True)
class StartupFault:
    """A broken model folder that `spoter serve` gets, or a broken archive that TorchServe gets."""

    name: str  # a word for the command line
    by: str  # SERVE or ARCHIVE
    damage: str  # a key of `_DAMAGES`
    file: str  # of the folder or the archive; empty for the folder or the archive itself
    message: str  # part of the expected message of `spoter serve`, or of the worker

    @property
    def what(self) -> str:
        """The damage in words, such as "half of model.onnx"."""
        return f"{self.damage} {self.file or ('model folder' if self.by == SERVE else 'archive')}"


def try_start(fault: StartupFault) -> tuple[int, str, bool]:
    """Start a server with a fault; return its exit status, its telling line, and whether both are as expected."""
    if fault.by == ARCHIVE:
        return _start_torchserve(fault)
    with tempfile.TemporaryDirectory(prefix="spoter-") as scratch:
        model = Path(scratch, "model")
        shutil.copytree(MODEL, model)
        if fault.file:
            _change_file(model / fault.file, _DAMAGES[fault.damage])
        else:
            shutil.rmtree(model)
        return _start_serve(model, fault)


def _start_serve(model: Path, fault: StartupFault) -> tuple[int, str, bool]:
    command = [sys.executable, "-m", "spoter", "serve", "--model", str(model), "--model-store", str(model.parent / "s")]
    for option in ("--port", "--management-port", "--metrics-port"):
        command += [option, str(free_port())]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    try:
        done = run_to_end(command, MOST_SECONDS, cwd=model.parent, **pipes)
    except subprocess.TimeoutExpired:
        return 0, f"not refused within {MOST_SECONDS:g} s", False
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    text = " ".join(lines)
    is_expected = done.returncode == 2 and fault.message in text and TRACEBACK not in text and len(lines) == 1
    return done.returncode, text.replace(str(model), "MODEL")[:240], is_expected


def _start_torchserve(fault: StartupFault) -> tuple[int, str, bool]:
    """Start TorchServe as `spoter serve` does, with a damaged archive; the status is that of `spoter serve`, 1."""

    def damage_archive(server: TorchServe) -> None:
        mar = server.store / f"{NAME}.mar"
        if not fault.file:
            _change_file(mar, _DAMAGES[fault.damage])
            return
        with zipfile.ZipFile(mar) as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
        changed = _DAMAGES[fault.damage](files.pop(fault.file))
        mar.write_bytes(zipped(files | ({fault.file: changed} if changed is not None else {})))

    try:
        with running_server(MODEL, 1, prepare=damage_archive):
            return 0, "it started", False
    except StartError as error:
        lines = [line.strip() for line in str(error).splitlines()]
        line = next((line for line in reversed(lines) if fault.message in line), lines[-1])
        return 1, line[:240], fault.message in line


def _change_file(path: Path, change: Callable[[bytes], bytes | None]) -> None:
    changed = change(path.read_bytes())
    path.unlink()
    if changed is not None:
        path.write_bytes(changed)


_ONNX, _CONFIG, _MEANING = "model.onnx", "config.json", "meaning.json"
STARTUP_FAULTS = (
    StartupFault("no-folder", SERVE, "no", "", "found no such folder"),
    StartupFault("no-weights", SERVE, "no", _ONNX, _ONNX),
    StartupFault("cut-weights", SERVE, "half of", _ONNX, _ONNX),
    StartupFault("text-weights", SERVE, "text as", _ONNX, _ONNX),
    StartupFault("no-config", SERVE, "no", _CONFIG, _CONFIG),
    StartupFault("cut-config", SERVE, "half of", _CONFIG, _CONFIG),
    StartupFault("cut-meaning", SERVE, "half of", _MEANING, _MEANING),
    StartupFault("other-weights", SERVE, "half of", "model.pth", "found a graph of other weights"),
    StartupFault("other-layout", SERVE, "another layout in", _CONFIG, "prototypes.npz"),
    StartupFault("no-archive", ARCHIVE, "no", "", f"{NAME}.mar"),
    StartupFault("cut-archive", ARCHIVE, "half of", "", NAME),
    StartupFault("text-archive", ARCHIVE, "text as", "", NAME),
    StartupFault("archive-without-weights", ARCHIVE, "no", _ONNX, _ONNX),
    StartupFault("archive-with-cut-weights", ARCHIVE, "half of", _ONNX, _ONNX),
    StartupFault("archive-with-wrong-weights", ARCHIVE, "text as", _ONNX, _ONNX),
)
