"""wrk as the client of a closed loop: it takes a sixth of the processor time that `benchmarks.load.client` takes.

https://github.com/wg/wrk, a package of most systems. Where it is not installed, `benchmarks.load.client` is used.
"""

from __future__ import annotations

import json
import math
import resource
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load.client import TIMEOUT, Request, cpu_seconds

# wrk calls `done` with its counts. Times are in microseconds.
_SCRIPT = """
function init(args)
   local file = io.open(args[1], "rb")
   wrk.method, wrk.body = "POST", file:read("*a")
   wrk.headers["Content-Type"] = args[2]
   file:close()
end
function done(summary, latency, requests)
   local lost = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
   io.write(string.format(
      '\\n{"requests": %d, "refused": %d, "lost": %d, "seconds": %f, "p50": %f, "p95": %f, "p99": %f}\\n',
      summary.requests, summary.errors.status, lost, summary.duration / 1e6,
      latency:percentile(50) / 1e3, latency:percentile(95) / 1e3, latency:percentile(99) / 1e3))
end
"""


@dataclass(frozen=True)
class WrkLoad:
    """A run of wrk: answers (`requests`), those of status 400 and above (`refused`), requests without answer (`lost`).

    Percentiles of latency are milliseconds; `cpu_s` are the processor seconds of wrk.
    """

    requests: int
    refused: int
    lost: int
    seconds: float
    p50: float
    p95: float
    p99: float
    cpu_s: float

    @property
    def rate(self) -> float:
        """Good answers a second."""
        return (self.requests - self.refused) / self.seconds


def is_installed() -> bool:
    """Return whether there is a wrk on the PATH."""
    return shutil.which("wrk") is not None


def run_wrk(url: str, request: Request, clients: int, seconds: float) -> WrkLoad:
    """Send a request from `clients` that each wait for an answer, for `seconds`, rounded up to whole ones.

    Raises
    ------
    OSError
        Where wrk failed; with its message.
    """
    with tempfile.TemporaryDirectory(prefix="spoter-wrk-") as folder:
        script, body = Path(folder, "script.lua"), Path(folder, "body")
        script.write_text(_SCRIPT)
        body.write_bytes(request.body)
        command = ["wrk", "--threads", "1", "--connections", str(clients), "--duration", f"{math.ceil(seconds)}s"]
        command += ["--timeout", f"{TIMEOUT:g}s", "--script", str(script), url, "--", str(body), request.content_type]
        cpu_before = cpu_seconds(resource.RUSAGE_CHILDREN)
        done = subprocess.run(command, capture_output=True, text=True)
        cpu_s = cpu_seconds(resource.RUSAGE_CHILDREN) - cpu_before
    if done.returncode:
        raise OSError(f"wrk ended with status {done.returncode}: {(done.stderr or done.stdout).strip()[-300:]}")
    return WrkLoad(**json.loads(done.stdout.splitlines()[-1]), cpu_s=cpu_s)
