"""The command `spoter`: finds the module of the command that is asked for, and prints its errors."""

import sys
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

from spoter.cli import STYLE
from spoter.errors import InputError, SpoterError

# The function of each command, or the Typer of a group, in spoter.cli. In the order of `spoter --help`.
_COMMANDS = {
    "serve": "serve.serve",
    "demo": "demo.demo",
    "doctor": "doctor.doctor",
    "predict": "predict.predict",
    "show": "show.show",
    "extract": "extract.extract",
    "features": "features.features",
    "train": "train.train",
    "evaluate": "evaluate.evaluate",
    "calibrate": "calibrate.calibrate",
    "enroll": "enroll.enroll",
    "enrolled": "enroll.enrolled",
    "unenroll": "enroll.unenroll",
    "inspect": "inspect.inspect",
    "convert": "convert.convert",
    "export": "export.export",
    "pack": "pack.pack",
    "replace": "replace.replace",
    "check-archive": "check_archive.check_archive",
    "token": "token.token",
    "batch-pack": "batch.batch_pack",
    "batch-join": "batch.batch_join",
    "deploy": "deploy.app",
    "data": "data.app",
}


class _Commands(TyperGroup):
    """Imports only the module of the command that is asked for: it takes half a second to import all and to read."""

    def __init__(self, **settings: Any):
        super().__init__(**settings)
        self.commands: dict[str, Any] = dict.fromkeys(_COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in _COMMANDS:
            return None
        module, attribute = _COMMANDS[cmd_name].split(".")
        command = getattr(import_module(f"spoter.cli.{module}"), attribute)
        if not isinstance(command, typer.Typer):
            function, command = command, typer.Typer(**STYLE)
            command.command(cmd_name)(function)
        built = typer.main.get_command(command)
        built.name = cmd_name  # that of a Typer whose name is not set is empty
        return built


app = typer.Typer(
    cls=_Commands,
    name="spoter",
    help="Name the sign in a clip of landmarks with SPOTER; train, evaluate, convert and serve its models.",
    no_args_is_help=True,
    **STYLE,
)


@app.callback()
def _group() -> None:
    pass  # makes Typer use `cls`


def main() -> None:
    """Run the command line.

    An error is one line on stderr. The exit status is 2 where the user can put it right, and 1 where a command failed.
    """
    try:
        app()
    except InputError as error:
        _fail(f"{error.code}: {error}")
    except SpoterError as error:
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except OSError as error:  # a folder that cannot be written, a disk that is full
        _fail(f"{error.filename2 or error.filename}: {error.strerror}" if error.filename else str(error))


def _fail(text: str, code: int = 2) -> None:
    print(f"error: {text}", file=sys.stderr)
    raise SystemExit(code)
