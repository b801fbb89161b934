"""Report the steps of a deployment on stderr, and undo them after a failure."""

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
    """Prints lines, and progress bars if stderr is a terminal."""

    def __init__(self, console: Console):
        self._console = console

    def _print(self, prefix: str, text: str) -> None:
        self._console.print(f"{prefix} {escape(text)}", highlight=False, soft_wrap=True)

    # Print a text of one or more lines: the start of a step, a result, a warning or a failure.
    step = partialmethod(_print, "[bold]>[/bold]")
    note = partialmethod(_print, " ")
    warn = partialmethod(_print, "[yellow]warning:[/yellow]")
    failure = partialmethod(_print, "[red]failed:[/red]")

    @contextmanager
    def open(self, path: Path) -> Iterator[BinaryIO]:
        """Open a file for an upload; a progress bar shows the bytes read."""
        columns = TextColumn("  {task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
        bars = Progress(*columns, console=self._console, transient=True, disable=not self._console.is_terminal)
        with bars, bars.open(path, "rb", description=path.name) as file:
            yield file

    @contextmanager
    def waiting(self, text: str) -> Iterator[Callable[[str], None]]:
        """Yield a function that shows a new status; a terminal also shows the elapsed time."""
        if not self._console.is_terminal:
            yield lambda status: self.note(f"{text}: {status}")
            return
        columns = TextColumn("  {task.description}"), BarColumn(), TimeElapsedColumn()
        with Progress(*columns, console=self._console, transient=True) as bars:
            # SageMaker reports a status but no percentage: the bar has no length
            task = bars.add_task(text, total=None)
            yield lambda status: bars.update(task, description=f"{escape(text)}: {escape(status)}")


class DeploymentFailed(DeployError):
    """A deployment, an endpoint or a batch job failed after its start."""

    exit_code = 1


class Undo:
    """Undo actions for all that this run created or changed, newest last."""

    def __init__(self, reporter: Reporter):
        self._reporter = reporter
        self._actions: list[tuple[str, str, Callable[[], object]]] = []

    def __bool__(self) -> bool:
        return bool(self._actions)

    def add(self, name: str, action: Callable[[], object], verb: str = "removed") -> None:
        """Register the action that undoes a change of the resource `name`; `verb` reports it afterwards."""
        self._actions.append((name, verb, action))

    def run(self) -> list[str]:
        """Undo everything, newest first, and report each; return the names of what could not be undone."""
        failed = []
        while self._actions:
            name, verb, action = self._actions.pop()
            try:
                action()
            except DeployError as error:
                if isinstance(error, CallError) and error.absent:
                    self._reporter.note(f"{name} does not exist any more")
                    continue
                failed.append(name)
                self._reporter.warn(f"could not undo {name}: {error}")
            else:
                self._reporter.note(f"{verb} {name}")
        return failed
