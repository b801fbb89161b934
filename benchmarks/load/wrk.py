"""wrk as the client of a closed loop: it takes a sixth of the processor that ours takes from the server it measures.

https://github.com/wg/wrk, which most systems have as a package; `benchmarks.load.client` stands in where it is not installed.
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

from benchmarks.load.client import TIMEOUT, cpu_s

# wrk tells a script's `done` what it has counted. Latencies are in microseconds.
_SCRIPT = """
function init(args)
   local file = io.open(args[1], "rb")
   wrk.method, wrk.body = "POST", file:read("*a")
   wrk.headers["Content-Type"] = args[2]
   file:close()
end
function done(summary, latency, requests)
   local lost = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
   io.write(string.format('\\n{"duration": %d, "requests": %d, "refused": %d, "lost": %d, "us": [%d, %d, %d]}\\n',
      summary.duration, summary.requests, summary.errors.status, lost,
      latency:percentile(50), latency:percentile(95), latency:percentile(99)))
end
"""


@dataclass(frozen=True)
class Counted:
    """What wrk tells of a run.

    Attributes
    ----------
    requests : int
        That were answered.
    refused, lost : int
        Of these, with a status of 400 and above; and beside them those that got no whole answer.
    seconds : float
    percentiles : tuple of float
        Milliseconds within which 50, 95 and 99 % of the answers came.
    cpu_s : float
        Seconds of the processor that wrk took.
    """

    requests: int
    refused: int
    lost: int
    seconds: float
    percentiles: tuple[float, float, float]
    cpu_s: float

    @property
    def rate(self) -> float:
        """Good answers a second."""
        return (self.requests - self.refused) / self.seconds


def found() -> str | None:
    """Return the path of wrk, where it is installed."""
    return shutil.which("wrk")


def run(url: str, body: bytes, content_type: str, clients: int, seconds: float) -> Counted:
    """Ask with `clients` that each wait for an answer before they ask again, for whole `seconds`, rounded up.

    Raises
    ------
    OSError
        Where wrk did not come to its end; with its words.
    """
    with tempfile.TemporaryDirectory(prefix="spoter-wrk-") as folder:
        script, content = Path(folder, "script.lua"), Path(folder, "body")
        script.write_text(_SCRIPT)
        content.write_bytes(body)
        command = [found() or "wrk", "--threads", "1", "--connections", str(clients)]
        command += ["--duration", f"{math.ceil(seconds)}s", "--timeout", f"{TIMEOUT:g}s"]
        before = cpu_s(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [*command, "--script", str(script), url, "--", str(content), content_type], capture_output=True, text=True
        )
        taken = cpu_s(resource.RUSAGE_CHILDREN) - before
    if done.returncode:
        raise OSError(f"wrk ended with status {done.returncode}: {(done.stderr or done.stdout).strip()[-300:]}")
    told = json.loads(done.stdout.splitlines()[-1])
    return Counted(
        told["requests"],
        told["refused"],
        told["lost"],
        told["duration"] / 1e6,
        tuple(us / 1e3 for us in told["us"]),
        taken,
    )
