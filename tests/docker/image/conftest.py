"""Build the image and run its containers for tests/docker/image/test_image.py (`make image-test`). Needs Linux.

The tests use Docker if its daemon answers, else podman with separate storage, which does not affect other images. They
leave only that storage behind, the folder SPOTER_IMAGE_SCRATCH (default ~/.cache/spoter-image-test), which makes a
second run faster. If no registry can be reached, docker/debootstrap.sh makes the base image, and podman runs without
network bridges, systemd and cgroups, which such machines may lack.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import ROOT
from tests.docker.image.engine import IMAGE, MEASURED, Container, Engine

BASE = "localhost/debian:bookworm-slim"
RESTRICTED_CONFIG = """[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
netns = "host"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""


def pytest_terminal_summary(terminalreporter) -> None:
    """Show the measurements, even if tests failed."""
    terminalreporter.section("measured")
    for line in MEASURED:
        terminalreporter.line(line)


def _podman(folder: Path) -> Engine:
    """Return a podman with separate storage in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    storage = folder / "storage.conf"
    lines = ["[storage]", 'driver = "overlay"', f'graphroot = "{folder}/graph"', f'runroot = "{folder}/run"']
    storage.write_text("\n".join(lines) + "\n")
    return Engine("podman", dict(os.environ) | {"CONTAINERS_STORAGE_CONF": str(storage)})


def _provide_base(engine: Engine, folder: Path) -> None:
    """Provide the base image: pull it, or make it with debootstrap if no registry can be reached."""
    if "SPOTER_IMAGE_BASE" in engine.environ or engine.tool == "docker":
        return
    pulled = subprocess.run([engine.tool, "pull", "debian:bookworm-slim"], env=engine.environ, capture_output=True)
    if pulled.returncode == 0:
        return
    if os.geteuid() != 0 or shutil.which("debootstrap") is None:
        pytest.exit("no registry can be reached: set SPOTER_IMAGE_BASE, or run this as root with debootstrap", 2)
    (folder / "containers.conf").write_text(RESTRICTED_CONFIG)
    engine.environ |= {"CONTAINERS_CONF": str(folder / "containers.conf"), "SPOTER_IMAGE_BASE": BASE}
    if subprocess.run([engine.tool, "image", "exists", BASE], env=engine.environ).returncode:
        subprocess.run([ROOT / "docker" / "debootstrap.sh", folder], check=True, stdout=sys.stderr)
        engine("import", "--change", 'CMD ["bash"]', folder / "base.tar", BASE)
        (folder / "base.tar").unlink()


def _pip_settings(folder: Path) -> tuple[list[str], dict[str, str]]:
    """Return this machine's pip settings (folders, index, certificates) as podman options and build.sh's variables.

    Without them, a machine that reaches packages only through its pip.conf could not build the image.
    """
    listing = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    )
    entries = dict(line.split("=", 1) for line in listing.stdout.splitlines())
    config = {
        name.split(".", 1)[1]: value.strip("'\"") for name, value in entries.items() if name.startswith("global.")
    }
    volumes: list[str] = []
    environ: dict[str, str] = {}
    for address in " ".join(config.get(key, "") for key in ("find-links", "index-url", "extra-index-url")).split():
        local = Path(address.removeprefix("file://"))
        if local.is_dir():
            # An index may link to folders next to it.
            mounted = local.parent if address.startswith("file://") else local
            volumes += ["--volume", f"{mounted}:{mounted}:ro"]
    if config.get("cert"):
        environ["SPOTER_CA"] = config.pop("cert")
    if config:
        environ["SPOTER_PIP_CONF"] = str(folder / "pip.conf")
        lines = [f"{name} = {value}" for name, value in config.items()]
        (folder / "pip.conf").write_text("\n".join(["[global]", *lines]) + "\n")
    return volumes, environ


@pytest.fixture(scope="session")
def engine() -> Engine:
    """Docker or podman, with the built image."""
    docker = shutil.which("docker") and not subprocess.run(["docker", "info"], capture_output=True).returncode
    folder = Path(os.environ.get("SPOTER_IMAGE_SCRATCH") or Path.home() / ".cache" / "spoter-image-test")
    tool = os.environ.get("SPOTER_IMAGE_TOOL") or ("docker" if docker else "podman")
    if shutil.which(tool) is None:
        pytest.exit("found neither a Docker daemon nor podman: install one of them", 2)
    engine = _podman(folder) if tool == "podman" else Engine(tool, dict(os.environ))
    started = time.monotonic()
    _provide_base(engine, folder)
    MEASURED.append(f"base: {time.monotonic() - started:.0f} s")
    volumes, pip = _pip_settings(folder) if tool == "podman" else ([], {})
    started = time.monotonic()
    environ = engine.environ | pip | {"SPOTER_IMAGE_TOOL": tool, "SPOTER_IMAGE_NAME": IMAGE}
    subprocess.run([ROOT / "docker" / "build.sh", *volumes], env=environ, check=True, stdout=sys.stderr)
    MEASURED.append(f"build: {time.monotonic() - started:.0f} s, layers of an earlier run included")
    return engine


@pytest.fixture
def start(engine: Engine) -> Iterator:
    """A function that starts containers; they are removed at the end."""
    names = []
    # A failed check counts at once. With podman all settings must be repeated, with docker single ones can change.
    health = ["--health-start-period", "0s"]
    if engine.tool == "podman":
        command = json.dumps(engine.inspect(IMAGE)["Healthcheck"]["Test"][1:])
        health += ["--health-cmd", command, "--health-retries", "3", "--health-timeout", "15s"]
        health += ["--health-interval", "disable"]
    else:
        health += ["--health-interval", "1s"]

    def run(*arguments: object, command: tuple[str, ...] = ()) -> Container:
        names.append(f"spoter-{uuid.uuid4().hex[:8]}")
        started = time.monotonic()
        engine("run", "--detach", "--network", "host", "--name", names[-1], *health, *arguments, IMAGE, *command)
        container = Container(engine, names[-1])
        container.started = started
        return container

    yield run
    for name in names:
        engine("kill", name, status=None)
        engine("rm", "--force", name, status=None)
