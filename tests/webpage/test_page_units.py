"""The page's modules without a browser: tests/web/unit, run by Node's own test runner."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests import ROOT


def test_the_modules_do_what_they_say(node):
    files = sorted(Path(__file__).with_name("unit").glob("*.test.mjs"))
    assert files
    done = subprocess.run([node, "--test", *files], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
