"""Coverage-guided fuzzing of all that reads bytes: `python -m stress.decoder_fuzz --target json --seconds 60`.

Atheris (libFuzzer) mutates valid requests and model files (`stress.decoder_targets`), each target in a process of its own.
What crashed, was slow or took much memory lies in build/fuzz/TARGET, to be tried again with
`--target TARGET --again FILE`. Exit status 1 where there is such.
"""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.load.processes import INTERRUPTED, end_on_signals
from stress import ROOT
from stress.decoder_targets import TARGETS
from stress.harness import table

SLOW_SECONDS = 1
# Megabytes that an input may add to the process. What the imports take differs: a CUDA build of torch alone is 800 MB.
MOST_MB = 512
LONGEST = 1 << 16
INSTRUMENTED = ("formats", "checkpoint", "embedding", "onnx_forward", "onnx_external", "archive", "tar_reader")
DONE = re.compile(r"stat::number_of_executed_units:\s+(\d+)")
COVERED = re.compile(r"cov: (\d+)")


@dataclass(frozen=True)
class Outcome:
    """What came of one target: executions, edges of code covered, and the files of inputs that are findings."""

    target: str
    executions: int
    covered: int
    seconds: float
    findings: list[Path]
    said: str


def fuzz(target: str, folder: Path, seconds: int = 0, runs: int = -1, seed: int = 1) -> Outcome:
    """Fuzz one target in a process of its own.

    Parameters
    ----------
    target : str
        Of `TARGETS`.
    folder : Path
        For its corpus, which a later run goes on with, and its findings.
    seconds, runs : int
        When to end; 0 and -1 for never.
    seed : int
    """
    corpus, findings = folder / target / "corpus", folder / target / "findings"
    for place in (corpus, findings):
        place.mkdir(parents=True, exist_ok=True)
    for number, content in enumerate(TARGETS[target].seeds()):
        (corpus / f"seed-{number}").write_bytes(content)
    limits = [f"-max_total_time={seconds}", f"-runs={runs}", f"-seed={seed}", f"-max_len={LONGEST}"]
    limits += [f"-report_slow_units={SLOW_SECONDS}", f"-malloc_limit_mb={MOST_MB}", "-timeout=20"]
    limits += [f"-artifact_prefix={findings}/", "-print_final_stats=1"]
    started = time.monotonic()
    before = set(findings.iterdir())
    command = [sys.executable, "-m", "stress.decoder_fuzz", "--child", target, *limits, str(corpus)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "SPOTER_VIDEO_PYTHON": "no program"}
    with tempfile.TemporaryDirectory(prefix="spoter-fuzz-") as scratch:  # libFuzzer ends without taking its own away
        options = {"cwd": ROOT, "env": environment | {"TMPDIR": scratch}, "stderr": subprocess.PIPE}
        process = subprocess.Popen(command, text=True, errors="replace", **options)
        try:
            said = process.communicate()[1]
        except BaseException:  # Ctrl-C reached it too
            process.kill()
            process.wait()
            raise
    executed, covered = DONE.search(said), COVERED.findall(said)
    found = sorted(set(findings.iterdir()) - before)
    if process.returncode and not found:
        raise RuntimeError(f"{target} ended with status {process.returncode}:\n{said[-2000:]}")
    taken = time.monotonic() - started
    return Outcome(target, int(executed[1]) if executed else 0, int(covered[-1]) if covered else 0, taken, found, said)


def _child(arguments: list[str]) -> None:
    """Be the process that libFuzzer runs in: it takes the command line, and ends it."""
    import atheris

    target, *options = arguments
    with atheris.instrument_imports(include=[f"spoter.{name}" for name in INSTRUMENTED]):
        read = TARGETS[target].prepare()
    for content in TARGETS[target].seeds():
        read(content)  # what is imported or made once must count neither as slow nor as large
    # libFuzzer compares its limit with the same peak: all that the process has ever held.
    largest_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    atheris.Setup([sys.argv[0], f"-rss_limit_mb={largest_mb + MOST_MB}", *options], read)
    atheris.Fuzz()


def main(
    target: Annotated[list[str], typer.Option(help=f"Of {', '.join(TARGETS)}; all unless given.")] = [],  # noqa: B006
    seconds: Annotated[int, typer.Option(min=0, help="For each target; 0 for no limit.")] = 60,
    runs: Annotated[int, typer.Option(help="Executions of each target; -1 for no limit.")] = -1,
    seed: Annotated[int, typer.Option(help="Of libFuzzer's mutations.")] = 1,
    folder: Annotated[Path, typer.Option(help="For corpora and findings.")] = ROOT / "build" / "fuzz",
    again: Annotated[Path | None, typer.Option(help="Only read this file once, with the one target.")] = None,
) -> None:
    """Mutate valid inputs of everything that reads bytes, guided by what code they reach."""
    from tqdm import tqdm

    unknown = [name for name in target if name not in TARGETS]
    if unknown:
        raise typer.BadParameter(f"found {', '.join(unknown)}, expected some of {', '.join(TARGETS)}")
    if again is not None:
        for name in target:
            TARGETS[name].prepare()(again.read_bytes())
        return
    outcomes, interrupted = [], False
    try:
        for name in tqdm(target or list(TARGETS), desc="targets", leave=False):
            outcomes.append(fuzz(name, folder, seconds, runs, seed))
    except KeyboardInterrupt:
        interrupted = True
        print("interrupted; what was done so far:\n")
    rows = [(o.target, o.executions, o.covered, f"{o.seconds:.0f}", len(o.findings)) for o in outcomes]
    print(table(("Target", "Executions", "Edges covered", "Seconds", "Findings"), rows))
    wrong = [f"{path}" for outcome in outcomes for path in outcome.findings]
    if wrong:
        sys.exit("\n".join(wrong))
    if interrupted:
        raise typer.Exit(INTERRUPTED)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        _child(sys.argv[2:])
    else:
        end_on_signals()
        typer.run(main)
