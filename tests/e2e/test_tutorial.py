"""docs/tutorial.py runs against the real server, and prints what its text announces."""

from __future__ import annotations

import os
import re
import subprocess
import sys

from tests import ROOT

PATH = ROOT / "docs" / "tutorial.py"


def test_it_prints_what_its_text_announces(server):
    done = subprocess.run(
        [sys.executable, PATH],
        cwd=ROOT,
        env=os.environ | {"SPOTER_URL": f"http://127.0.0.1:{server.port}"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    printed = done.stdout
    assert re.search(r"^dgs11 .* knows 11 signs: .*HALLO", printed)
    assert re.search(r"^SOFTWARE +0\.9", printed, re.MULTILINE) and "known: True, 92 frames" in printed
    assert "known: False" in printed  # the clip upside down and back to front
    assert re.findall(r"^(\d) (\w+)", printed, re.MULTILINE) == [
        ("0", "SOFTWARE"), ("1", "HALLO"), ("2", "wrong_point_count"), ("3", "MAINZ"),
    ]  # fmt: skip
    assert re.search(r"^GREETING 1\.00", printed, re.MULTILINE)
    assert "wrong_point_count, in frame 0, pose_landmarks" in printed and "http://127.0.0.1:9/" in printed


def test_it_opens_as_a_notebook():
    """In the percent format, a line with a marker begins each cell, and text consists of comments only."""
    cells = re.split(r"^# %%", PATH.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert cells[0] == "" and len(cells) > 15
    for cell in cells[1:]:
        kind, _, content = cell.partition("\n")
        assert kind in ("", " [markdown]")
        if kind:
            assert all(line.startswith("#") for line in content.strip().splitlines())
        else:
            compile(content, str(PATH), "exec")
