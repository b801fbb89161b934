"""The recognizer without a server: as many processes as a server has workers, each with one thread.

`python -m benchmarks.peers.in_process MODEL RUNTIME` is one of them. For each line ``{"request": NAME, "seconds": S}``
it answers that request again and again, and writes a JSON list: the seconds of each answer, and its processor seconds.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks import ROOT
from benchmarks.load.bodies import BODIES
from benchmarks.peers.shared import load_with_one_thread
from spoter.messages import RawRequest
from spoter.processes import end_process_tree
from spoter.serving.service import respond
from spoter.torchserve.process import StartError

Measurement = tuple[list[float], float]
"""Seconds of each answer of a process, and its processor seconds for all of them."""


class RecognizerProcesses(list["subprocess.Popen[str]"]):
    """Processes that wait for an order; waiting costs nothing."""

    def measure(self, request: str, count: int, seconds: float) -> list[Measurement]:
        """Have `count` processes answer a request of `BODIES` again and again, at the same time."""
        for process in self[:count]:
            process.stdin.write(json.dumps({"request": request, "seconds": seconds}) + "\n")
            process.stdin.flush()
        return [tuple(json.loads(_read_line(process))) for process in self[:count]]


@contextmanager
def running_processes(model: Path, runtime: str, count: int) -> Iterator[RecognizerProcesses]:
    """Start the processes and wait until each has loaded the model; end them with the block."""
    command = [sys.executable, "-m", "benchmarks.peers.in_process", str(model.resolve()), runtime]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "start_new_session": True}
    processes = RecognizerProcesses()
    with ExitStack() as stack:
        for _ in range(count):
            processes.append(stack.enter_context(subprocess.Popen(command, cwd=ROOT, **pipes)))
            stack.callback(end_process_tree, processes[-1])
        for process in processes:
            _read_line(process)
        yield processes


def _read_line(process: subprocess.Popen[str]) -> str:
    line = process.stdout.readline()
    if not line:
        raise StartError(f"a process of the recognizer alone ended with status {process.wait()}, for the reason above")
    return line


def main() -> None:
    """Follow the orders of standard input, until it ends."""
    recognizer = load_with_one_thread(Path(sys.argv[1]), sys.argv[2])
    requests = {name: [RawRequest(make(), "application/json")] for name, make in BODIES.items()}
    for request in requests.values():
        respond(recognizer, request)
    print("ready", flush=True)
    for line in sys.stdin:
        order, taken = json.loads(line), []
        request = requests[order["request"]]
        cpu_before, end = time.process_time(), time.perf_counter() + order["seconds"]
        while (began := time.perf_counter()) < end:
            respond(recognizer, request)
            taken.append(time.perf_counter() - began)
        print(json.dumps([taken, time.process_time() - cpu_before]), flush=True)


if __name__ == "__main__":
    main()
