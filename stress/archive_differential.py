"""Compare `spoter.ops.archive.scan` with programs that unpack archives: `python -m stress.archive_differential`.

The command mutates archives of both kinds. TorchServe's Java code unpacks each archive that `scan` accepts; GNU tar and
Python's tarfile also unpack each model.tar.gz. Every program must succeed and write the files that `scan` lists.
Otherwise the exit status is 1 and the archive is copied to build/unpacking. Needs a JDK (javac); GNU tar is optional.
"""

import hashlib
import os
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import ROOT
from benchmarks.command import run_command
from benchmarks.tables import markdown_table
from spoter.errors import SpoterError
from spoter.ops.archive import scan
from spoter.ops.tar_reader import GzipStream, members
from stress.archive_mutations import has_gnu_tar, make_tars, make_zips, mutate_tar, mutate_zip

KINDS = {"model.tar.gz": (make_tars, mutate_tar), "spoter.mar": (make_zips, mutate_zip)}
_ENVIRONMENT = os.environ | {"LC_ALL": "C.UTF-8"}  # the locale of the image; Java decodes file names by the locale
Unpack = Callable[[Path, Path], str | None]  # unpacks an archive into a folder; returns an error or None


@dataclass
class Outcome:
    """Results for archives of one kind; each line of `differences` names an archive, a program and its result."""

    kind: str
    archives: int = 0
    passed: int = 0
    differences: list[str] = field(default_factory=list)


@contextmanager
def torchserve_unpacker() -> Iterator[Unpack]:
    """Compile and start TorchServe's code for unpacking; raise `SpoterError` without a JDK or TorchServe."""
    spec = find_spec("ts")
    if not (shutil.which("javac") and shutil.which("java")) or spec is None or spec.origin is None:
        raise SpoterError("javac, java or TorchServe is missing: install a JDK on the PATH, and the package torchserve")
    jar = Path(spec.origin).parent / "frontend" / "model-server.jar"
    with tempfile.TemporaryDirectory(prefix="spoter-") as scratch:
        source = Path(__file__).with_name("Unpack.java")
        subprocess.run(["javac", "-cp", jar, "-d", scratch, source], check=True, capture_output=True)
        command = ["java", "-Xmx256m", "-cp", f"{jar}{os.pathsep}{scratch}", "Unpack"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        with subprocess.Popen(command, text=True, env=_ENVIRONMENT, **pipes) as process:

            def unpack(path: Path, folder: Path) -> str | None:
                process.stdin.write(f"{path}\t{folder}\n")
                process.stdin.flush()
                line = process.stdout.readline().strip()
                return None if line == "ok" else line or "Java ended"

            yield unpack
            process.stdin.close()


def compare_unpackers(kind: str, count: int, seed: int, unpack: Unpack, keep: Path | None = None) -> Outcome:
    """Mutate archives of a kind, compare `scan` with the programs, and copy archives with differences to `keep`."""
    make, mutate = KINDS[kind]
    rng, seeds, outcome = random.Random(f"{kind} {seed}"), make(), Outcome(kind)
    programs = {"TorchServe": unpack} | (_TAR_PROGRAMS if kind.endswith(".gz") else {})
    with tempfile.TemporaryDirectory(prefix="spoter-") as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile warns about repeated names
        path, folder = Path(scratch, kind), Path(scratch, "out")
        for number in range(count):
            path.write_bytes(mutate(rng.choice(seeds), rng))
            outcome.archives += 1
            try:
                files = {entry.name: entry.sha256 for entry in scan(path).values()}
            except SpoterError:
                continue
            outcome.passed += 1
            for program, run in programs.items():
                expected = _torchserve_names(path, files) if run is unpack and kind.endswith(".gz") else files
                folder.mkdir()
                error, unpacked = run(path, folder), _hash_files(folder)
                shutil.rmtree(folder)
                if error is None and unpacked == expected:
                    continue
                different = sorted(dict(unpacked.items() ^ expected.items()))[:3]
                result = f"failed: {error}" if error is not None else f"wrote other files than scan lists: {different}"
                outcome.differences.append(f"{number}-{kind}: {program} {result}")
                if keep is not None:
                    keep.mkdir(parents=True, exist_ok=True)
                    shutil.copy(path, keep / f"{seed}-{number}-{kind}")
    return outcome


def _torchserve_names(path: Path, files: dict[str, str]) -> dict[str, str]:
    """Return the hashes by TorchServe's file names, which lack the first part; the last file with a name counts."""
    with path.open("rb") as file:
        names = [name for name, is_file, _ in members(GzipStream(file).read) if is_file]
    return {name[name.find("/") + 1 :]: files[name.removeprefix("./")] for name in names}


def _hash_files(folder: Path) -> dict[str, str]:
    hashes = {}
    for parent, folders, names in os.walk(folder):
        for name in folders:
            Path(parent, name).chmod(0o700)
        for name in names:
            file = Path(parent, name)
            file.chmod(0o600)
            hashes[file.relative_to(folder).as_posix()] = hashlib.sha256(file.read_bytes()).hexdigest()
    return hashes


def _run_tarfile(path: Path, folder: Path) -> str | None:
    try:
        with tarfile.open(path, "r:gz") as archive:
            # Debian's Python 3.11.2 has no extraction filters; Python 3.11.4 added them.
            archive.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    except (tarfile.TarError, OSError, ValueError, OverflowError) as error:
        return repr(error)
    return None


def _run_gnu_tar(path: Path, folder: Path) -> str | None:
    command = ["tar", "-xzf", path, "-C", folder, "--no-same-owner"]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=_ENVIRONMENT)
    return done.stderr[:200] if done.returncode else None


_TAR_PROGRAMS: dict[str, Unpack] = {"tarfile": _run_tarfile} | ({"GNU tar": _run_gnu_tar} if has_gnu_tar() else {})


def main(
    archives: Annotated[int, typer.Option(min=1, help="Number of archives of each kind.")] = 3000,
    seed: Annotated[int, typer.Option(help="Seed of the mutations.")] = 1,
    folder: Annotated[Path, typer.Option(help="Folder for archives with differences.")] = ROOT / "build" / "unpacking",
) -> None:
    """Compare how programs unpack mutated archives that check-archive accepts."""
    with torchserve_unpacker() as unpack:
        outcomes = [compare_unpackers(kind, archives, seed, unpack, folder) for kind in KINDS]
    rows = [(o.kind, o.archives, o.passed, len(o.differences)) for o in outcomes]
    print(markdown_table(("Archive", "Mutated archives", "Accepted by scan", "Differences"), rows))
    if differences := [line for outcome in outcomes for line in outcome.differences]:
        sys.exit("\n".join(differences))


if __name__ == "__main__":
    run_command(main)
