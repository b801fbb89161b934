"""Markdown tables, the output of every benchmark."""

from collections.abc import Iterable, Sequence


def markdown_table(
    columns: Sequence[str], rows: Iterable[Iterable[object]], title: str | None = None, *, left: int = 1
) -> str:
    """Return a Markdown table under a heading; the first `left` columns are left-aligned, the others right-aligned."""
    lines = [f"### {title}\n"] if title else []
    lines += [f"| {' | '.join(columns)} |", f"|{'---|' * left}{'---:|' * (len(columns) - left)}"]
    lines += [f"| {' | '.join(map(str, row))} |" for row in rows]
    return "\n".join(lines) + "\n"
