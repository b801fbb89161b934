"""`spoter extract` in this process."""

from __future__ import annotations

from typer.testing import CliRunner

from spoter.cli.main import app
from spoter.errors import SpoterError


def run(*words, code: int = 0) -> str:
    """Run `spoter extract`, and return what it said on stdout and stderr."""
    done = CliRunner().invoke(app, ["extract", *map(str, words)])
    # What main makes of these is not typer's.
    if isinstance(done.exception, SpoterError):
        raise done.exception
    assert done.exit_code == code, done.output
    return done.output
