"""The cost of hostile bodies for the server: `python -m stress.cost_amplification`.

`spoter.serving.service.respond` answers each body of `stress.hostile_bodies` in a separate process, which measures
processor seconds and the memory in addition to the body. The exit status is 1 if a body costs too much, or gets a
status other than 200 or 4xx.
"""

import ctypes
import multiprocessing
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from tqdm import tqdm

from benchmarks import MODEL
from benchmarks.command import run_command
from benchmarks.tables import markdown_table
from spoter.runtime.device import limit_threads
from spoter.serving.recognizer import Recognizer
from spoter.serving.service import respond
from stress.hostile_bodies import HostileBody, hostile_bodies

MB = 1e6
# Limits of a body: memory of 1.5 times its size plus 100 MB, and 0.6 s of one core for 25 MiB.
MOST_SECONDS = 0.6
TRIES = 3  # measurements of a body above the limits: other processes can only increase the cost


@dataclass(frozen=True)
class Cost:
    """The cost of a body of `bytes` bytes; `memory` is the peak in bytes in addition to the body."""

    name: str
    bytes: int
    status: int
    code: str | None
    seconds: float
    memory: int
    honest: bool

    @property
    def is_too_high(self) -> bool:
        """Whether the cost is above the limits."""
        return not self.honest and (self.memory > 1.5 * self.bytes + 100 * MB or self.seconds > MOST_SECONDS)


def lowest_cost(measure: Callable[[], Cost]) -> Cost:
    """Return the cost of a body; if the first measurement is too high, the lowest of up to `TRIES` measurements."""
    cost = measure()
    for _ in range(TRIES - 1):
        if cost.is_too_high:
            cost = min(cost, measure(), key=lambda cost: cost.seconds)
    return cost


def _measure_in_child(recognizer: Recognizer, body: HostileBody, size: int) -> Cost:
    """Answer a body in a child process, which has the loaded recognizer and no memory of earlier bodies."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=lambda: sender.send(_measure(recognizer, body, size)), daemon=True)
    child.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:  # the child was killed, probably out of memory
        return Cost(body.name, size, 0, "died", 0.0, 0, body.honest)
    finally:
        child.join()


def _measure(recognizer: Recognizer, body: HostileBody, size: int) -> Cost:
    request = body.make(size)
    ctypes.CDLL(None).malloc_trim(0)  # free memory left from creating the body, which would hide memory of the answer
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak, VmHWM (proc(5))
    before, started = _read_memory("VmRSS"), time.process_time()
    [response], _ = respond(recognizer, [request])
    seconds = time.process_time() - started
    memory = max(0, _read_memory("VmHWM") - before)
    return Cost(body.name, len(request.body), response.status, response.error_code, seconds, memory, body.honest)


def _read_memory(kind: str) -> int:
    """Return a value of /proc/self/status in bytes."""
    return 1024 * int(re.search(rf"{kind}:\s+(\d+)", Path("/proc/self/status").read_text())[1])


def main(
    model: Annotated[Path, typer.Option(help="Model folder.")] = MODEL,
    size: Annotated[int, typer.Option(help="Bytes of each body; at most the model's max_bytes.")] = 26_214_400,
    only: Annotated[str, typer.Option(help="Only bodies whose name contains this text.")] = "",
) -> None:
    """Answer hostile bodies, and print their cost."""
    recognizer = Recognizer.load(model)
    limit_threads(1, recognizer.config.runtime)
    bodies = [body for body in hostile_bodies(recognizer.layout) if only in body.name]
    rows, wrong = [], []
    for body in tqdm(bodies, desc="bodies", leave=False):
        cost = lowest_cost(partial(_measure_in_child, recognizer, body, size))
        name, answer = cost.name + (" (honest)" if cost.honest else ""), f"{cost.status} {cost.code or ''}".strip()
        numbers = (f"{cost.seconds:.2f}", f"{cost.memory / MB:.0f}", "too much" if cost.is_too_high else "")
        rows.append((name, f"{cost.bytes / MB:.1f}", answer, *numbers))
        if cost.is_too_high or not (cost.status == 200 or 400 <= cost.status < 500):
            wrong.append(cost.name)
    print(markdown_table(("Body", "Size, MB", "Answer", "CPU time, s", "Additional memory, MB", "Verdict"), rows))
    if wrong:
        sys.exit(f"{len(wrong)} of {len(rows)} bodies cost too much or got a wrong status: {'; '.join(wrong)}")


if __name__ == "__main__":
    run_command(main)
