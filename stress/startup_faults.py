"""Model folders and archives that are broken before a server starts: each is to be refused in words."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load.processes import run_to_end
from spoter.ops.local_server import NAME
from spoter.ops.ports import LOOPBACK, free_port
from spoter.torchserve.process import StartError
from spoter.torchserve.server import TorchServe
from stress import ROOT

SERVE, ARCHIVE = "spoter serve", "an archive"
# Seconds that `spoter serve` has to refuse a model folder.
MOST_SECONDS = 120.0
TRACEBACK = "Traceback (most recent call last)"


@dataclass(frozen=True)
class Broken:
    """Something broken that a server is started with.

    Attributes
    ----------
    name, what : str
        A word for the command line, and what is wrong.
    by : str
        `SERVE`: a model folder is handed to `spoter serve`. `ARCHIVE`: TorchServe is started with an archive.
    harm : callable
        Does it to a copy of the model folder, or to the archive's file.
    status : int
        What `spoter serve` is to exit with.
    says : str
        What its words, or the worker's, have to hold.
    """

    name: str
    what: str
    by: str
    harm: Callable[[Path], None]
    status: int
    says: str


def refusal(broken: Broken) -> tuple[int, str, bool]:
    """Start a server with what is broken; return its exit status, its telling line, and whether both are as expected.

    TorchServe itself never exits over an archive: the status is then that of `spoter serve`, which does (1).
    """
    with tempfile.TemporaryDirectory(prefix="spoter-") as scratch:
        if broken.by == SERVE:
            model = Path(scratch, "model")
            shutil.copytree(ROOT / "models" / "dgs11", model)
            broken.harm(model)
            return _by_serve(model, broken)
        return _by_archive(Path(scratch), broken)


def _by_serve(model: Path, broken: Broken) -> tuple[int, str, bool]:
    command = [sys.executable, "-m", "spoter", "serve", "--model", str(model), "--model-store", str(model.parent / "s")]
    for option in ("--port", "--management-port", "--metrics-port"):
        command += [option, str(free_port())]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    try:
        done = run_to_end(command, MOST_SECONDS, cwd=model.parent, **pipes)
    except subprocess.TimeoutExpired:
        return 0, f"not refused within {MOST_SECONDS:g} s", False
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    told = " ".join(lines)
    fits = done.returncode == broken.status and broken.says in told and TRACEBACK not in told and len(lines) == 1
    return done.returncode, told.replace(str(model), "MODEL")[:240], fits


def _by_archive(scratch: Path, broken: Broken) -> tuple[int, str, bool]:
    """Start TorchServe as `spoter serve` does, but with an archive that was harmed after it was packed."""
    from spoter.ops.java import find_java
    from spoter.torchserve.pack import build

    java = find_java()
    if java is None:
        raise SystemExit("found no Java to run TorchServe with: spoter doctor tells more")
    ports = (free_port(), free_port(), free_port())
    server = TorchServe(LOOPBACK, ports, 1, False, scratch / "logs", java.environment(os.environ))
    try:
        build(ROOT / "models" / "dgs11", NAME, None, server.store)
        broken.harm(server.store / f"{NAME}.mar")
        server.start()
        server.wait_ready()
        return 0, "it started", False
    except StartError as error:
        lines = [line.strip() for line in str(error).splitlines()]
        line = next((line for line in reversed(lines) if broken.says in line), lines[-1])
        return 1, line[:240], broken.status == 1 and broken.says in line
    finally:
        server.stop()


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _inside(mar: Path, name: str, harm: Callable[[bytes], bytes | None]) -> None:
    """Change, or with None leave out, a file of an archive."""
    from spoter.torchserve.pack import zipped

    with zipfile.ZipFile(mar) as archive:
        files = {entry: archive.read(entry) for entry in archive.namelist()}
    changed = harm(files.pop(name))
    mar.write_bytes(zipped(files | ({name: changed} if changed is not None else {})))


def _other_sizes(model: Path) -> None:
    config = json.loads((model / "config.json").read_bytes())
    (model / "config.json").write_text(json.dumps(config | {"layout": "29"}))


TEXT = b"this is no file of weights\n"
BROKEN = (
    Broken("no-folder", "no model folder", SERVE, lambda model: shutil.rmtree(model), 2, "found no such folder"),
    Broken("no-weights", "no model.onnx", SERVE, lambda model: (model / "model.onnx").unlink(), 2, "model.onnx"),
    Broken("cut-weights", "half of model.onnx", SERVE, lambda model: _cut(model / "model.onnx"), 2, "model.onnx"),
    Broken(
        "text-weights", "text as model.onnx", SERVE,
        lambda model: (model / "model.onnx").write_bytes(TEXT), 2, "model.onnx",
    ),
    Broken("no-config", "no config.json", SERVE, lambda model: (model / "config.json").unlink(), 2, "config.json"),
    Broken("cut-config", "half of config.json", SERVE, lambda model: _cut(model / "config.json"), 2, "config.json"),
    Broken("cut-meaning", "half of meaning.json", SERVE, lambda model: _cut(model / "meaning.json"), 2, "meaning.json"),
    Broken(
        "other-weights", "a graph of other weights than model.pth", SERVE,
        lambda model: _cut(model / "model.pth"), 2, "found a graph of other weights",
    ),
    Broken("other-layout", "weights of another layout", SERVE, _other_sizes, 2, "it is of another model"),
    Broken("no-archive", "no archive", ARCHIVE, lambda mar: mar.unlink(), 1, f"{NAME}.mar"),
    Broken("cut-archive", "half of the archive", ARCHIVE, _cut, 1, NAME),
    Broken("text-archive", "text as the archive", ARCHIVE, lambda mar: mar.write_bytes(TEXT), 1, NAME),
    Broken(
        "archive-without-weights", "an archive without model.onnx", ARCHIVE,
        lambda mar: _inside(mar, "model.onnx", lambda _: None), 1, "model.onnx",
    ),
    Broken(
        "archive-with-cut-weights", "an archive with half of model.onnx", ARCHIVE,
        lambda mar: _inside(mar, "model.onnx", lambda data: data[: len(data) // 2]), 1, "model.onnx",
    ),
    Broken(
        "archive-with-wrong-weights", "an archive with text as model.onnx", ARCHIVE,
        lambda mar: _inside(mar, "model.onnx", lambda _: TEXT), 1, "model.onnx",
    ),
)  # fmt: skip
