"""What hostile bodies cost the server: `python -m stress.cost_amplification`.

Each body of `stress.hostile_bodies` is answered by `spoter.serving.service.respond` in a process of its own, which tells the seconds
of processor time and the memory that this took on top of the body. Exit status 1 where one is answered with anything
but 200 or a 4xx, or costs more than it may.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from stress import ROOT
from stress.harness import table
from stress.hostile_bodies import Hostile, hostile

MB = 1e6
# What a body of `size` bytes may cost: 1.5 times its bytes and 100 MB of memory, and 0.6 s of a core at 25 MiB.
MOST_SECONDS = 0.6
# One that seems to cost more is tried so often in all: others on the machine can make it slower than it is, by what
# they take of the processor's caches, and never faster.
TRIES = 3


@dataclass(frozen=True)
class Cost:
    """What one body took; `bytes` are its own, and `memory` those on top of it at the most."""

    name: str
    bytes: int
    status: int
    code: str | None
    seconds: float
    memory: int
    honest: bool

    @property
    def too_much(self) -> bool:
        """Whether it cost more than it may."""
        return not self.honest and (self.memory > 1.5 * self.bytes + 100 * MB or self.seconds > MOST_SECONDS)


def measure(model: Path, size: int, only: str = "", show=iter) -> list[Cost]:
    """Answer each hostile body of at most `size` bytes whose name has `only` in it, each in a process of its own."""
    from spoter.runtime.threads import limit_threads
    from spoter.serving.recognizer import Recognizer

    recognizer = Recognizer.load(model)
    limit_threads(1, recognizer.config.runtime)
    chosen = [body for body in hostile(recognizer.layout) if only in body.name]
    return [least(lambda body=body: _apart(recognizer, body, size)) for body in show(chosen)]


def least(answered: Callable[[], Cost]) -> Cost:
    """Return what a body costs: of up to `TRIES` answers to it the one that took least, if the first took too much."""
    found = answered()
    for _ in range(TRIES - 1):
        if not found.too_much:
            break
        found = min(found, answered(), key=lambda cost: cost.seconds)
    return found


def _apart(recognizer, body: Hostile, size: int) -> Cost:
    """Answer one in a child process, which has all that is loaded here and nothing of the earlier ones."""
    context = multiprocessing.get_context("fork")
    mine, its = context.Pipe(duplex=False)
    child = context.Process(target=lambda: its.send(_measure(recognizer, body, size)), daemon=True)
    child.start()
    its.close()
    try:
        return mine.recv()
    except EOFError:  # it was killed, for its memory likely
        return Cost(body.name, size, 0, "died", 0.0, 0, body.honest)
    finally:
        child.join()


def _measure(recognizer, body: Hostile, size: int) -> Cost:
    from spoter.serving.service import respond

    incoming = body.make(size)
    ctypes.CDLL(None).malloc_trim(0)  # what making it left behind would hide what answering it takes
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM, the peak, starts anew (proc(5))
    before, started = _memory("VmRSS"), time.process_time()
    [response], _ = respond(recognizer, [incoming])
    seconds = time.process_time() - started
    memory = max(0, _memory("VmHWM") - before)
    return Cost(body.name, len(incoming.body), response.status, response.error_code, seconds, memory, body.honest)


def _memory(kind: str) -> int:
    """Return a line of /proc/self/status in bytes."""
    return 1024 * int(re.search(rf"{kind}:\s+(\d+)", Path("/proc/self/status").read_text())[1])


def main(
    model: Annotated[Path, typer.Option(help="Model folder.")] = ROOT / "models" / "dgs11",
    size: Annotated[int, typer.Option(help="Bytes of each body; at most max_bytes of the model.")] = 26_214_400,
    only: Annotated[str, typer.Option(help="Only bodies with this in their names.")] = "",
) -> None:
    """Answer bodies that are made to cost, and print what they cost."""
    from tqdm import tqdm

    costs = measure(model, size, only, lambda bodies: tqdm(bodies, desc="bodies", leave=False))
    rows = [
        (
            cost.name + (" (honest)" if cost.honest else ""),
            f"{cost.bytes / MB:.1f}",
            f"{cost.status} {cost.code or ''}".strip(),
            f"{cost.seconds:.2f}",
            f"{cost.memory / MB:.0f}",
            "too much" if cost.too_much else "",
        )
        for cost in costs
    ]
    print(table(("Body", "MB", "Answer", "CPU s", "MB on top", ""), rows))
    wrong = [cost.name for cost in costs if cost.too_much or not (cost.status == 200 or 400 <= cost.status < 500)]
    if wrong:
        sys.exit(f"{len(wrong)} of {len(costs)} bodies cost too much or were not answered: {'; '.join(wrong)}")


if __name__ == "__main__":
    typer.run(main)
