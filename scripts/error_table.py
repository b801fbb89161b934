"""Write the tables of docs/errors.md from `spoter.error_codes`: `python -m scripts.error_table`."""

from pathlib import Path

from spoter.error_codes import ErrorCode, Source

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "errors.md"
HEAD = "| Code | Status | What was wrong | What to do |\n|---|---|---|---|\n"


def table(source: Source) -> str:
    """Return a heading and the Markdown table of the codes that `source` answers with."""
    codes = [code for code in ErrorCode if code.source is source]
    rows = [f"| `{code.value}` | {code.status} | {code.meaning} | {code.remedy} |\n" for code in codes]
    return f"\n## Codes of {source.value}\n\n{HEAD}{''.join(rows)}"


def document(text: str) -> str:
    """Return the document with its tables generated again; they are the last thing in it."""
    return text.partition("\n## ")[0] + "".join(map(table, Source))


if __name__ == "__main__":
    DOCUMENT.write_text(document(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
