"""The documents: links, index, generated pages. The prose of the whole project: no phrase of a list."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import typer.main

from scripts import reference
from spoter.cli.main import app
from tests import ROOT

LISTED = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
FILES = [ROOT / name for name in LISTED.split("\0") if name and (ROOT / name).is_file()]
DOCUMENTS = [path for path in FILES if path.suffix == ".md"]
PAGES = sorted(path.name for path in DOCUMENTS if path.parent == ROOT / "docs" and path.name != "index.md")
# Text that is written here: no data, no generated or foreign text.
PROSE = {
    ".md",
    ".py",
    ".js",
    ".mjs",
    ".html",
    ".css",
    ".toml",
    ".yaml",
    ".yml",
    ".xml",
    ".sh",
    ".properties",
    ".txt",
    "",
}

# German syntax in English words, and what to write instead.
PHRASES = {
    r"beside": "next to, in addition to, compared with",
    r"of (its|their|one's|his|your|our|my) own": "its own, separate",
    r"anew": "again",
    r"(is|are|was|were|be|been|being) told": "is configured, gets",
    r"so many": "the number",
    r"shall": "should, must",
    r"hangs? on": "depends on",
    r"go(es)? on (from|with|where)": "resumes, continues",
    r"nobody knows": "unknown",
    r"for want of": "for lack of",
    r"the long way": "",
    r"would have it": "",
}
ANYWHERE = re.compile(rf"\b({'|'.join(PHRASES)})\b", re.IGNORECASE)


def read_prose(document: Path) -> str:
    """Return a document without its fences."""
    return re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def anchors(document: Path) -> set[str]:
    """Return the anchors that GitHub gives to a document's headings."""
    titles = re.findall(r"^#+ (.+)$", read_prose(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.replace("`", "").lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(document: Path):
    dead = []
    for target in re.findall(r"\]\(<?([^)\s>]+)>?\)", re.sub(r"`[^`]*`", "", read_prose(document))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (document.parent / path).resolve() if path else document
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            dead.append(target)
    assert dead == []


@pytest.mark.parametrize("page", PAGES)
def test_every_page_is_on_the_index(page: str):
    assert f"]({page})" in (ROOT / "docs" / "index.md").read_text(encoding="utf-8")


def test_the_page_of_the_command_line_lists_every_option():
    """And its help text. The page is generated, but versions of Typer differ in details."""
    page = " ".join((ROOT / "docs" / "command-line.md").read_text(encoding="utf-8").split())
    command = typer.main.get_command(app)
    missing = []

    def look(command, name: str) -> None:
        for option in command.params:
            texts = [*option.opts[: option.param_type_name == "option"], getattr(option, "help", None) or ""]
            missing.extend(f"{name} {text}" for text in texts if " ".join(text.split()) not in page)
        for each in getattr(command, "commands", ()):
            look(command.get_command(None, each), f"{name} {each}")

    look(command, "spoter")
    assert missing == [], "run make reference"


def test_the_table_of_error_codes_is_generated():
    assert (ROOT / "docs" / "errors.md").read_text(encoding="utf-8") == reference.errors(), "run make reference"


@pytest.mark.parametrize("top", sorted({path.relative_to(ROOT).parts[0] for path in FILES}))
def test_no_phrase_has_to_be_read_twice(top: str):
    found = []
    for path in FILES:
        if (
            path.name == "LICENSE"
            or path.relative_to(ROOT).parts[0] != top
            or path.suffix not in PROSE
            or path == Path(__file__).resolve()
        ):
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            found += [f"{path.relative_to(ROOT)}:{number}: {match[0]}" for match in ANYWHERE.finditer(line)]
    assert found == []
