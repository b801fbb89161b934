"""Docker or podman, and the containers that tests/docker/image/test_image.py starts with it."""

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
        Its command.
    environ : dict
        What it is run with.
    """

    def __init__(self, tool: str, environ: dict[str, str]):
        self.tool, self.environ = tool, environ
        # Podman without systemd complains at each start that it cannot time health checks.
        self.command = [tool, "--log-level", "fatal"] if tool == "podman" else [tool]

    def __call__(self, *arguments: object, status: int | None = 0) -> str:
        """Run a command of the tool; return what it said, and fail on another exit status than `status`."""
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
    """A container in the host's network, which a test has started."""

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
        """Run the image's health check as often as turns the state, and return that: healthy or unhealthy."""
        if self.engine.tool == "podman":  # which leaves the timing to systemd
            for _ in range(3):
                self.engine("healthcheck", "run", self.name, status=None)
        else:
            time.sleep(8)  # it was started with checks each second
        state = self.engine.inspect(self.name)["State"]
        return (state.get("Health") or state["Healthcheck"])["Status"]

    def wait_healthy(self, what: str) -> None:
        """Wait until the health check's own command ends well."""
        deadline = time.monotonic() + 120
        while self.unhealthy():
            assert time.monotonic() < deadline and self.running, self.logs
            time.sleep(0.2)
        MEASURED.append(f"{what}: healthy {time.monotonic() - self.started:.1f} s after `run`")

    def unhealthy(self) -> int:
        """Return the exit status of the health check's command, which is the image's own."""
        command = self.engine.inspect(self.name)["Config"]["Healthcheck"]["Test"][1:]
        return subprocess.run(
            [self.engine.tool, "exec", self.name, *command], env=self.engine.environ, capture_output=True
        ).returncode

    def stop(self, what: str) -> float:
        """Stop it as anyone would; return the seconds this took, and fail where a process is left."""
        first = psutil.Process(self.engine.inspect(self.name)["State"]["Pid"])
        processes = [first, *first.children(recursive=True)]
        began = time.monotonic()
        self.engine("stop", self.name)
        seconds = time.monotonic() - began
        MEASURED.append(f"{what}: stopped in {seconds:.2f} s, {len(processes)} processes gone")
        left = [process for process in processes if process.is_running() and process.status() != "zombie"]
        assert not left, left
        return seconds
