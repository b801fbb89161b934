"""The commands `spoter batch-pack` and `spoter batch-join`: input and output of a SageMaker batch job."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from spoter.batch.run import Counts


def batch_pack(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Model folder.")],
    paths: Annotated[list[Path], typer.Argument(metavar="PATH", help="Clips: files, folders, .jsonl or HDF5.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    jobs: Annotated[int | None, typer.Option(min=1, help="Worker processes.", show_default="one per core")] = None,
    width: Annotated[float | None, typer.Option(min=1, help="Image width in pixels, for points in pixels.")] = None,
    height: Annotated[float | None, typer.Option(min=1, help="Image height in pixels, for points in pixels.")] = None,
) -> None:
    """Write clips as JSON Lines for a SageMaker batch job, with an index of them.

    Run the same command again to resume a stopped run. See docs/batch.md.
    """
    from functools import partial

    from spoter.batch.process_pool import count_cores, run_in_processes
    from spoter.batch.run import plan_run
    from spoter.batch.sagemaker_jobs import ShardPacker, pack_clips

    options = {"width": width, "height": height}
    plan = plan_run(out, model, paths, options)
    packer = ShardPacker(model.resolve(), options)
    report(out, pack_clips(plan, partial(run_in_processes, packer, jobs=jobs or count_cores())))


def batch_join(
    folder: Annotated[Path, typer.Argument(metavar="PACKED", help="Folder that `spoter batch-pack` wrote.")],
    answers: Annotated[Path, typer.Argument(metavar="ANSWERS", help="Output folder of the job: *.jsonl.out.")],
    out: Annotated[Path, typer.Option(help="JSON Lines to write, in the form of `spoter predict --out`.")],
) -> None:
    """Join the answers of a SageMaker batch job with the clips they belong to."""
    from spoter.batch.sagemaker_jobs import join_answers

    report(out, join_answers(folder, answers, out))


def report(out: Path, counts: Counts) -> None:
    """Print the number of clips in `out`; exit with status 2 if some of them have an error."""
    print(f"{out}: {counts}")
    if counts.failed:
        raise typer.Exit(2)
