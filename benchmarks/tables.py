"""Markdown tables: what every benchmark prints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def markdown_table(
    columns: Sequence[str], rows: Iterable[Iterable[object]], title: str | None = None, *, left: int = 1
) -> str:
    """Return a Markdown table.

    Parameters
    ----------
    columns : sequence of str
    rows : iterable of iterable
        Cells of each row.
    title : str, optional
        Heading above the table.
    left : int
        Number of columns that are aligned to the left, as text is; the others are aligned to the right.
    """
    lines = [f"### {title}\n"] if title else []
    lines += [f"| {' | '.join(columns)} |", f"|{'---|' * left}{'---:|' * (len(columns) - left)}"]
    lines += [f"| {' | '.join(map(str, row))} |" for row in rows]
    return "\n".join(lines) + "\n"
