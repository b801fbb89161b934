"""Undo what a run has created when it fails."""

from __future__ import annotations

from collections.abc import Callable

from spoter.aws.deploy.account import CallError
from spoter.aws.deploy.console import Reporter
from spoter.aws.deploy.settings import DeployError


class DeploymentFailed(DeployError):
    """A deployment was begun and has failed; the reason was shown before, and the text says what is left of it."""

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
