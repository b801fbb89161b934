"""Builds the image and runs containers of it, for tests/docker/image/test_image.py: `make image-test`. It needs Linux.

Where a Docker daemon answers, that is used. Otherwise podman, with storage of its own, so that nobody's images are
touched: SPOTER_IMAGE_SCRATCH, by default ~/.cache/spoter-image-test, is all that it leaves behind and what makes a
second run short. Where no registry can be reached the base is made by docker/debootstrap.sh, and podman is told to do
without what such machines lack: bridges, systemd, cgroups of its own.
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
CLOSED = """[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
netns = "host"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""


def pytest_terminal_summary(terminalreporter) -> None:
    """Show what was measured, whether or not the tests passed."""
    terminalreporter.section("measured")
    for line in MEASURED:
        terminalreporter.line(line)


def _podman(folder: Path) -> Engine:
    """Return a podman with storage of its own in `folder`, whatever else this machine's podman holds."""
    folder.mkdir(parents=True, exist_ok=True)
    storage = folder / "storage.conf"
    lines = ["[storage]", 'driver = "overlay"', f'graphroot = "{folder}/graph"', f'runroot = "{folder}/run"']
    storage.write_text("\n".join(lines) + "\n")
    return Engine("podman", dict(os.environ) | {"CONTAINERS_STORAGE_CONF": str(storage)})


def _offer_base(engine: Engine, folder: Path) -> None:
    """See to it that there is a base image: a pulled one, or where nothing can be pulled one of debootstrap."""
    if "SPOTER_IMAGE_BASE" in engine.environ or engine.tool == "docker":
        return
    pulled = subprocess.run([engine.tool, "pull", "debian:bookworm-slim"], env=engine.environ, capture_output=True)
    if pulled.returncode == 0:
        return
    if os.geteuid() != 0 or shutil.which("debootstrap") is None:
        pytest.exit("no registry can be reached: set SPOTER_IMAGE_BASE, or run this as root with debootstrap", 2)
    (folder / "containers.conf").write_text(CLOSED)
    engine.environ |= {"CONTAINERS_CONF": str(folder / "containers.conf"), "SPOTER_IMAGE_BASE": BASE}
    if subprocess.run([engine.tool, "image", "exists", BASE], env=engine.environ).returncode:
        subprocess.run([ROOT / "docker" / "debootstrap.sh", folder], check=True, stdout=sys.stderr)
        engine("import", "--change", 'CMD ["bash"]', folder / "base.tar", BASE)
        (folder / "base.tar").unlink()


def _pip_settings(folder: Path) -> tuple[list[str], dict[str, str]]:
    """Return this machine's settings of pip as podman's options and build.sh's variables: folders, index, certificates.

    A machine that can only reach what its pip.conf names could build nothing otherwise.
    """
    said = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    found = dict(line.split("=", 1) for line in said.stdout.splitlines())
    found = {name.split(".", 1)[1]: value.strip("'\"") for name, value in found.items() if name.startswith("global.")}
    volumes: list[str] = []
    environ: dict[str, str] = {}
    for place in " ".join(found.get(key, "") for key in ("find-links", "index-url", "extra-index-url")).split():
        local = Path(place.removeprefix("file://"))
        if local.is_dir():
            # An index may link to folders beside it.
            mounted = local.parent if place.startswith("file://") else local
            volumes += ["--volume", f"{mounted}:{mounted}:ro"]
    if found.get("cert"):
        environ["SPOTER_CA"] = found.pop("cert")
    if found:
        environ["SPOTER_PIP_CONF"] = str(folder / "pip.conf")
        lines = [f"{name} = {value}" for name, value in found.items()]
        (folder / "pip.conf").write_text("\n".join(["[global]", *lines]) + "\n")
    return volumes, environ


@pytest.fixture(scope="session")
def engine() -> Engine:
    """Docker or podman, with the image built."""
    docker = shutil.which("docker") and not subprocess.run(["docker", "info"], capture_output=True).returncode
    folder = Path(os.environ.get("SPOTER_IMAGE_SCRATCH") or Path.home() / ".cache" / "spoter-image-test")
    tool = os.environ.get("SPOTER_IMAGE_TOOL") or ("docker" if docker else "podman")
    if shutil.which(tool) is None:
        pytest.exit("found neither a Docker daemon nor podman: install one of them", 2)
    engine = _podman(folder) if tool == "podman" else Engine(tool, dict(os.environ))
    began = time.monotonic()
    _offer_base(engine, folder)
    MEASURED.append(f"base: {time.monotonic() - began:.0f} s")
    volumes, pip = _pip_settings(folder) if tool == "podman" else ([], {})
    began = time.monotonic()
    environ = engine.environ | pip | {"SPOTER_IMAGE_TOOL": tool, "SPOTER_IMAGE_NAME": IMAGE}
    subprocess.run([ROOT / "docker" / "build.sh", *volumes], env=environ, check=True, stdout=sys.stderr)
    MEASURED.append(f"build: {time.monotonic() - began:.0f} s, layers of an earlier run included")
    return engine


@pytest.fixture
def start(engine: Engine) -> Iterator:
    """Start containers; all are removed at the end."""
    names = []
    # A red check counts at once. Podman takes the image's settings only as a whole, docker one by one.
    health = ["--health-start-period", "0s"]
    if engine.tool == "podman":
        command = json.dumps(engine.inspect(IMAGE)["Healthcheck"]["Test"][1:])
        health += ["--health-cmd", command, "--health-retries", "3", "--health-timeout", "15s"]
        health += ["--health-interval", "disable"]
    else:
        health += ["--health-interval", "1s"]

    def run(*arguments: object, command: tuple[str, ...] = ()) -> Container:
        names.append(f"spoter-{uuid.uuid4().hex[:8]}")
        began = time.monotonic()
        engine("run", "--detach", "--network", "host", "--name", names[-1], *health, *arguments, IMAGE, *command)
        container = Container(engine, names[-1])
        container.started = began
        return container

    yield run
    for name in names:
        engine("kill", name, status=None)
        engine("rm", "--force", name, status=None)
