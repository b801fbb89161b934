"""Model folders and archives that are broken before a server starts: each must be refused with the reason."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load.processes import run_to_end
from benchmarks.serving.server import running_server
from spoter.ops.local_server import NAME
from spoter.ops.ports import free_port
from spoter.torchserve.pack import zipped
from spoter.torchserve.process import StartError
from spoter.torchserve.server import TorchServe
from stress import MODEL

SERVE, ARCHIVE = "spoter serve", "an archive"
# Seconds within which `spoter serve` must refuse a model folder.
MOST_SECONDS = 120.0
TRACEBACK = "Traceback (most recent call last)"


@dataclass(frozen=True)
class StartupFault:
    """A broken model or archive."""

    name: str  # a word for the command line
    what: str
    by: str  # SERVE: `spoter serve` gets a model folder; ARCHIVE: TorchServe gets an archive
    damage: Callable[[Path], object]  # damages a copy of the model folder, or the file of the archive
    message: str  # part of the expected message of `spoter serve`, or of the worker


def try_start(fault: StartupFault) -> tuple[int, str, bool]:
    """Start a server with a fault; return its exit status, its telling line, and whether both are as expected."""
    if fault.by == ARCHIVE:
        return _start_torchserve(fault)
    with tempfile.TemporaryDirectory(prefix="spoter-") as scratch:
        model = Path(scratch, "model")
        shutil.copytree(MODEL, model)
        fault.damage(model)
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
    """Start TorchServe as `spoter serve` does, with an archive that was damaged after it was packed.

    TorchServe itself does not exit over an archive: the status is that of `spoter serve`, which does (1).
    """

    def damage_archive(server: TorchServe) -> None:
        fault.damage(server.store / f"{NAME}.mar")

    try:
        with running_server(MODEL, 1, prepare=damage_archive):
            return 0, "it started", False
    except StartError as error:
        lines = [line.strip() for line in str(error).splitlines()]
        line = next((line for line in reversed(lines) if fault.message in line), lines[-1])
        return 1, line[:240], fault.message in line


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _change_member(mar: Path, name: str, change: Callable[[bytes], bytes | None]) -> None:
    """Change a file of an archive, or remove it with None."""
    with zipfile.ZipFile(mar) as archive:
        files = {entry: archive.read(entry) for entry in archive.namelist()}
    changed = change(files.pop(name))
    mar.write_bytes(zipped(files | ({name: changed} if changed is not None else {})))


def _change_layout(model: Path) -> None:
    config = json.loads((model / "config.json").read_bytes())
    (model / "config.json").write_text(json.dumps(config | {"layout": "29"}))


_TEXT = b"this is no file of weights\n"
_ONNX, _CONFIG, _MEANING = "model.onnx", "config.json", "meaning.json"
STARTUP_FAULTS = (
    StartupFault("no-folder", "no model folder", SERVE, shutil.rmtree, "found no such folder"),
    StartupFault("no-weights", f"no {_ONNX}", SERVE, lambda model: (model / _ONNX).unlink(), _ONNX),
    StartupFault("cut-weights", f"half of {_ONNX}", SERVE, lambda model: _truncate(model / _ONNX), _ONNX),
    StartupFault("text-weights", f"text as {_ONNX}", SERVE, lambda model: (model / _ONNX).write_bytes(_TEXT), _ONNX),
    StartupFault("no-config", f"no {_CONFIG}", SERVE, lambda model: (model / _CONFIG).unlink(), _CONFIG),
    StartupFault("cut-config", f"half of {_CONFIG}", SERVE, lambda model: _truncate(model / _CONFIG), _CONFIG),
    StartupFault("cut-meaning", f"half of {_MEANING}", SERVE, lambda model: _truncate(model / _MEANING), _MEANING),
    StartupFault(
        "other-weights", "a graph of other weights than model.pth", SERVE,
        lambda model: _truncate(model / "model.pth"), "found a graph of other weights",
    ),
    StartupFault("other-layout", "weights of another layout", SERVE, _change_layout, "it is of another model"),
    StartupFault("no-archive", "no archive", ARCHIVE, Path.unlink, f"{NAME}.mar"),
    StartupFault("cut-archive", "half of the archive", ARCHIVE, _truncate, NAME),
    StartupFault("text-archive", "text as the archive", ARCHIVE, lambda mar: mar.write_bytes(_TEXT), NAME),
    StartupFault(
        "archive-without-weights", f"an archive without {_ONNX}", ARCHIVE,
        lambda mar: _change_member(mar, _ONNX, lambda _: None), _ONNX,
    ),
    StartupFault(
        "archive-with-cut-weights", f"an archive with half of {_ONNX}", ARCHIVE,
        lambda mar: _change_member(mar, _ONNX, lambda data: data[: len(data) // 2]), _ONNX,
    ),
    StartupFault(
        "archive-with-wrong-weights", f"an archive with text as {_ONNX}", ARCHIVE,
        lambda mar: _change_member(mar, _ONNX, lambda _: _TEXT), _ONNX,
    ),
)  # fmt: skip
