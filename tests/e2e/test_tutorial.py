"""docs/tutorial.py runs from its first cell to its last, against the real server."""

from __future__ import annotations

import os
import re
import subprocess
import sys

from tests import ROOT

PATH = ROOT / "docs" / "tutorial.py"


def test_the_tutorial_says_what_its_text_promises(server):
    done = subprocess.run(
        [sys.executable, PATH],
        cwd=ROOT,
        env=os.environ | {"SPOTER_URL": f"http://127.0.0.1:{server.port}"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout
    assert re.search(r"^dgs11 .* knows 11 signs: .*HALLO", said)
    assert re.search(r"^SOFTWARE +0\.9", said, re.MULTILINE) and "known: True, 92 frames" in said
    assert "known: False" in said  # the clip upside down and back to front
    assert re.findall(r"^(\d) (\w+)", said, re.MULTILINE) == [
        ("0", "SOFTWARE"), ("1", "HALLO"), ("2", "wrong_point_count"), ("3", "MAINZ"),
    ]  # fmt: skip
    assert re.search(r"^GREETING 1\.00", said, re.MULTILINE)
    assert "wrong_point_count, in frame 0, pose_landmarks" in said and "make serve" in said


def test_it_opens_as_a_notebook():
    """The percent format: a marker alone on its line begins each cell, and text is all comments."""
    cells = re.split(r"^# %%", PATH.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert cells[0] == "" and len(cells) > 15
    for cell in cells[1:]:
        kind, _, content = cell.partition("\n")
        assert kind in ("", " [markdown]")
        if kind:
            assert all(line.startswith("#") for line in content.strip().splitlines())
        else:
            compile(content, str(PATH), "exec")
