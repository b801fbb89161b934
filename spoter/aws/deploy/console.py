"""How a deployment tells what it does: on stderr, so that stdout holds nothing but its results."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn, TransferSpeedColumn


class Reporter:
    """Lines and bars on a terminal; lines alone elsewhere.

    Parameters
    ----------
    console : rich.console.Console
    """

    def __init__(self, console: Console):
        self._console = console

    def step(self, text: str) -> None:
        """Say what is begun."""
        self._say(f"[bold]>[/bold] {escape(text)}")

    def note(self, text: str) -> None:
        """Say what came of it."""
        self._say(f"  {escape(text)}")

    def warn(self, text: str) -> None:
        """Say what the user should know."""
        self._say(f"[yellow]warning:[/yellow] {escape(text)}")

    def failure(self, text: str) -> None:
        """Say what went wrong; the text may have several lines."""
        self._say(f"[red]failed:[/red] {escape(text)}")

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True)

    @contextmanager
    def upload(self, text: str, size: int) -> Iterator[Callable[[int], None]]:
        """Hand out what shows how many of `size` bytes are through."""
        columns = TextColumn("  {task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
        with Progress(*columns, console=self._console, transient=True, disable=not self._console.is_terminal) as bars:
            task = bars.add_task(text, total=size)
            yield lambda done: bars.update(task, completed=done)

    @contextmanager
    def waiting(self, text: str) -> Iterator[Callable[[str], None]]:
        """Hand out what shows a status while it lasts; where there is no terminal, a line for each that is new."""
        if not self._console.is_terminal:
            seen: list[str] = []

            def line(status: str) -> None:
                if seen[-1:] != [status]:
                    seen.append(status)
                    self.note(f"{text}: {status}")

            yield line
            return
        columns = TextColumn("  {task.description}"), BarColumn(), TimeElapsedColumn()
        with Progress(*columns, console=self._console, transient=True) as bars:
            # SageMaker tells how far it is in words only: a bar that moves and has no length
            task = bars.add_task(text, total=None)
            yield lambda status: bars.update(task, description=f"{escape(text)}: {escape(status)}")
