"""Broken model folders and archives: a server must not start with them, and must print the reason."""

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
# Functions that damage the content of a file; None removes the file.
_DAMAGES: dict[str, Callable[[bytes], bytes | None]] = {
    "missing": lambda content: None,
    "truncated": lambda content: content[: len(content) // 2],
    "text instead of": lambda content: b"this is no file of weights\n",
    "another layout in": lambda content: json.dumps(json.loads(content) | {"layout": "29"}).encode(),
}


@dataclass(frozen=True)
class StartupFault:
    """A broken model folder for `spoter serve`, or a broken archive for TorchServe."""

    name: str  # the name on the command line
    by: str  # SERVE or ARCHIVE
    damage: str  # a key of `_DAMAGES`
    file: str  # the damaged file in the folder or the archive; empty for the folder or the archive
    message: str  # part of the expected message of `spoter serve` or of the worker

    @property
    def what(self) -> str:
        """The damage in words, such as "truncated model.onnx"."""
        return f"{self.damage} {self.file or ('model folder' if self.by == SERVE else 'archive')}"


def try_start(fault: StartupFault) -> tuple[int, str, bool]:
    """Start a server with a fault; return its exit status, the line with the reason, and whether both are expected."""
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
        return 0, f"`spoter serve` did not end within {MOST_SECONDS:g} s", False
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    text = " ".join(lines)
    is_expected = done.returncode == 2 and fault.message in text and TRACEBACK not in text and len(lines) == 1
    return done.returncode, text.replace(str(model), "MODEL")[:240], is_expected


def _start_torchserve(fault: StartupFault) -> tuple[int, str, bool]:
    """Start TorchServe with a damaged archive; return the status of `spoter serve` in this case, 1."""

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
            return 0, "the server started", False
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
    StartupFault("no-folder", SERVE, "missing", "", "found no such folder"),
    StartupFault("no-weights", SERVE, "missing", _ONNX, _ONNX),
    StartupFault("cut-weights", SERVE, "truncated", _ONNX, _ONNX),
    StartupFault("text-weights", SERVE, "text instead of", _ONNX, _ONNX),
    StartupFault("no-config", SERVE, "missing", _CONFIG, _CONFIG),
    StartupFault("cut-config", SERVE, "truncated", _CONFIG, _CONFIG),
    StartupFault("cut-meaning", SERVE, "truncated", _MEANING, _MEANING),
    StartupFault("other-weights", SERVE, "truncated", "model.pth", "found a graph of other weights"),
    StartupFault("other-layout", SERVE, "another layout in", _CONFIG, "prototypes.npz"),
    StartupFault("no-archive", ARCHIVE, "missing", "", f"{NAME}.mar"),
    StartupFault("cut-archive", ARCHIVE, "truncated", "", NAME),
    StartupFault("text-archive", ARCHIVE, "text instead of", "", NAME),
    StartupFault("archive-without-weights", ARCHIVE, "missing", _ONNX, _ONNX),
    StartupFault("archive-with-cut-weights", ARCHIVE, "truncated", _ONNX, _ONNX),
    StartupFault("archive-with-wrong-weights", ARCHIVE, "text instead of", _ONNX, _ONNX),
)
