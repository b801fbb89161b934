"""Batch transform: JSON Lines in S3 to JSON Lines in S3, in order, by instances that are there only for that."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from datetime import UTC, datetime

from spoter.aws.deploy import limits, requests
from spoter.aws.deploy.account import Account
from spoter.aws.deploy.preflight import bucket_name
from spoter.aws.deploy.settings import DeployError, Settings
from spoter.aws.deploy.waiting import POLL, StillGoing, tail, watch
from spoter.formats.request import JSONLINES

# Where SageMaker writes what the containers of all jobs say (developer guide, "Log groups and streams").
LOG_GROUP = "/aws/sagemaker/TransformJobs"
# Statuses that pass by themselves (API reference, DescribeTransformJob).
BUSY = ("InProgress", "Stopping")


class JobError(DeployError):
    """A batch job has failed or was stopped."""

    status = 1


def run(settings: Settings, account: Account, model_name: str, show: Callable[[str], None], poll: float = POLL) -> str:
    """Answer the clips of `settings.input`, and return where the answers are.

    Each line is a request of its own (BatchStrategy SingleRecord): a request of many lines would be cut by size, which
    says nothing about how many clips a model takes at once. The handler puts requests that arrive together through the
    model together all the same. SageMaker keeps the order, and makes ``NAME.out`` of each object NAME.

    Parameters
    ----------
    settings : Settings
    account : Account
    model_name : str
    show : callable
        Is given a line when there is something new.
    poll : float
        Seconds between two looks.

    Raises
    ------
    JobError
        With AWS's reason and the last lines of the container's log.
    KeyboardInterrupt, StillGoing
        The job goes on; how to stop it was shown.
    """
    bucket = bucket_name(settings, account)
    # A job cannot be deleted, and its name is never free again.
    job = f"{settings.name}-{datetime.now(UTC):%Y%m%d-%H%M%S-%f}"
    output = settings.output or requests.folder(settings, bucket, "answers", job)
    account.call("sagemaker", "create_transform_job", **request(settings, model_name, job, output))
    show(f"job {job}")
    try:
        _wait(account, job, show, poll)
    except (KeyboardInterrupt, StillGoing):
        show(
            f"job {job} goes on, and is paid for, until it is done: `aws sagemaker stop-transform-job "
            f"--transform-job-name {job} --region {account.region}` stops it, and so does `python deploy.py delete`"
        )
        raise
    name = settings.input.rpartition("/")[2]
    return "/".join([output.rstrip("/"), f"{name}.out" if name else ""])


def request(settings: Settings, model_name: str, job: str, output: str) -> dict:
    """Return CreateTransformJob's parameters."""
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": settings.input}}
    return {
        "TransformJobName": job,
        "ModelName": model_name,
        "MaxConcurrentTransforms": limits.BATCH_CONCURRENCY,
        "MaxPayloadInMB": limits.BATCH_PAYLOAD_MB,
        "BatchStrategy": "SingleRecord",
        "TransformInput": {"DataSource": source, "ContentType": JSONLINES, "SplitType": "Line"},
        # None joins the answers as they are: each line of ours ends itself, and a second line feed made empty lines.
        "TransformOutput": {"S3OutputPath": output, "Accept": JSONLINES, "AssembleWith": "None"},
        "TransformResources": {"InstanceType": settings.instance_type, "InstanceCount": settings.instance_count},
        "Tags": requests.tag_list(settings),
    }


def _wait(account: Account, job: str, show: Callable[[str], None], poll: float) -> None:
    started, seen = time.monotonic(), None

    def tell(status: str) -> None:
        nonlocal seen
        if status != seen:
            show(f"job {job}: {status} after {(time.monotonic() - started) / 60:.0f} min")
        seen = status

    found = watch(
        account, "describe_transform_job", job, BUSY, tell, poll, longest=math.inf
    )  # SageMaker ends it after days
    if found is None:  # in a dry run: a job cannot be deleted
        return
    status = found["TransformJobStatus"]
    tell(status)
    if status == "Completed":
        return
    told = [f"job {job} is {status}: {found.get('FailureReason') or 'AWS gives no reason'}"]
    lines = tail(account, LOG_GROUP, job=job)
    told += [f"  the last lines of {LOG_GROUP} (UTC):", *(f"    {line}" for line in lines)] if lines else []
    raise JobError("\n".join(told))
