"""What the command line does with very many clips: `spoter predict … --out`, `spoter batch-pack` and `spoter batch-join`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from spoter.batch.inputs import Survey
    from spoter.batch.resume import Record

# What reads clips and answers them is imported by the commands: `spoter --help` shall not wait for it.

Model = Annotated[Path, typer.Argument(metavar="MODEL", help="Model folder.")]
Clips = Annotated[list[Path], typer.Argument(metavar="PATH", help="Folders of clips, HDF5 files, .jsonl, files.")]
Jobs = Annotated[int | None, typer.Option(min=1, help="Worker processes; one a core unless said.")]
Width = Annotated[float | None, typer.Option(min=1, help="Image width in pixels, where the points are in pixels.")]
Height = Annotated[float | None, typer.Option(min=1, help="Image height in pixels, where the points are in pixels.")]


def predict(
    model: Path,
    paths: list[Path],
    out: Path,
    said: dict[str, float | None],
    runtime: str | None,
    jobs: int | None,
    batch: int,
    ray: str | None,
) -> None:
    """Answer all clips of `paths` in one file; the command `spoter predict … --out` (docs/bulk.md).

    Parameters
    ----------
    model, paths, out
        Model folder; what to answer; JSON Lines to write.
    said : dict
        `top_k`, `width` and `height`.
    runtime : str or None
        None takes what the model's config says.
    jobs : int or None
        None takes one a core.
    batch : int
        Clips in a forward.
    ray : str or None
        Address of Ray, in place of processes of this machine.
    """
    from functools import partial

    from spoter.batch.output import predict as answer
    from spoter.batch.predictor import Answering
    from spoter.batch.process_pool import cores, in_processes
    from spoter.batch.resume import check_outside, look

    check_outside(out, paths)
    record, found = look(model, paths, said | {"runtime": runtime})
    _tell_left_out(found)
    work = Answering(model.resolve(), runtime, said, batch)
    if ray is None:
        do = partial(in_processes, work, jobs=jobs or cores())
    else:
        from spoter.batch.ray_pool import in_actors

        do = partial(in_actors, work, jobs=jobs or cores(), address=ray)
    with _told_when_stopped():
        done = answer(out, record, paths, found.part_size, do)
    _tell(out, done)


def batch_pack(
    model: Model,
    paths: Clips,
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    jobs: Jobs = None,
    width: Width = None,
    height: Height = None,
) -> None:
    """Write clips as JSON Lines for a SageMaker batch job, and what each line is of.

    A run that was stopped goes on with the same command. See docs/bulk.md.
    """
    from functools import partial

    from spoter.batch.process_pool import cores, in_processes
    from spoter.batch.resume import check_outside, look
    from spoter.batch.sagemaker_jobs import Packing
    from spoter.batch.sagemaker_jobs import pack as write

    said = {"width": width, "height": height}
    check_outside(out, paths)
    record, found = look(model, paths, said)
    _tell_left_out(found)
    do = partial(in_processes, Packing(model.resolve(), said), jobs=jobs or cores())
    with _told_when_stopped():
        done = write(out, record, paths, found.part_size, do)
    _tell(out, done)


def batch_join(
    folder: Annotated[Path, typer.Argument(metavar="PACKED", help="What `spoter batch-pack` wrote.")],
    answers: Annotated[Path, typer.Argument(metavar="ANSWERS", help="Folder with what the job wrote: *.jsonl.out.")],
    out: Annotated[Path, typer.Option(help="JSON Lines to write, as `spoter predict --out` does.")],
) -> None:
    """Put the answers of a SageMaker batch job to the clips that they are of."""
    from spoter.batch.sagemaker_jobs import join as put_together

    clips, failed = put_together(folder, answers, out)
    _say(out, clips, failed)


def _tell(out: Path, done: Record) -> None:
    _say(out, done.clips, done.failed)


def _say(out: Path, clips: int, failed: int) -> None:
    print(f"{out}: {clips} clip{'s' * (clips != 1)}, {failed or 'none'} of them with an error")
    if failed:
        raise typer.Exit(2)


def _tell_left_out(found: Survey) -> None:
    if found.left_out:
        what = ", ".join(f"{count} {ending}" for ending, count in sorted(found.left_out.items()))
        typer.echo(f"note: left out, for they are no landmarks: {what}", err=True)


@contextmanager
def _told_when_stopped() -> Iterator[None]:
    from spoter.batch.resume import Stopped

    try:
        yield
    except Stopped as stopped:
        typer.echo(f"stopped: {stopped}", err=True)
        raise typer.Exit(130) from None
