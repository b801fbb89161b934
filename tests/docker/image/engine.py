"""Docker or podman, and the containers of tests/docker/image/test_image.py."""

from __future__ import annotations

import json
import subprocess
import time

import psutil

IMAGE = "localhost/spoter:image-test"
MEASURED: list[str] = []


class Engine:
    """Docker or podman.

    Parameters
    ----------
    tool : str
        Command of the tool.
    environ : dict
        Environment variables of the tool.
    """

    def __init__(self, tool: str, environ: dict[str, str]):
        self.tool, self.environ = tool, environ
        # Without systemd, podman warns at each start that it cannot schedule health checks.
        self.command = [tool, "--log-level", "fatal"] if tool == "podman" else [tool]

    def __call__(self, *arguments: object, status: int | None = 0) -> str:
        """Run a command of the tool; return its output, and fail if the exit status differs from `status`."""
        done = subprocess.run(
            [*self.command, *map(str, arguments)],
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=600,
        )
        assert status is None or done.returncode == status, f"{self.tool} {arguments}: {done.returncode}\n{done.stdout}"
        return done.stdout

    def inspect(self, name: str) -> dict:
        return json.loads(self("inspect", name))[0]


class Container:
    """A container in the host's network, started by a test."""

    def __init__(self, engine: Engine, name: str):
        self.engine, self.name, self.started = engine, name, time.monotonic()

    @property
    def logs(self) -> str:
        return self.engine("logs", self.name)

    @property
    def running(self) -> bool:
        return self.engine.inspect(self.name)["State"]["Running"]

    def exec(self, *command: object, status: int | None = 0) -> str:
        return self.engine("exec", self.name, *command, status=status)

    def check_health(self) -> str:
        """Run the image's health check often enough to change the state; return the state, healthy or unhealthy."""
        if self.engine.tool == "podman":  # podman leaves the schedule to systemd
            for _ in range(3):
                self.engine("healthcheck", "run", self.name, status=None)
        else:
            time.sleep(8)  # the container runs its check every second
        state = self.engine.inspect(self.name)["State"]
        return (state.get("Health") or state["Healthcheck"])["Status"]

    def wait_healthy(self, label: str) -> None:
        """Wait until the health check's command succeeds."""
        deadline = time.monotonic() + 120
        while self.unhealthy():
            assert time.monotonic() < deadline and self.running, self.logs
            time.sleep(0.2)
        MEASURED.append(f"{label}: healthy {time.monotonic() - self.started:.1f} s after `run`")

    def unhealthy(self) -> int:
        """Return the exit status of the image's health check command."""
        command = self.engine.inspect(self.name)["Config"]["Healthcheck"]["Test"][1:]
        return subprocess.run(
            [self.engine.tool, "exec", self.name, *command], env=self.engine.environ, capture_output=True
        ).returncode

    def stop(self, label: str) -> float:
        """Stop the container; return the duration in seconds, and fail if a process remains."""
        first = psutil.Process(self.engine.inspect(self.name)["State"]["Pid"])
        processes = [first, *first.children(recursive=True)]
        started = time.monotonic()
        self.engine("stop", self.name)
        seconds = time.monotonic() - started
        MEASURED.append(f"{label}: stopped in {seconds:.2f} s, {len(processes)} processes gone")
        remaining = [process for process in processes if process.is_running() and process.status() != "zombie"]
        assert not remaining, remaining
        return seconds
