"""The command `spoter predict`, answered by a model folder or a server, with the same answers from both."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spoter.errors import InputError, SpoterError
from spoter.serving.recognizer import load_single_threaded

if TYPE_CHECKING:
    from spoter.messages import RawRequest, Response

    Ask = Callable[[RawRequest], Response]

# torch and what reads clips are imported by the command: `spoter --help` shall not wait for them.


def predict(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH",
            help="A model folder, unless --server is given; then landmarks: .json, .csv, .npy or .jsonl, "
            "a folder of OpenPose's or MMPose's, or a video.",
            show_default=False,
        ),
    ],
    server: Annotated[
        str | None, typer.Option(metavar="URL", help="Ask this server instead: http://127.0.0.1:8080, or a whole URL.")
    ] = None,
    token: Annotated[
        str | None, typer.Option(envvar="SPOTER_TOKEN", help="The server's token, where it wants one.")
    ] = None,
    top_k: Annotated[
        int | None, typer.Option(min=1, help="Glosses to print; the server's default unless said.")
    ] = None,
    width: Annotated[float | None, typer.Option(help="Image width in pixels, where the points are in pixels.")] = None,
    height: Annotated[
        float | None, typer.Option(help="Image height in pixels, where the points are in pixels.")
    ] = None,
    accept: Annotated[str | None, typer.Option(help="Content type of the answer, as a client's Accept header.")] = None,
    runtime: Annotated[
        str | None, typer.Option(envvar="SPOTER_RUNTIME", help="torch, onnx or onnx-int8; the model's own unless said.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Answer very many clips into this file of JSON Lines: PATH may hold folders and .hdf5, too."),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="With --out: worker processes; one a core unless said.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="With --out: clips that go through the model together.")] = 64,
    ray: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="With --out: have Ray answer, at `local`, `auto` or an address."),
    ] = None,
) -> None:
    """Name the sign in each file: a line each, the very JSON that the server answers.

    spoter predict MODEL FILE…, or spoter predict --server URL FILE…

    spoter predict MODEL PATH… --out ANSWERS.jsonl

    A video or folder that no clip can be made of gets its error for an answer, and keeps no other from being named.
    With --out a run that was stopped goes on with the same command (docs/bulk.md).
    """
    model = None if server else paths.pop(0)
    if not paths:
        raise SpoterError(f"found no FILE, expected one after {model}; or FILE… and --server URL")
    sizes = {"top_k": top_k, "width": width, "height": height}
    if out is not None:
        if model is None or accept is not None:
            raise SpoterError("found --out with --server or --accept, expected a MODEL, and JSON Lines to be written")
        from spoter.cli import batch as command

        return command.predict(model, paths, out, sizes, runtime, jobs, batch, ray)
    if jobs or ray:
        raise SpoterError("found --jobs or --ray without --out, expected the file to write answers to")
    attributes = ",".join(f"{key}={value}" for key, value in sizes.items() if value is not None)
    with of_server(server, token) if server else in_process(model, runtime) as ask:
        answered = [_answer(file, ask, accept, attributes) for file in paths]
    if not all(answered):
        raise typer.Exit(2)


def _answer(file: Path, ask: Ask, accept: str | None, attributes: str) -> bool:
    """Print the answer to a file, and say whether it is one."""
    from spoter.messages import RawRequest, error_response
    from spoter.sources.clip_files import read_body

    try:
        body, content_type = read_body(file, lambda text: print(f"note: {text}", file=sys.stderr))
    except InputError as error:
        response = error_response(error)
    else:
        response = ask(RawRequest(body, content_type, accept, attributes))
    sys.stdout.write(response.body.decode().rstrip("\n") + "\n")
    if response.status != 200:
        print(f"error: {file}: status {response.status}", file=sys.stderr)
    return response.status == 200


@contextmanager
def in_process(model: Path, runtime: str | None = None) -> Iterator[Ask]:
    """Answer with a model folder.

    Raises
    ------
    SpoterError
        For a folder that cannot be used, and for a server's address in its place.
    """
    if str(model).startswith(("http:", "https:")):  # a Path has made one slash of two
        raise SpoterError(f"found {model} for a model folder: a server's address goes after --server")

    from spoter.serving.service import respond

    recognizer = load_single_threaded(model, runtime)
    yield lambda incoming: respond(recognizer, [incoming])[0][0]


@contextmanager
def of_server(url: str, token: str | None) -> Iterator[Ask]:
    """Have a server answer.

    Raises
    ------
    SpoterError
        For what is no address; a `spoter.client.ServerError` where the server does not answer, or not as ours do.
    """
    from spoter.client import Client

    with Client(url, token=token) as client:
        yield client.send
