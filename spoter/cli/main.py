"""The command `spoter`: runs one of its commands and prints errors."""

import sys
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

from spoter.cli import EXAMPLES, STYLE
from spoter.errors import InputError, SpoterError

# In the order of `spoter --help`: the function of each command, or the Typer of a group, in spoter.cli; then examples.
_COMMANDS = {
    "serve": ("serve.serve", "spoter serve", "spoter serve --model models/mine --port 9080 --workers 4"),
    "demo": ("demo.demo", "spoter demo", "spoter demo --demo-port 9088"),
    "doctor": ("doctor.doctor", "spoter doctor", "spoter doctor --server http://127.0.0.1:8080"),
    "predict": (
        "predict.predict",
        "spoter predict models/dgs11 samples/hallo.json",
        "spoter predict --server http://127.0.0.1:8080 samples/hallo.json",
        "spoter predict models/dgs11 clips/ --out answers.jsonl",
    ),
    "show": ("show.show", "spoter show samples/hallo.json", "spoter show a.mp4 --model models/dgs11 --out a.gif"),
    "extract": ("extract.extract", "spoter extract videos/ --out landmarks/ --jobs 2"),
    "features": ("features.features", "spoter features samples/hallo.json --out features.npy"),
    "train": (
        "train.train",
        "spoter train clips/ --out models/mine",
        "torchrun --nproc-per-node 4 -m spoter train clips/ --out models/mine --device cuda",
    ),
    "evaluate": ("evaluate.evaluate", "spoter evaluate models/mine clips/ --split test --report report.html"),
    "calibrate": ("calibrate.calibrate", "spoter calibrate models/mine clips/ --val-groups 'anna*,ben'"),
    "enroll": ("enroll.enroll", "spoter enroll models/mine DANKE danke-1.json danke-2.mp4"),
    "enrolled": ("enroll.enrolled", "spoter enrolled models/mine"),
    "unenroll": ("enroll.unenroll", "spoter unenroll models/mine DANKE"),
    "inspect": ("inspect.inspect", "spoter inspect models/dgs11", "spoter inspect spoter.pth --json"),
    "convert": (
        "convert.convert",
        "spoter convert spoter.pth --out models/mine --nhead 9",
        "spoter convert upstream.pth --out models/mine --nhead 9 --layout spoter54 --normalize bohacek",
    ),
    "export": ("export.export", "spoter export models/mine", "spoter export models/mine --int8 --data clips/"),
    "pack": ("pack.pack", "spoter pack --model models/mine --runtime onnx"),
    "replace": ("replace.replace", "spoter replace --model models/mine-2"),
    "check-archive": ("check_archive.check_archive", "spoter check-archive spoter.mar"),
    "token": ("token.token", "spoter token --keys key_file.json", "spoter token --out token.txt --every 50m"),
    "batch-pack": ("batch.batch_pack", "spoter batch-pack models/dgs11 clips/ --out packed/"),
    "batch-join": ("batch.batch_join", "spoter batch-join packed/ answers/ --out answers.jsonl"),
    "deploy": ("deploy.app",),
    "data": ("data.app",),
}


class _Commands(TyperGroup):
    """A group that imports only the module of the requested command; all modules take half a second."""

    def __init__(self, **settings: Any):
        super().__init__(**settings)
        self.commands: dict[str, Any] = dict.fromkeys(_COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in _COMMANDS:
            return None
        place, *examples = _COMMANDS[cmd_name]
        module, attribute = place.split(".")
        command = getattr(import_module(f"spoter.cli.{module}"), attribute)
        if not isinstance(command, typer.Typer):
            function, command = command, typer.Typer(**STYLE)
            command.command(cmd_name, epilog=EXAMPLES.format("\n".join(examples)))(function)
        built = typer.main.get_command(command)
        built.name = cmd_name  # empty for a Typer without a name
        return built


app = typer.Typer(
    cls=_Commands,
    name="spoter",
    help="Recognize isolated signs from landmarks with SPOTER: train, evaluate, convert and serve models.",
    epilog="`spoter COMMAND --help` describes a command and its options.",
    no_args_is_help=True,
    **STYLE,
)


@app.callback()
def _group() -> None:
    pass  # Typer uses `cls` only if there is a callback


def main() -> None:
    """Run the command line.

    An error is one line on stderr. The exit status is 2 for what the user can correct, 1 for a failed command and 130
    after Ctrl-C.
    """
    try:
        app()
    except InputError as error:
        _fail(f"{error.code}: {error}")
    except SpoterError as error:
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except OSError as error:  # such as a folder without write permission, or a full disk
        _fail(f"{error.filename2 or error.filename}: {error.strerror}" if error.filename else str(error))


def _fail(text: str, code: int = 2) -> None:
    print(f"error: {text}", file=sys.stderr)
    raise SystemExit(code)
