"""The command `spoter`: registers the commands, a module each, and prints their errors."""

import sys

import typer

from spoter.cli import (
    batch,
    calibrate,
    check_archive,
    convert,
    data,
    demo,
    deploy,
    doctor,
    enroll,
    evaluate,
    export,
    extract,
    features,
    inspect,
    pack,
    predict,
    replace,
    serve,
    show,
    token,
    train,
)
from spoter.errors import InputError, SpoterError

# Libraries that take seconds to import (torch, pandas, boto3) are imported inside the commands that need them.

app = typer.Typer(
    name="spoter",
    help="Name the sign in a clip of landmarks with SPOTER; train, evaluate, convert and serve its models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for _command in (
    serve.serve,
    demo.demo,
    doctor.doctor,
    predict.predict,
    show.show,
    extract.extract,
    features.features,
    train.train,
    evaluate.evaluate,
    calibrate.calibrate,
    enroll.enroll,
    enroll.enrolled,
    enroll.unenroll,
    inspect.inspect,
    convert.convert,
    export.export,
    pack.pack,
    replace.replace,
    check_archive.check_archive,
    token.token,
    batch.batch_pack,
    batch.batch_join,
):
    app.command()(_command)
app.add_typer(deploy.app, name="deploy")
app.add_typer(data.data_app)


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
