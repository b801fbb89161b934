"""Every command `spoter …` or `make …` in a document exists, with all its options."""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest
import typer

from spoter.cli.main import app
from tests import ROOT

DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/*.md", "[!.]*/README.md", "spoter/aws/iam/README.md")
    for path in ROOT.glob(pattern)
    if path.name not in ("CHANGELOG.md", "upgrade.md")  # these also name removed commands
)
COMMAND = re.compile(r"^(?:spoter|make) .*$", re.MULTILINE)
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def commands_in(document: str) -> list[str]:
    """Return the commands in fences and in inline code."""
    text = (ROOT / document).read_text(encoding="utf-8").replace("\\\n", " ")
    fences = re.findall(r"^```\w*\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    outside = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    inline = re.findall(r"(?<!`)`((?:spoter|make) [^`…]+)`", outside)
    return [*inline, *(line for fence in fences for line in COMMAND.findall(fence))]


def find_command(words: list[str]) -> tuple[Any, set[str]]:
    """Return the command that the words name, and the options of the command and its groups."""
    command, options = typer.main.get_command(app), {"--help"}
    for word in words:
        child = command.get_command(None, word) if hasattr(command, "get_command") else None
        if child is None:
            break
        command = child
        options |= {name for parameter in child.params for name in (*parameter.opts, *parameter.secondary_opts)}
    return command, options


def faults(command: str) -> list[str]:
    """Return the commands, options or targets of `command` that do not exist."""
    words = shlex.split(command, comments=True)
    if words[0] == "make":
        return [word for word in words[1:] if re.fullmatch(r"[a-z-]+", word) and word not in TARGETS]
    known_command, options = find_command(words[1:])
    if known_command.name == "spoter":
        return [word for word in words[1:2] if word != "COMMAND"]
    return [word for word in words if word.startswith("--") and word.partition("=")[0] not in options]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_in_documents_exist(document):
    assert [(command, unknown) for command in commands_in(document) if (unknown := faults(command))] == []


def test_wrong_commands_are_detected():
    assert faults("spoter recognize x.json") == ["recognize"]
    assert faults("spoter predict models/dgs11 x.json --best 3") == ["--best"]
    assert faults("spoter deploy --dry-run --region eu-central-1") == faults("make serve SPOTER_PORT=9080") == []
    assert faults("make everything") == ["everything"]


def test_documents_are_found():
    assert {"README.md", "docs/index.md", "web/README.md"} <= set(DOCUMENTS)
    assert commands_in("README.md")
