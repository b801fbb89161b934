"""The Python and JavaScript of README.md run as they stand there, and print what README.md shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
# A block of code, and the block after it: what it prints.
BLOCKS = re.findall(r"^```(python|js)\n(.*?)^```\n(?:\n```\n(.*?)^```\n)?", README, re.DOTALL | re.MULTILINE)
ENDINGS = {"python": ".py", "js": ".mjs"}


def test_readme_has_code_in_both_languages_and_shows_what_each_prints():
    assert {language for language, _, _ in BLOCKS} == {"python", "js"}
    assert [code for _, code, shown in BLOCKS if not shown] == []


@pytest.mark.parametrize(("language", "code", "shown"), BLOCKS)
def test_it_prints_what_readme_shows(server, tmp_path, request, language, code, shown):
    program = sys.executable if language == "python" else request.getfixturevalue("node")
    file = tmp_path / f"block{ENDINGS[language]}"
    assert ":8080" in code
    file.write_text(code.replace(":8080", f":{server.port}"), encoding="utf-8")
    paths = os.pathsep.join(sys.path)
    done = subprocess.run(
        [program, file],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (0, shown), done.stderr
