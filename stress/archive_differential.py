"""Whether other programs unpack what `spoter.ops.archive.scan` passes as it lists it: `python -m stress.archive_differential`.

Archives of both kinds are mutated. Each that `scan` passes is unpacked by TorchServe's own Java code, and a
model.tar.gz also by GNU tar and Python's tarfile. All have to end without an error and give the same files. Exit status
1 where one does not; such an archive is kept in build/unpacking. This needs a JDK (javac); GNU tar where there is one.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.load.processes import end_on_signals
from spoter.errors import SpoterError
from spoter.ops.archive import scan
from spoter.ops.tar_reader import GzipStream, members
from stress import ROOT
from stress.archive_mutations import is_gnu_tar, mutated_tar, mutated_zip, tars, zips
from stress.harness import table

KINDS = {"model.tar.gz": (tars, mutated_tar), "spoter.mar": (zips, mutated_zip)}


@dataclass
class Outcome:
    """What became of the archives of one kind; `differences` names the archive, the program and what it did."""

    kind: str
    archives: int = 0
    passed: int = 0
    differences: list[str] = field(default_factory=list)


class Unpacker:
    """TorchServe's unpacking, in a Java process that runs until the block is left."""

    def __init__(self, process: subprocess.Popen):
        self._process = process

    def __call__(self, path: Path, folder: Path) -> str | None:
        """Unpack an archive into a folder; return an error's name, None where there is none."""
        self._process.stdin.write(f"{path}\t{folder}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline().strip()
        return None if line == "ok" else line or "Java ended"


@contextmanager
def torchserve() -> Iterator[Unpacker]:
    """Compile and start the Java program; `SpoterError` where there is no JDK or no TorchServe."""
    spec = find_spec("ts")
    if not (shutil.which("javac") and shutil.which("java")) or spec is None:
        raise SpoterError("found no javac, java or TorchServe, expected a JDK on PATH and the package torchserve")
    jar = Path(spec.origin).parent / "frontend" / "model-server.jar"
    with tempfile.TemporaryDirectory(prefix="spoter-") as scratch:
        compiled = ["javac", "-cp", str(jar), "-d", scratch, str(ROOT / "attacks" / "Unpack.java")]
        subprocess.run(compiled, check=True, capture_output=True)
        # The image sets the same locale: Java decodes file names by it.
        environment = os.environ | {"LC_ALL": "C.UTF-8"}
        command = ["java", "-Xmx256m", "-cp", f"{jar}{os.pathsep}{scratch}", "Unpack"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        with subprocess.Popen(command, text=True, env=environment, **pipes) as process:
            try:
                yield Unpacker(process)
            finally:
                process.stdin.close()


def compare(kind: str, count: int, seed: int, unpack: Unpacker, keep: Path | None = None) -> Outcome:
    """Mutate `count` archives of a kind and compare what is made of each.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    count, seed : int
        The first archives are the unchanged ones.
    unpack : Unpacker
    keep : Path, optional
        Folder for archives that are unpacked differently.
    """
    make, mutate = KINDS[kind]
    rng, seeds, outcome = random.Random(f"{kind} {seed}"), make(), Outcome(kind)
    with tempfile.TemporaryDirectory(prefix="spoter-") as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile's, of names that come twice
        path = Path(scratch, kind)
        for number in range(count):
            path.write_bytes(mutate(rng.choice(seeds), rng))
            outcome.archives += 1
            try:
                files = {entry.name: entry.sha256 for entry in scan(path).values()}
            except SpoterError:
                continue
            outcome.passed += 1
            for program, said in _differences(path, files, unpack, Path(scratch, "out")):
                outcome.differences.append(f"{number}-{kind}: {program} {said}")
                if keep is not None:
                    keep.mkdir(parents=True, exist_ok=True)
                    shutil.copy(path, keep / f"{seed}-{number}-{kind}")
    return outcome


def _differences(path: Path, files: dict[str, str], unpack: Unpacker, out: Path) -> Iterator[tuple[str, str]]:
    is_tar = path.name.endswith(".gz")
    programs = {"TorchServe": unpack} | (_OTHERS if is_tar else {})
    for program, run in programs.items():
        out.mkdir()
        error = run(path, out)
        expected = _without_first_part(path, files) if is_tar and program == "TorchServe" else files
        found = _tree(out)
        shutil.rmtree(out)
        if error is not None:
            yield program, f"fails: {error}"
        elif found != expected:
            yield program, f"differs in {sorted(dict(found.items() ^ expected.items()))[:3]}"


def _without_first_part(path: Path, files: dict[str, str]) -> dict[str, str]:
    """Return files as TorchServe names those of a tar file; the last one of a name counts."""
    with path.open("rb") as file:
        names = [name for name, is_file, _ in members(GzipStream(file)) if is_file]
    return {name[name.find("/") + 1 :]: files[name.removeprefix("./")] for name in names}


def _tree(folder: Path) -> dict[str, str]:
    found = {}
    for place, folders, names in os.walk(folder):
        for name in folders:
            Path(place, name).chmod(0o700)
        for name in names:
            inside = Path(place, name)
            inside.chmod(0o600)
            found[inside.relative_to(folder).as_posix()] = hashlib.sha256(inside.read_bytes()).hexdigest()
    return found


def _tarfile(path: Path, folder: Path) -> str | None:
    try:
        with tarfile.open(path, "r:gz") as archive:
            archive.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    except (tarfile.TarError, OSError, ValueError, OverflowError) as error:
        return repr(error)
    return None


def _gnu_tar(path: Path, folder: Path) -> str | None:
    command = ["tar", "-xzf", str(path), "-C", str(folder), "--no-same-owner"]
    done = subprocess.run(
        command, capture_output=True, text=True, errors="replace", env=os.environ | {"LC_ALL": "C.UTF-8"}
    )
    return done.stderr[:200] if done.returncode else None


_OTHERS = {"tarfile": _tarfile} | ({"GNU tar": _gnu_tar} if is_gnu_tar() else {})


def main(
    archives: Annotated[int, typer.Option(min=1, help="Of each kind.")] = 3000,
    seed: Annotated[int, typer.Option(help="Of the mutations.")] = 1,
    folder: Annotated[Path, typer.Option(help="For archives that are unpacked differently.")] = ROOT
    / "build/unpacking",
) -> None:
    """Compare how programs unpack mutated archives that check-archive passes."""
    try:
        with torchserve() as unpack:
            outcomes = [compare(kind, archives, seed, unpack, folder) for kind in KINDS]
    except SpoterError as error:
        sys.exit(str(error))
    rows = [(o.kind, o.archives, o.passed, len(o.differences)) for o in outcomes]
    print(table(("Archive", "Mutated", "Passed by scan", "Unpacked differently"), rows))
    different = [line for outcome in outcomes for line in outcome.differences]
    if different:
        sys.exit("\n".join(different))


if __name__ == "__main__":
    end_on_signals()
    typer.run(main)
