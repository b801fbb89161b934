"""Coverage-guided fuzzing of the decoders of untrusted bytes: `python -m stress.decoder_fuzz --target json`.

Atheris (libFuzzer) mutates valid requests and model files (`stress.decoder_targets`), each target in a separate
process. Findings are inputs that crash, are slow or need much memory: they go to build/fuzz/TARGET/findings, and the
exit status is 1. Repeat one with `--target TARGET --again FILE`.
"""

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

from benchmarks import ROOT
from benchmarks.command import run_command
from benchmarks.load.processes import INTERRUPTED
from benchmarks.tables import markdown_table

SLOW_SECONDS = 1
# Megabytes that an input may add to the process. Imports take up to 800 MB before that (a CUDA build of torch).
MOST_MB = 512
LONGEST = 1 << 16
INSTRUMENTED = (
    "formats", "fewshot", "messages", "model.checkpoint", "model.config", "model.folder", "ops.archive",
    "ops.tar_reader", "runtime.onnx_runtime", "runtime.onnx_external", "serving.service",
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """The result for a target; `covered` is the number of code edges, `findings` are files with inputs."""

    target: str
    executions: int
    covered: int
    seconds: float
    findings: list[Path]
    log: str


def fuzz(target: str, folder: Path, seconds: int = 0, runs: int = -1, seed: int = 1) -> Outcome:
    """Fuzz a target in a separate process for some seconds (0: no limit) or runs (-1: no limit); write to `folder`."""
    from stress.decoder_targets import TARGETS

    corpus, findings = folder / target / "corpus", folder / target / "findings"
    for path in (corpus, findings):
        path.mkdir(parents=True, exist_ok=True)
    for number, content in enumerate(TARGETS[target].seeds()):
        (corpus / f"seed-{number}").write_bytes(content)
    options = [f"-max_total_time={seconds}", f"-runs={runs}", f"-seed={seed}", f"-max_len={LONGEST}"]
    options += [f"-report_slow_units={SLOW_SECONDS}", f"-malloc_limit_mb={MOST_MB}", "-timeout=20"]
    options += [f"-artifact_prefix={findings}/", "-print_final_stats=1"]
    started, before = time.monotonic(), set(findings.iterdir())
    command = [sys.executable, "-m", "stress.decoder_fuzz", "--child", target, *options, str(corpus)]
    with tempfile.TemporaryDirectory(prefix="spoter-fuzz-") as scratch:  # libFuzzer leaves temporary files
        variables = {"OMP_NUM_THREADS": "1", "SPOTER_VIDEO_PYTHON": "no program", "TMPDIR": scratch}
        process = subprocess.run(command, cwd=ROOT, env=os.environ | variables, stderr=subprocess.PIPE)
    log, new = process.stderr.decode(errors="replace"), sorted(set(findings.iterdir()) - before)
    if process.returncode and not new:
        raise RuntimeError(f"{target} ended with status {process.returncode}:\n{log[-2000:]}")
    patterns = (r"stat::number_of_executed_units:\s+(\d+)", r"cov: (\d+)")
    executions, covered = (int((re.findall(pattern, log) or [0])[-1]) for pattern in patterns)
    return Outcome(target, executions, covered, time.monotonic() - started, new, log)


def _run_child(target: str, options: list[str]) -> None:
    """Run libFuzzer in this process; it parses `options` and exits."""
    import atheris

    with atheris.instrument_imports(include=[f"spoter.{name}" for name in INSTRUMENTED]):
        from stress.decoder_targets import TARGETS
    for content in TARGETS[target].seeds():
        TARGETS[target].read(content)  # work of the first call must not count as slow or large
    # libFuzzer compares its limit with the same peak.
    largest_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    atheris.Setup([sys.argv[0], f"-rss_limit_mb={largest_mb + MOST_MB}", *options], TARGETS[target].read)
    atheris.Fuzz()


def main(
    target: Annotated[list[str] | None, typer.Option(help="Target; repeatable [default: all].")] = None,
    seconds: Annotated[int, typer.Option(min=0, help="Seconds per target; 0: no limit.")] = 60,
    runs: Annotated[int, typer.Option(help="Executions per target; -1: no limit.")] = -1,
    seed: Annotated[int, typer.Option(help="Seed of libFuzzer's mutations.")] = 1,
    folder: Annotated[Path, typer.Option(help="Folder for corpora and findings.")] = ROOT / "build" / "fuzz",
    again: Annotated[Path | None, typer.Option(help="Only read this file, once, with the given target.")] = None,
) -> None:
    """Fuzz the decoders of requests and model files, guided by code coverage."""
    from tqdm import tqdm

    from stress.decoder_targets import TARGETS

    names = target or list(TARGETS)
    if unknown := [name for name in names if name not in TARGETS]:
        raise typer.BadParameter(f"--target: found {', '.join(unknown)}, expected some of {', '.join(TARGETS)}")
    if again is not None:
        for name in names:
            TARGETS[name].read(again.read_bytes())
        return
    outcomes, interrupted = [], False
    try:
        for name in tqdm(names, desc="targets", leave=False):
            outcomes.append(fuzz(name, folder, seconds, runs, seed))
    except KeyboardInterrupt:
        interrupted = True
        print("interrupted; results so far:\n")
    rows = [(o.target, o.executions, o.covered, f"{o.seconds:.0f}", len(o.findings)) for o in outcomes]
    print(markdown_table(("Target", "Executions", "Edges covered", "Seconds", "Findings"), rows))
    if findings := [str(path) for outcome in outcomes for path in outcome.findings]:
        sys.exit("\n".join(findings))
    if interrupted:
        raise typer.Exit(INTERRUPTED)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        _run_child(sys.argv[2], sys.argv[3:])
    else:
        run_command(main)
