"""What a run has made, so that it can be taken away again when the run fails."""

from __future__ import annotations

from collections.abc import Callable

from spoter.aws.deploy.account import CallError
from spoter.aws.deploy.console import Reporter
from spoter.aws.deploy.settings import DeployError


class Failed(DeployError):
    """A deployment was begun and has failed; why is said already, this says what is left of it."""

    status = 1


class Undo:
    """Things made in this run, newest last."""

    def __init__(self, reporter: Reporter):
        self._reporter = reporter
        self._made: list[tuple[str, str, Callable[[], object]]] = []

    def __bool__(self) -> bool:
        return bool(self._made)

    def add(self, what: str, remove: Callable[[], object], verb: str = "removed") -> None:
        """Note a thing that was just made and how it is taken away; `verb` says so afterwards."""
        self._made.append((what, verb, remove))

    def run(self) -> list[str]:
        """Take everything away, newest first, each told; return what could not be."""
        left = []
        while self._made:
            what, verb, remove = self._made.pop()
            try:
                remove()
            except DeployError as error:
                if isinstance(error, CallError) and error.absent:
                    self._reporter.note(f"{what} is gone already")
                    continue
                left.append(what)
                self._reporter.warn(f"{what} is left: {error}")
            else:
                self._reporter.note(f"{verb} {what}")
        return left
