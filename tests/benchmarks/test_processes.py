"""Commands that start servers end them before they exit, for every signal and timeout."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
import time

import pytest

from benchmarks.load.processes import run_to_end
from tests import ROOT

pytestmark = pytest.mark.slow

# Like a benchmark: waits in an event loop, and needs a moment for its cleanup.
COMMAND = """
import asyncio, sys, time
from pathlib import Path
from benchmarks.load.processes import end_on_signals

async def main():
    print("up", flush=True)
    await asyncio.sleep(60)

end_on_signals()
try:
    asyncio.run(main())
finally:
    time.sleep(0.5)
    Path(sys.argv[1]).write_text("ended")
"""


def ignore_interrupts() -> None:
    """Ignore SIGINT, as shells do for background jobs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_command_cleans_up_after_a_signal(number, tmp_path):
    command = [sys.executable, "-c", COMMAND, tmp_path / "cleanup"]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, preexec_fn=ignore_interrupts
    )
    with process:
        assert process.stdout.readline() == "up\n"
        process.send_signal(number)
        if number != signal.SIGINT:
            time.sleep(0.2)
            process.send_signal(signal.SIGTERM)  # a second signal does not stop the cleanup
        process.wait(30)
    assert (tmp_path / "cleanup").read_text() == "ended"


def test_sighup_is_ignored_under_nohup(tmp_path):
    done = subprocess.run(
        ["nohup", sys.executable, "-c", "import os, signal; from benchmarks.load.processes import end_on_signals; "
         "end_on_signals(); os.kill(os.getpid(), signal.SIGHUP); print('on')"],
        cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.stdout == "on\n"


def test_command_can_clean_up_after_its_timeout(tmp_path):
    command = [sys.executable, "-c", COMMAND, str(tmp_path / "cleanup")]
    with pytest.raises(subprocess.TimeoutExpired):
        run_to_end(command, 3.0, cwd=ROOT, stderr=subprocess.DEVNULL)
    assert (tmp_path / "cleanup").read_text() == "ended"


def test_output_and_exit_status_are_returned():
    done = run_to_end([sys.executable, "-c", "print('word'); raise SystemExit(3)"], stdout=subprocess.PIPE, text=True)
    assert (done.returncode, done.stdout) == (3, "word\n")


def test_every_command_that_starts_a_server_handles_signals():
    starters, unhandled = {"running_server", "running_peer", "Server", "run_to_end", "Popen"}, []
    for path in sorted([*ROOT.glob("benchmarks/**/*.py"), *ROOT.glob("stress/**/*.py")]):
        tree = ast.parse(path.read_text())
        called = {
            getattr(node.func, "attr", getattr(node.func, "id", None))
            for node in ast.walk(tree)
            if isinstance(node, ast.Call)
        }
        is_command = any(isinstance(node, ast.If) and "__main__" in ast.unparse(node.test) for node in tree.body)
        if is_command and called & starters and not called & {"end_on_signals", "run_command"}:
            unhandled.append(os.path.relpath(path, ROOT))
    assert not unhandled
