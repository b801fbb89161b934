"""The command `spoter predict`, answered by a model folder or a server, with the same answers from both."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spoter.cli.batch import report
from spoter.errors import InputError, SpoterError

if TYPE_CHECKING:
    from spoter.messages import RawRequest, Response

    Respond = Callable[[RawRequest], Response]

# The command imports torch and the modules that read clips, so that `spoter --help` does not wait for them.


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
        str | None, typer.Option(envvar="SPOTER_TOKEN", help="The server's token, if it requires one.")
    ] = None,
    top_k: Annotated[
        int | None, typer.Option(min=1, help="Glosses to print; by default as many as the server does.")
    ] = None,
    width: Annotated[float | None, typer.Option(help="Image width in pixels, where the points are in pixels.")] = None,
    height: Annotated[
        float | None, typer.Option(help="Image height in pixels, where the points are in pixels.")
    ] = None,
    accept: Annotated[str | None, typer.Option(help="Content type of the answer, as a client's Accept header.")] = None,
    runtime: Annotated[
        str | None, typer.Option(envvar="SPOTER_RUNTIME", help="torch, onnx or onnx-int8; by default the model's.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write the answers to this file of JSON Lines, for large batches: PATH may be a folder or .hdf5, too."
        ),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="With --out: worker processes; by default one a core.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="With --out: clips in a forward pass.")] = 64,
    ray: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="With --out: let Ray answer, at `local`, `auto` or an address."),
    ] = None,
) -> None:
    """Recognize the sign in each file, and print the JSON that the server answers, a line each.

    spoter predict MODEL FILE…, or spoter predict --server URL FILE…

    spoter predict MODEL PATH… --out ANSWERS.jsonl

    The answer to an unreadable video or folder is its error; the other files are answered all the same. With --out, the
    same command resumes a stopped run (docs/bulk.md).
    """
    model = None if server else paths.pop(0)
    if not paths:
        raise SpoterError(f"found no FILE, expected one after {model}; or FILE… and --server URL")
    options = {"top_k": top_k, "width": width, "height": height}
    if out is not None:
        if model is None or accept is not None:
            raise SpoterError("found --out with --server or --accept, expected a MODEL, and JSON Lines to be written")
        return _predict_to_file(model, paths, out, options, runtime, jobs, batch, ray)
    if jobs or ray:
        raise SpoterError("found --jobs or --ray without --out, expected the file to write answers to")
    attributes = ",".join(f"{key}={value}" for key, value in options.items() if value is not None)
    with ExitStack() as stack:
        if model:
            respond = _load_model(model, runtime)
        else:
            from spoter.client import Client

            respond = stack.enter_context(Client(server or "", token=token)).send
        answered = [_answer(file, respond, accept, attributes) for file in paths]
    if not all(answered):
        raise typer.Exit(2)


def _answer(file: Path, respond: Respond, accept: str | None, attributes: str) -> bool:
    """Print the answer to a file; return False if it is an error."""
    from spoter.messages import RawRequest, error_response
    from spoter.sources.clip_files import read_body

    try:
        body, content_type = read_body(file, lambda text: print(f"note: {text}", file=sys.stderr))
    except InputError as error:
        response = error_response(error)
    else:
        response = respond(RawRequest(body, content_type, accept, attributes))
    sys.stdout.write(response.body.decode().rstrip("\n") + "\n")
    if response.status != 200:
        print(f"error: {file}: status {response.status}", file=sys.stderr)
    return response.status == 200


def _load_model(model: Path, runtime: str | None) -> Respond:
    if str(model).startswith(("http:", "https:")):  # a Path has made one slash of two
        raise SpoterError(f"found {model} for a model folder: a server's address goes after --server")

    from spoter.serving.recognizer import load_single_threaded
    from spoter.serving.service import respond

    recognizer = load_single_threaded(model, runtime)
    return lambda request: respond(recognizer, [request])[0][0]


def _predict_to_file(
    model: Path,
    paths: list[Path],
    out: Path,
    options: dict[str, float | None],
    runtime: str | None,
    jobs: int | None,
    batch: int,
    ray: str | None,
) -> None:
    from functools import partial

    from spoter.batch.output import predict_to_file
    from spoter.batch.predictor import ShardPredictor
    from spoter.batch.process_pool import count_cores, run_in_processes
    from spoter.batch.ray_pool import run_in_ray
    from spoter.batch.run import plan_run

    plan = plan_run(out, model, paths, options | {"runtime": runtime})
    predictor, jobs = ShardPredictor(model.resolve(), runtime, options, batch), jobs or count_cores()
    if ray is None:
        counts = predict_to_file(plan, partial(run_in_processes, predictor, jobs=jobs))
    else:
        counts = predict_to_file(plan, partial(run_in_ray, predictor, jobs=jobs, address=ray))
    report(out, counts)
