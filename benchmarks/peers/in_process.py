"""The recognizer without a server: as many processes as a server has workers, each with one thread, asking itself.

`python -m benchmarks.peers.in_process MODEL RUNTIME` is one of them: it reads ``{"request": NAME, "seconds": S}`` a line and
writes a JSON list: the seconds that each request took, and those of the processor that all took together.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import ROOT
from spoter.torchserve.server import StartError, end_session


class Alone:
    """Processes that wait to be told how long to work; waiting costs nothing."""

    def __init__(self, processes: list[subprocess.Popen]):
        self._processes = processes

    def ask(self, request: str, processes: int, seconds: float) -> list[tuple[list[float], float]]:
        """Have some of the processes answer a request again and again, at the same time.

        Parameters
        ----------
        request : str
            Its name, of `benchmarks.load.bodies.bodies`.
        processes : int
            1 up to as many as there are.
        seconds : float
            How long.

        Returns
        -------
        list of (list of float, float)
            For each process the seconds that each request took, and the processor's for all of them.
        """
        chosen = self._processes[:processes]
        for process in chosen:
            process.stdin.write(json.dumps({"request": request, "seconds": seconds}) + "\n")
            process.stdin.flush()
        return [tuple(json.loads(_line(process))) for process in chosen]


@contextmanager
def started(model: Path, runtime: str, processes: int) -> Iterator[Alone]:
    """Start the processes and wait until each has its model; end them with the block."""
    command = [sys.executable, "-m", "benchmarks.peers.in_process", str(model.resolve()), runtime]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "start_new_session": True}
    running: list[subprocess.Popen] = []
    try:
        for _ in range(processes):
            running.append(subprocess.Popen(command, cwd=ROOT, **pipes))
        for process in running:
            _line(process)
        yield Alone(running)
    finally:
        for process in running:
            end_session(process)
            process.stdin.close()
            process.stdout.close()


def _line(process: subprocess.Popen) -> str:
    line = process.stdout.readline()
    if not line:
        raise StartError(f"a process of the recognizer alone ended with status {process.wait()}, for the reason above")
    return line


def main() -> None:
    """Answer what standard input asks for, until it ends."""
    from benchmarks.load.bodies import bodies
    from benchmarks.peers.shared import load_with_one_thread
    from spoter.messages import RawRequest
    from spoter.serving.service import respond

    recognizer = load_with_one_thread(Path(sys.argv[1]), sys.argv[2])
    asked = {name: [RawRequest(body, "application/json")] for name, body in bodies().items()}
    for incoming in asked.values():
        respond(recognizer, incoming)
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        incoming, taken = asked[order["request"]], []
        before = time.process_time()
        end = time.perf_counter() + order["seconds"]
        while (began := time.perf_counter()) < end:
            respond(recognizer, incoming)
            taken.append(time.perf_counter() - began)
        print(json.dumps([taken, time.process_time() - before]), flush=True)


if __name__ == "__main__":
    main()
