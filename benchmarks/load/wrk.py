"""wrk as the client of a closed loop; it needs a sixth of the processor time of `benchmarks.load.client`.

Most systems have a package of wrk (https://github.com/wg/wrk). Without it, benchmarks use `benchmarks.load.client`.
"""

import json
import math
import resource
import shutil
import subprocess
import tempfile
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


def is_installed() -> bool:
    """Return whether wrk is on the PATH."""
    return shutil.which("wrk") is not None


def run_wrk(url: str, request: Request, clients: int, seconds: float) -> dict[str, float]:
    """Send a request repeatedly from `clients` that wait for each answer, for `seconds`, rounded up to an integer.

    Return the numbers of answers (``requests``), of answers with status 400 or above (``refused``) and of requests
    without an answer (``lost``); ``seconds``; percentiles of latency in milliseconds (``p50``, ``p95``, ``p99``); and
    the processor seconds of wrk (``cpu_s``). Raises `OSError` with wrk's message if it failed.
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
    return {**json.loads(done.stdout.splitlines()[-1]), "cpu_s": cpu_s}
