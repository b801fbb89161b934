"""The systemd unit of docs/operations.md is valid, and its command serves and ends as systemd expects."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from spoter.ops.ports import free_port
from tests import ROOT
from tests.e2e.live import send

FOLDERS = {"StateDirectory": "/var/lib", "LogsDirectory": "/var/log", "CacheDirectory": "/var/cache"}


@pytest.fixture
def unit(scratch: Path) -> str:
    """The unit with paths and ports of this machine."""
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```ini\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    folder = scratch / "unit"
    shutil.rmtree(folder, ignore_errors=True)
    for setting, parent in FOLDERS.items():
        assert f"{setting}=spoter\n" in block
        (folder / parent[5:]).mkdir(parents=True)
        block = block.replace(f"{parent}/spoter\n", f"{folder / parent[5:]}\n")
    block = block.replace("/opt/spoter/.venv/bin/spoter", str(Path(sys.prefix, "bin", "spoter")))
    return block.replace("/opt/spoter", str(ROOT)).replace("8080", str(free_port()))


def read_values(unit: str, key: str) -> list[str]:
    return [value for line in re.findall(rf"^{key}=(.*)$", unit, re.MULTILINE) for value in shlex.split(line)]


def test_systemd_accepts_the_unit(unit, tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    file = tmp_path / "spoter.service"
    file.write_text(unit)
    done = subprocess.run(["systemd-analyze", "verify", file], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "spoter.service" not in done.stderr, done.stderr


@pytest.mark.server
def test_the_command_of_the_unit_serves_and_ends_with_status_0(unit):
    variables = dict(value.split("=", 1) for value in read_values(unit, "Environment"))
    ports = {name: str(free_port()) for name in ("SPOTER_MANAGEMENT_PORT", "SPOTER_METRICS_PORT")}
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("SPOTER_", "TS_"))}
    (folder,) = read_values(unit, "WorkingDirectory")
    process = subprocess.Popen(
        read_values(unit, "ExecStart"), cwd=folder, env=environ | ports | variables, stdout=subprocess.PIPE, text=True
    )
    try:
        greeting = next(line for line in process.stdout if line.startswith("{"))
        assert '"gloss":"HALLO"' in greeting
        assert send(int(variables["SPOTER_PORT"]), "GET", "/ping").status == 200
        assert Path(variables["SPOTER_MODEL_STORE"], "spoter.mar").is_file()
        assert Path(variables["SPOTER_LOGS"], "ts_log.log").is_file()
        assert list(Path(variables["TMPDIR"]).glob("spoter-*"))
    finally:
        process.terminate()
        process.communicate(timeout=60)
    assert process.returncode == 0
    assert list(Path(variables["TMPDIR"]).glob("spoter-*")) == []
