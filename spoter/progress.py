"""Progress of long work on stderr: a bar in a terminal, else a line every ten seconds."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TextIO

from tqdm import tqdm

_SECONDS = 10.0  # between two lines
_LINE = "{desc}: {n_fmt}/{total_fmt} {unit}s, {elapsed}<{remaining}{postfix}"


def progress_bar(items: Iterable | None = None, *, shown: bool, **options: object) -> tqdm:
    """Return tqdm's bar.

    Where stderr is no terminal, each state of the bar that would be drawn is a line: one every ten seconds, and one for
    each `set_postfix`. Work that takes less than ten seconds then prints nothing.

    Parameters
    ----------
    items : iterable, optional
    shown : bool
        Whether to show anything.
    **options
        Further options of tqdm.
    """
    if shown and not sys.stderr.isatty():
        options |= {"file": _Lines(sys.stderr), "mininterval": _SECONDS, "delay": _SECONDS, "bar_format": _LINE}
    return tqdm(items, disable=not shown, **options)


class _Lines:
    """A stream that writes each state of a bar as a separate line."""

    def __init__(self, stream: TextIO):
        self._stream, self.encoding = stream, getattr(stream, "encoding", None)

    def write(self, text: str) -> None:
        if text := text.strip():
            self._stream.write(f"{text}\n")

    def flush(self) -> None:
        self._stream.flush()
