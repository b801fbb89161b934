"""The command `spoter predict`: answers of a model folder or of a server, which are the same."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spoter.cli import Runtime
from spoter.cli.batch import report
from spoter.errors import InputError, SpoterError

if TYPE_CHECKING:
    from spoter.messages import RawRequest, Response

    Respond = Callable[[RawRequest], Response]


def predict(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH",
            help="Model folder (not with --server), then clips: .json, .csv, .npy, .jsonl, a folder or a video.",
            show_default=False,
        ),
    ],
    server: Annotated[
        str | None, typer.Option(metavar="URL", help="Ask this server instead of a model folder.")
    ] = None,
    token: Annotated[
        str | None, typer.Option(envvar="SPOTER_TOKEN", help="Token of the server, if it requires one.")
    ] = None,
    top_k: Annotated[int | None, typer.Option(min=1, help="Number of glosses.", show_default="the model's")] = None,
    width: Annotated[float | None, typer.Option(help="Image width in pixels, for points in pixels.")] = None,
    height: Annotated[float | None, typer.Option(help="Image height in pixels, for points in pixels.")] = None,
    accept: Annotated[str | None, typer.Option(help="Content type of the answers, as in an Accept header.")] = None,
    runtime: Runtime = None,
    out: Annotated[
        Path | None, typer.Option(help="JSON Lines to write, for large batches; PATH may also be .hdf5.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="With --out: worker processes.", show_default="one per core")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="With --out: clips per forward pass.")] = 64,
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="With --out: use Ray, at `local`, `auto` or an address.")
    ] = None,
) -> None:
    """Recognize the sign in each clip; print one line of JSON per file.

    The line is the answer that a server sends. A folder holds one clip in the form of OpenPose or MMPose. The answer to
    an unreadable video or folder is an error; the other files are still answered.

    Use `--out` for large batches: it uses all cores, shows progress, reads folders of clips, and resumes a stopped run
    if you run the same command again. See docs/batch.md.
    """
    model = None if server else paths.pop(0)
    if not paths:
        raise SpoterError(f"found no FILE after {model}, expected MODEL FILE… or --server URL FILE…")
    options = {"top_k": top_k, "width": width, "height": height}
    if out is not None:
        if model is None or accept is not None:
            raise SpoterError("--out needs a MODEL and writes JSON Lines, so --server and --accept do not apply")
        return _predict_to_file(model, paths, out, options, runtime, jobs, batch, ray)
    if jobs or ray:
        raise SpoterError("--jobs and --ray need --out FILE")
    attributes = ",".join(f"{key}={value}" for key, value in options.items() if value is not None)
    with ExitStack() as stack:
        if model:
            respond = _load_model(model, runtime)
        else:
            from spoter.client import Client

            respond = stack.enter_context(Client(server or "", token=token)).send
        succeeded = [_answer(file, respond, accept, attributes) for file in paths]
    if not all(succeeded):
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
    if str(model).startswith(("http:", "https:")):  # Path has reduced the two slashes to one
        raise SpoterError(f"found {model}, expected a model folder; give the URL of a server with --server")

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
