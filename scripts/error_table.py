"""Write the tables of docs/errors.md from `spoter.error_codes`: `python -m scripts.error_table`."""

from __future__ import annotations

from pathlib import Path

from spoter.error_codes import ErrorCode

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "errors.md"
HEAD = "| Code | Status | What was wrong | What to do |\n|---|---|---|---|\n"


def table() -> str:
    """Return the Markdown table of all codes."""
    rows = [f"| `{code.value}` | {code.status} | {code.meaning} | {code.remedy} |\n" for code in ErrorCode]
    return HEAD + "".join(rows)


def document(text: str) -> str:
    """Return the document with its table made again; the table is the last thing in it."""
    return text[: text.index(HEAD)] + table()


if __name__ == "__main__":
    DOCUMENT.write_text(document(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
