"""Measure the cold start of the Lambda function: `python -m benchmarks.serving.lambda_cold_start`.

docs/performance.md has the figures. Each start is a new process of the function's Python, which can import only the
unzipped package. The measured time begins before the import of `standalone` and ends after the first answer. It lacks
the time in which Lambda starts a machine and downloads the package; only AWS can show that time.
"""

import json
import os
import statistics
import subprocess
import tempfile
import zipfile
from pathlib import Path
from typing import Annotated

import typer
from tqdm import tqdm

from benchmarks import ROOT
from benchmarks.command import run_command
from benchmarks.tables import markdown_table
from benchmarks.timing import describe_machine
from spoter.aws.functions.build_standalone import NAME, PYTHON, find_python
from spoter.errors import SpoterError

# As in Lambda: the folder of the function is on the path, and the import loads the model.
_PROGRAM = """
import json, resource, sys, time
sys.path.insert(0, sys.argv[1])
event = json.load(open(sys.argv[2]))
started = time.perf_counter()
from spoter.aws.functions import standalone
imported = time.perf_counter()
answer = standalone.handler(event, None)
first = time.perf_counter()
for _ in range(20):
    standalone.handler(event, None)
later = time.perf_counter()
assert "torch" not in sys.modules and answer[0]["gloss"], answer
if sys.platform == "linux":  # on Linux, ru_maxrss starts at the memory of the parent process
    [peak] = [1024 * int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM:")]
else:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([1e3 * (imported - started), 1e3 * (first - imported), 1e3 * (first - started),
                  1e3 * (later - first) / 20, peak / 1e6]))
"""
_COLUMNS = ("import and model", "first answer", "sum: the cold start", "later answers, each", "peak memory, MB")


def measure_cold_starts(tree: Path, python: str, event: Path, starts: int, from_disk: bool) -> list[list[float]]:
    """Start the function of an unzipped package `starts` times; return the numbers of `_COLUMNS` for each start."""
    environment = {"AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand"}
    rows = []
    for _ in tqdm(range(starts), desc="from disk" if from_disk else "from memory", unit=" starts", leave=False):
        if from_disk:  # as on a machine that has not read the files yet
            drop_from_cache(tree)
        command = [python, "-I", "-S", "-B", "-c", _PROGRAM, str(tree), str(event)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise SpoterError(f"{tree}: the function failed: {done.stderr.strip().splitlines()[-1:]}")
        rows.append(json.loads(done.stdout))
    return rows


def drop_from_cache(tree: Path) -> None:
    """Ask the system to drop the files of `tree` from its cache."""
    for path in filter(Path.is_file, tree.rglob("*")):
        with path.open("rb") as file:
            os.fsync(file.fileno())  # unwritten data cannot be dropped
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def main(
    package: Annotated[Path, typer.Option(help="Package written by build_standalone.")] = ROOT / "model_store" / NAME,
    python: Annotated[str | None, typer.Option(help=f"Python {PYTHON} [default: from PATH].")] = None,
    event: Annotated[Path, typer.Option(help="A request in JSON.")] = ROOT / "samples" / "hallo.json",
    starts: Annotated[int, typer.Option(min=1, help="Starts of each kind.")] = 15,
) -> None:
    """Measure the cold start of the Lambda function in new processes."""
    interpreter = find_python(python)
    if interpreter is None:
        raise SpoterError(f"found no Python {PYTHON}, which the Lambda function needs: add --python PATH")
    kinds = {"files in memory": False} | ({"files from disk": True} if hasattr(os, "posix_fadvise") else {})
    rows = []
    with tempfile.TemporaryDirectory(prefix="spoter-") as scratch:
        try:
            with zipfile.ZipFile(package) as archive:
                archive.extractall(scratch)
        except zipfile.BadZipFile as error:
            raise SpoterError(f"{package}: {error}") from None
        for kind, from_disk in kinds.items():
            columns = zip(*measure_cold_starts(Path(scratch), interpreter, event, starts, from_disk), strict=True)
            rows.append((kind, *(f"{statistics.median(column):.0f} ({max(column):.0f})" for column in columns)))
    print(f"{describe_machine()}; the function's Python {PYTHON}, {event.name}\n")
    print(markdown_table((f"median (maximum) of {starts} starts, ms", *_COLUMNS), rows))


if __name__ == "__main__":
    run_command(main)
