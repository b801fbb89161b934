"""Write the generated pages of docs/: errors.md, command-line.md and python-api.md: `make reference`."""

import re
import subprocess
import sys
from pathlib import Path

import spoter
from spoter.client.encoding import ClipOptions
from spoter.error_codes import ErrorCode, Source

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
COMMAND_LINE = """# Command line

For everyone who uses the command `spoter`: every command and option, as `spoter COMMAND --help` prints them.
Generated from the help texts by `make reference`.
"""
PYTHON_API = """# Python API

For everyone who imports `spoter`: its public classes and functions.
Generated from the docstrings by `make reference`.

"""


def errors() -> str:
    """Return docs/errors.md: its own introduction, and a table for each source of codes."""
    text = (DOCS / "errors.md").read_text(encoding="utf-8").partition("\n## ")[0]
    for source in Source:
        codes = [code for code in ErrorCode if code.source is source]
        rows = [f"| `{code.value}` | {code.status} | {code.meaning} | {code.remedy} |\n" for code in codes]
        text += f"\n## Codes of {source.value}\n\n| Code | Status | What was wrong | What to do |\n|---|---|---|---|\n"
        text += "".join(rows)
    return text


def command_line() -> str:
    """Return docs/command-line.md."""
    command = [sys.executable, "-m", "typer", "spoter.cli.main", "utils", "docs", "--name", "spoter"]
    text = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    sections = dict(re.findall(r"^##+ `spoter ([^`]+)`\n\n(.+)$", text, re.MULTILINE))

    def link(match: re.Match[str]) -> str:
        """Return an entry of a list of commands with the whole first line, which Typer shortens."""
        group = re.findall(r"^## `spoter (\S+)`$", text[: match.start()], re.MULTILINE)[-1:]
        name = match[1] if match[1] in sections else f"{group[0]} {match[1]}"
        return f"* [`{match[1]}`](#spoter-{name.replace(' ', '-')}): {sections[name]}"

    listed = re.sub(r"^\* `([a-z][a-z-]*)`: .*$", link, text, flags=re.MULTILINE)
    return COMMAND_LINE + listed.partition("\n")[2]


def python_api() -> str:
    """Return docs/python-api.md."""
    from griffe import GriffeLoader, Parser
    from griffe2md import default_config, load_config, render_object_docs

    style = {**default_config, **(load_config() or {})}
    loader = GriffeLoader(search_paths=[ROOT], docstring_parser=Parser.numpy)
    loader.load("spoter")
    parts = []
    for documented in (*(getattr(spoter, name) for name in spoter.__all__), ClipOptions):
        name = f"{documented.__module__}.{documented.__name__}"  # where it is defined
        text = render_object_docs(loader.modules_collection[name], style, format_md=True)
        text = re.sub(r"\[([^\]]+)\]\(#[^)]+\)", r"\1", text)  # links to objects that the page does not have
        text = re.sub(r"\\\*\*(.+?)\*\*\\", r"**\1**", text)  # several parameters in one entry
        parts.append(re.sub(r"</?code>", "`", text))
    return PYTHON_API + "\n".join(parts)


def main() -> None:
    """Write all three pages."""
    for name, page in (("errors", errors), ("command-line", command_line), ("python-api", python_api)):
        (DOCS / f"{name}.md").write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
