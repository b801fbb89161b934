"""Report the steps of a deployment on stderr, and undo them when it fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partialmethod
from pathlib import Path
from typing import BinaryIO

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn, TransferSpeedColumn

from spoter.aws.deploy.account import CallError
from spoter.aws.deploy.settings import DeployError


class Reporter:
    """Lines and bars on a terminal; lines alone elsewhere."""

    def __init__(self, console: Console):
        self._console = console

    def _print(self, prefix: str, text: str) -> None:
        self._console.print(f"{prefix} {escape(text)}", highlight=False, soft_wrap=True)

    # Each prints a text, which may have several lines: the step that begins, a result, a warning or a failure.
    step = partialmethod(_print, "[bold]>[/bold]")
    note = partialmethod(_print, " ")
    warn = partialmethod(_print, "[yellow]warning:[/yellow]")
    failure = partialmethod(_print, "[red]failed:[/red]")

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


class DeploymentFailed(DeployError):
    """A deployment, an endpoint or a batch job was begun and has failed."""

    exit_code = 1


class Undo:
    """What this run has created or changed, newest last."""

    def __init__(self, reporter: Reporter):
        self._reporter = reporter
        self._actions: list[tuple[str, str, Callable[[], object]]] = []

    def __bool__(self) -> bool:
        return bool(self._actions)

    def add(self, what: str, action: Callable[[], object], verb: str = "removed") -> None:
        """Register how to undo something that was just created; `verb` reports that afterwards."""
        self._actions.append((what, verb, action))

    def run(self) -> list[str]:
        """Undo everything, newest first, and report each; return what could not be undone."""
        left = []
        while self._actions:
            what, verb, action = self._actions.pop()
            try:
                action()
            except DeployError as error:
                if isinstance(error, CallError) and error.absent:
                    self._reporter.note(f"{what} is gone already")
                    continue
                left.append(what)
                self._reporter.warn(f"{what} is left: {error}")
            else:
                self._reporter.note(f"{verb} {what}")
        return left
