"""Shared parts of the commands: errors, termination by signals, and common options."""

import functools
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.load.processes import end_on_signals
from spoter.cli import STYLE
from spoter.errors import SpoterError
from spoter.torchserve.process import StartError

ModelOption = Annotated[Path, typer.Option(help="Model folder.")]
RuntimeOption = Annotated[str | None, typer.Option(help="Runtime [default: the one in the model's config].")]


def application(main: Callable[..., None]) -> typer.Typer:
    """Return a command that reports expected errors in one line: exit status 2 for user errors, 1 for others."""

    @functools.wraps(main)
    def command(*args: Any, **options: Any) -> None:
        try:
            main(*args, **options)
        except (SpoterError, StartError, OSError, subprocess.CalledProcessError) as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(getattr(error, "exit_code", 1)) from None

    app = typer.Typer(**STYLE)
    app.command()(command)
    return app


def run_command(main: Callable[..., None]) -> None:
    """Run `main` as a command; SIGTERM and SIGHUP end it and the servers that it started."""
    end_on_signals()
    application(main)()


def split_names(text: str, known: Iterable[str], option: str) -> list[str]:
    """Return the names of a comma-separated option, in the order of `known`; raise `SpoterError` for any other name."""
    names, known = [name.strip() for name in text.split(",")], list(known)
    if unknown := [name for name in names if name not in known]:
        raise SpoterError(f"found {option} {', '.join(unknown)}, expected some of {','.join(known)}")
    return [name for name in known if name in names]


def split_numbers(text: str, option: str, valid: range) -> list[int]:
    """Return the numbers of a comma-separated option; raise `SpoterError` unless all are in `valid`."""
    parts = [part.strip() for part in text.split(",")]
    if any(not part.isdecimal() or int(part) not in valid for part in parts):
        bounds = f"{valid[0]} to {valid[-1]}"
        raise SpoterError(f"found {option} {text}, expected comma-separated numbers from {bounds}, such as 1,8")
    return list(map(int, parts))
