"""Run `spoter extract` in this process."""

from __future__ import annotations

from typer.testing import CliRunner

from spoter.cli.main import app
from spoter.errors import SpoterError


def run(*arguments, code: int = 0) -> str:
    """Run `spoter extract` and return its output on stdout and stderr."""
    done = CliRunner().invoke(app, ["extract", *map(str, arguments)])
    # `spoter.cli.main.main` prints these errors, which typer's runner does not call.
    if isinstance(done.exception, SpoterError):
        raise done.exception
    assert done.exit_code == code, done.output
    return done.output
