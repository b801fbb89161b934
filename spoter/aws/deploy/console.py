"""Progress of a deployment, on stderr, so that stdout holds nothing but its results."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn, TransferSpeedColumn


class Reporter:
    """Lines and bars on a terminal; lines alone elsewhere."""

    def __init__(self, console: Console):
        self._console = console

    def step(self, text: str) -> None:
        """Print what begins."""
        self._print(f"[bold]>[/bold] {escape(text)}")

    def note(self, text: str) -> None:
        """Print a result."""
        self._print(f"  {escape(text)}")

    def warn(self, text: str) -> None:
        """Print what the user should know."""
        self._print(f"[yellow]warning:[/yellow] {escape(text)}")

    def failure(self, text: str) -> None:
        """Print what went wrong; the text may have several lines."""
        self._print(f"[red]failed:[/red] {escape(text)}")

    def _print(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True)

    @contextmanager
    def open(self, path: Path) -> Iterator[BinaryIO]:
        """Open a file for an upload; a bar shows how much of it has been read."""
        columns = TextColumn("  {task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
        bars = Progress(*columns, console=self._console, transient=True, disable=not self._console.is_terminal)
        with bars, bars.open(path, "rb", description=path.name) as file:
            yield file

    @contextmanager
    def waiting(self, text: str) -> Iterator[Callable[[str], None]]:
        """Yield a function that shows a new status; a terminal shows the elapsed time too."""
        if not self._console.is_terminal:
            yield lambda status: self.note(f"{text}: {status}")
            return
        columns = TextColumn("  {task.description}"), BarColumn(), TimeElapsedColumn()
        with Progress(*columns, console=self._console, transient=True) as bars:
            # SageMaker reports its progress in words only: a bar that moves and has no length
            task = bars.add_task(text, total=None)
            yield lambda status: bars.update(task, description=f"{escape(text)}: {escape(status)}")
