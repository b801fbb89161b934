"""The command `spoter`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from spoter.cli import predict
from spoter.errors import InputError, SpoterError

# Libraries that take seconds to import (torch, pandas) are imported by the commands that need them.

app = typer.Typer(
    name="spoter",
    help="Name the sign in a clip of landmarks with SPOTER; train, judge, convert and inspect its models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Model = Annotated[Path, typer.Argument(metavar="MODEL", help="Model folder, such as models/dgs11.")]
Width = Annotated[float | None, typer.Option(help="Image width in pixels, where the points are in pixels.")]
Height = Annotated[float | None, typer.Option(help="Image height in pixels, where the points are in pixels.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

predict.add_to(app)


def main() -> None:
    """Run the command line; what went wrong is one line on stderr and exit code 2, or 1 where no user can mend it."""
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


@app.command()
def features(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="One clip: .json, .csv, .npy, .jsonl or a video.")],
    out: Annotated[Path, typer.Option(help=".npy file to write: (T, 2K) float32.")],
    layout: Annotated[str, typer.Option(help="29, 54, 71, spoter54, or the path of a layout's CSV.")] = "54",
    scheme: Annotated[str, typer.Option("--normalize", help="box, none or bohacek.")] = "box",
    width: Width = None,
    height: Height = None,
) -> None:
    """Write exactly what SPOTER is fed for FILE."""
    import numpy as np

    from spoter.sources.clip_files import read_clips
    from spoter.files import replacing
    from spoter.formats import Options
    from spoter.landmarks.layouts import load_layout
    from spoter.landmarks.normalize import check_scheme, normalize

    table = load_layout(layout)
    check_scheme(table, scheme)
    clips = read_clips([file], table, Options(width=width, height=height), _note)
    if len(clips) != 1:
        raise SpoterError(f"{file}: found {len(clips)} clips, expected one")
    (clip,) = clips
    array = normalize(table.select(clip), table, scheme)
    with replacing(out) as temporary, temporary.open("wb") as stream:
        np.save(stream, array)
    print(f"{out}: {array.shape} {array.dtype}")


@app.command()
def inspect(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A checkpoint, or a model folder.")],
    as_json: AsJson = False,
) -> None:
    """Tell what is in a checkpoint or model folder, without running code from it."""
    import math

    from spoter.model.checkpoint import read_checkpoint, sizes_of
    from spoter.model.folder import WEIGHTS, load_model_folder

    found: dict[str, object] = {}
    if path.is_dir():
        folder = load_model_folder(path)
        found = msgspec.structs.asdict(folder.config) | {"glosses": folder.glosses}
        path = path / WEIGHTS
    checkpoint = read_checkpoint(path)
    sizes = sizes_of(checkpoint.state, heads=1)
    found |= {
        "form": checkpoint.kind,
        "parameters": sum(math.prod(tensor.shape) for tensor in checkpoint.state.values()),
        "bytes": path.stat().st_size,
        "heads": found.get("heads", checkpoint.heads or "not told by weights"),
        "layouts that fit": f"those of {sizes.width // 2} landmarks",
    }
    found |= {name: value for name, value in vars(sizes).items() if name not in found} | (checkpoint.notes or {})
    if as_json:
        print(msgspec.json.encode(found).decode())
    else:
        for key, value in found.items():
            print(f"{key:20} {', '.join(value) if isinstance(value, tuple) else value}")


@app.command()
def convert(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CKPT", help="state_dict, training dict, module or safetensors.")
    ],
    out: Annotated[Path, typer.Option(help="Model folder to write.")],
    meaning: Annotated[
        Path | None, typer.Option(help='{"0": "GLOSS", …}. Default: meaning.json beside the checkpoint.')
    ] = None,
    config: Annotated[Path | None, typer.Option(help="The original project's config.json.")] = None,
    nhead: Annotated[int | None, typer.Option(min=1, help="Attention heads: weights do not tell. Upstream: 9.")] = None,
    layout: Annotated[str | None, typer.Option(help="29, 54, 71, spoter54 or a CSV. Default: what fits.")] = None,
    estimator: Annotated[str | None, typer.Option(help="mediapipe, openpose or wholepose.")] = None,
    scheme: Annotated[str | None, typer.Option("--normalize", help="box, none or bohacek. Default: box.")] = None,
    positions: Annotated[str | None, typer.Option(help="shared (the original) or per-frame.")] = None,
    name: Annotated[str, typer.Option(help="The model's name in answers.")] = "spoter",
    version: Annotated[str, typer.Option(help="The model's version in answers.")] = "1.0",
) -> None:
    """Make a model folder of a checkpoint.

    A checkpoint of the upstream project (matyasbohacek/spoter) wants --layout spoter54 --normalize bohacek.
    """
    from spoter.model.convert import Choices
    from spoter.model.convert import convert as write

    choices = Choices(nhead, layout, estimator, scheme, positions, name, version)
    written, disbelieved = write(checkpoint, out, meaning or checkpoint.with_name("meaning.json"), config, choices)
    for line in disbelieved:
        print(f"not believed of {config}: {line}", file=sys.stderr)
    print(
        f"{out}: {written.classes} glosses, layout {written.layout}, landmarks of {written.estimator}, "
        f"normalize {written.normalize}, {written.encoder_layers} + {written.decoder_layers} layers, "
        f"{written.heads} heads"
    )


@app.command()
def doctor(
    model: Annotated[Path, typer.Option(envvar="SPOTER_MODEL", help="Model folder to check.")] = Path("models/dgs11"),
    host: Annotated[str, typer.Option(envvar="SPOTER_HOST")] = "127.0.0.1",
    ports: Annotated[
        list[int] | None, typer.Option("--port", min=1, max=65535, help="A port the server will want.")
    ] = None,
    server: Annotated[
        str | None, typer.Option(metavar="URL", help="Check this running server instead: does it really answer?")
    ] = None,
    token: Annotated[str | None, typer.Option(envvar="SPOTER_TOKEN", help="With --server: its token.")] = None,
    management: Annotated[
        str | None, typer.Option(metavar="URL", help="With --server: http://127.0.0.1:8081, to look at the workers.")
    ] = None,
    keys: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With --server: TorchServe's key_file.json, in place of tokens.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="With --server: seconds to wait for each answer.")] = 10.0,
) -> None:
    """Check what serving needs, or a server that runs, and say what to do about each thing that fails."""
    from spoter.ops.doctor import PORTS, checks, server_checks, show

    if server is not None:
        results = server_checks(server, token, management, keys, timeout)
    else:
        results = checks(model, ports or [_port(name, port) for name, port in PORTS.items()], host)
    if not show(results):
        raise typer.Exit(1)


def _note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr)


def _port(variable: str, default: int) -> int:
    value = os.environ.get(variable, str(default))
    if not (value.isascii() and value.isdigit()):
        raise SpoterError(f"found {variable}={value}, expected the number of a port")
    return int(value)


def _register_others() -> None:
    from spoter.ops import archive_check
    from spoter.cli import export
    from spoter.torchserve import replace
    from spoter.cli import show
    from spoter.ops import tokens
    from spoter.cli import batch as bulk
    from spoter.training.commands import add_to
    from spoter.cli import extract

    extract.add_to(app)
    show.add_to(app)
    export.add_to(app)
    bulk.add_to(app)
    tokens.add_to(app)
    replace.add_to(app)
    archive_check.add_to(app)
    add_to(app)


_register_others()

if __name__ == "__main__":
    main()
