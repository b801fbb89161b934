"""Progress of long work on stderr: a bar in a terminal, otherwise one line every ten seconds."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, TextIO, TypeVar, overload

from tqdm import tqdm

_T = TypeVar("_T")
_LINE_INTERVAL_S = 10.0
_LINE = "{desc}: {n_fmt}/{total_fmt} {unit}s, {elapsed}<{remaining}{postfix}"


@overload
def progress_bar(items: None = None, *, shown: bool, **options: Any) -> tqdm[Any]: ...


@overload
def progress_bar(items: Iterable[_T], *, shown: bool, **options: Any) -> tqdm[_T]: ...


def progress_bar(items: Iterable[_T] | None = None, *, shown: bool, **options: Any) -> tqdm[_T]:
    """Return a progress bar of tqdm over `items`, with `options` of tqdm.

    Without a terminal, the bar prints one line every ten seconds and one for each `set_postfix`. Work of less than ten
    seconds then prints nothing.
    """
    if shown and not sys.stderr.isatty():
        options |= {
            "file": _LineStream(sys.stderr),
            "mininterval": _LINE_INTERVAL_S,
            "delay": _LINE_INTERVAL_S,
            "bar_format": _LINE,
        }
    options |= {"iterable": items, "disable": not shown}
    return tqdm(**options)


class _LineStream:
    """Stream that writes each state of a bar as a separate line."""

    def __init__(self, stream: TextIO):
        self._stream, self.encoding = stream, getattr(stream, "encoding", None)

    def write(self, text: str) -> None:
        if text := text.strip():
            self._stream.write(f"{text}\n")

    def flush(self) -> None:
        self._stream.flush()
