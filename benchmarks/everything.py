"""Run every bench, one after the other, into one report: `make bench-all`. Half an hour of an otherwise idle machine.

Each is a command of its own and can be run alone. A report that was broken off goes on: what is in its folder is not
measured again.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer
from tqdm import tqdm

from benchmarks import ROOT
from benchmarks.load.processes import end_on_signals, run_to_end
from benchmarks.timing import machine
from spoter.files import atomic_write_bytes

COMMANDS = {
    "runtimes": "benchmarks.serving.runtimes",
    "requests": "bench",
    "profile": "benchmarks.serving.in_process --profile --runtimes torch,onnx",
    "growth": "benchmarks.serving.growth --picture {out}/growth.png",
    "start": "benchmarks.serving.startup",
    "tuning": "benchmarks.serving.tuning",
    "peers": "benchmarks.peers --out {out}/peers.json",
    "scale": "benchmarks.capacity.__main__ --validate --measure {out}/times.json",
    "plan": "benchmarks.capacity.__main__ --times {out}/times.json --rate 10000 --price 0.10",
    "bulk": "benchmarks.serving.batch",
}


def main(
    out: Annotated[Path, typer.Option(help="Folder of the report and what belongs to it.")] = Path("build/bench"),
    only: Annotated[str, typer.Option(help=f"Some of {', '.join(COMMANDS)}, comma-separated.")] = ",".join(COMMANDS),
) -> None:
    """Run every bench into OUT/report.md, as far as that is not done yet."""
    names = only.split(",")
    if unknown := set(names) - set(COMMANDS):
        raise SystemExit(f"error: found {min(unknown)}, expected some of {', '.join(COMMANDS)}")
    out.mkdir(parents=True, exist_ok=True)
    failed = []
    for name in tqdm(names, unit=" benches"):
        part = out / f"{name}.md"
        if part.exists():
            continue
        before = machine()
        command = f"python -m {COMMANDS[name].format(out=shlex.quote(str(out)))}"
        done = run_to_end([sys.executable, *shlex.split(command)[1:]], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            failed.append(name)
        else:
            atomic_write_bytes(part, f"## `{command}`\n\n{before}\n\n{done.stdout}".encode())
    parts = [out / f"{name}.md" for name in COMMANDS]
    atomic_write_bytes(out / "report.md", "\n".join(part.read_text() for part in parts if part.exists()).encode())
    print(f"{out / 'report.md'}{': failed: ' + ', '.join(failed) if failed else ''}")
    if failed:
        raise typer.Exit(1)


if __name__ == "__main__":
    end_on_signals()
    typer.run(main)
