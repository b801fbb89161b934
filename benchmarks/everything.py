"""Run all benchmarks in sequence and write one report: `make bench-all`.

This takes half an hour on an otherwise idle machine. Re-run the command to resume an interrupted report.
"""

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer
from tqdm import tqdm

from benchmarks import ROOT
from benchmarks.command import run_command, split_names
from benchmarks.load.processes import run_to_end
from benchmarks.timing import describe_machine
from spoter.files import atomic_write_bytes

COMMANDS = {
    "runtimes": "benchmarks.serving.runtimes",
    "requests": "benchmarks",
    "profile": "benchmarks --profile --runtimes torch,onnx",
    "growth": "benchmarks.serving.growth --picture {out}/growth.png",
    "start": "benchmarks.serving.startup",
    "tuning": "benchmarks.serving.tuning",
    "peers": "benchmarks.peers --out {out}/peers.json",
    "scale": "benchmarks.capacity --validate --measure {out}/times.json",
    "plan": "benchmarks.capacity --times {out}/times.json --rate 10000 --price 0.10",
    "bulk": "benchmarks.serving.batch",
}


def main(
    out: Annotated[Path, typer.Option(help="Folder for the report and its parts.")] = Path("build/bench"),
    only: Annotated[str, typer.Option(help=f"Comma-separated, from {', '.join(COMMANDS)}.")] = ",".join(COMMANDS),
) -> None:
    """Run the benchmarks that have no result yet, and write OUT/report.md."""
    names = split_names(only, COMMANDS, "--only")
    out.mkdir(parents=True, exist_ok=True)
    failed = []
    for name in tqdm(names, unit=" benchmarks"):
        part = out / f"{name}.md"
        if part.exists():
            continue
        machine = describe_machine()  # with the load before the benchmark
        command = f"python -m {COMMANDS[name].format(out=shlex.quote(str(out)))}"
        done = run_to_end([sys.executable, *shlex.split(command)[1:]], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            failed.append(name)
        else:
            atomic_write_bytes(part, f"## `{command}`\n\n{machine}\n\n{done.stdout}".encode())
    parts = [out / f"{name}.md" for name in COMMANDS]
    atomic_write_bytes(out / "report.md", "\n".join(part.read_text() for part in parts if part.exists()).encode())
    print(f"{out / 'report.md'}{': failed: ' + ', '.join(failed) if failed else ''}")
    if failed:
        raise typer.Exit(1)


if __name__ == "__main__":
    run_command(main)
