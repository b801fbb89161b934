"""Unit tests of the page's modules in tests/webpage/unit, run by Node's test runner without a browser."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests import ROOT


def test_unit_tests_of_the_modules_pass(node):
    files = sorted(Path(__file__).with_name("unit").glob("*.test.mjs"))
    assert files
    result = subprocess.run([node, "--test", *files], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr
