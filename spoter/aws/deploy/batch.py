"""Batch transform jobs: JSON Lines in S3 to JSON Lines in S3, in order, on instances that run only for the job."""

import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from spoter.aws.deploy import limits, requests
from spoter.aws.deploy.account import Account, bucket_name
from spoter.aws.deploy.progress import DeploymentFailed
from spoter.aws.deploy.settings import Settings
from spoter.aws.deploy.waiting import POLL, StillBusy, explain_failure, wait_until_idle
from spoter.formats.request import JSONLINES

# Where SageMaker writes the logs of all jobs' containers (developer guide, "Log groups and streams").
LOG_GROUP = "/aws/sagemaker/TransformJobs"


def run_job(
    settings: Settings, account: Account, model_name: str, show: Callable[[str], None], poll: float = POLL
) -> str:
    """Run a batch job over the clips of `settings.input`, and return the s3:// address of the answers.

    Each line is one request (BatchStrategy SingleRecord). SageMaker would cut larger requests by their size in bytes,
    which does not limit the number of clips. The handler still batches requests that arrive together. SageMaker keeps
    the order, and writes ``NAME.out`` for each object NAME.

    Raises
    ------
    DeploymentFailed
        With AWS's reason and the last lines of the container's log.
    KeyboardInterrupt, StillBusy
        The job continues; `show` got the command that stops it.
    """
    # Jobs cannot be deleted, so every job needs a new name.
    job = f"{settings.name}-{datetime.now(UTC):%Y%m%d-%H%M%S-%f}"
    output = settings.output or requests.folder(settings, bucket_name(settings, account), "answers", job)
    account.call("sagemaker", "create_transform_job", **job_request(settings, model_name, job, output))
    show(f"job {job}")
    try:
        _wait_for_job(account, job, show, poll)
    except (KeyboardInterrupt, StillBusy):
        show(
            f"job {job} continues and costs money until it ends; to stop it run `spoter deploy delete`, or "
            f"`aws sagemaker stop-transform-job --transform-job-name {job} --region {account.region}`"
        )
        raise
    name = (settings.input or "").rpartition("/")[2]
    return "/".join([output.rstrip("/"), f"{name}.out" if name else ""])


def job_request(settings: Settings, model_name: str, job: str, output: str) -> dict[str, Any]:
    """Return CreateTransformJob's parameters."""
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": settings.input}}
    return {
        "TransformJobName": job,
        "ModelName": model_name,
        "MaxConcurrentTransforms": limits.BATCH_CONCURRENCY,
        "MaxPayloadInMB": limits.BATCH_PAYLOAD_MB,
        "BatchStrategy": "SingleRecord",
        "TransformInput": {"DataSource": source, "ContentType": JSONLINES, "SplitType": "Line"},
        # None joins the answers unchanged: each ends with a line feed already, and a second one would add empty lines.
        "TransformOutput": {"S3OutputPath": output, "Accept": JSONLINES, "AssembleWith": "None"},
        "TransformResources": {"InstanceType": settings.instance_type, "InstanceCount": settings.instance_count},
        "Tags": requests.tag_list(settings),
    }


def _wait_for_job(account: Account, job: str, show: Callable[[str], None], poll: float) -> None:
    started = time.monotonic()

    def show_status(status: str) -> None:
        show(f"job {job}: {status} after {(time.monotonic() - started) / 60:.0f} min")

    # No limit here: SageMaker ends a job itself after days.
    description = wait_until_idle(account, "describe_transform_job", job, show_status, poll, timeout=math.inf)
    if description is None:  # in a dry run only: jobs cannot be deleted
        return
    status = description["TransformJobStatus"]
    show_status(status)
    if status != "Completed":
        reason = f"job {job} is {status}: {description.get('FailureReason') or 'AWS gives no reason'}"
        raise DeploymentFailed(explain_failure(account, LOG_GROUP, reason, job))
