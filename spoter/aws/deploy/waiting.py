"""Wait for SageMaker, and read the last lines of a container's log."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from spoter.aws.deploy.account import Account, Unreachable
from spoter.aws.deploy.progress import Reporter
from spoter.aws.deploy.settings import DeployError

# Temporary statuses (API reference, DescribeEndpoint and DescribeTransformJob).
BUSY = ("Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting", "InProgress", "Stopping")
# Seconds between two polls, as in the sagemaker SDK.
POLL = 30.0
# Seconds. SageMaker ends what fails itself: an instance has an hour to get ready, and twice that to go back.
LONGEST = 3 * 3600.0
# Log streams that a failure is explained from: one for each of the first few instances.
STREAMS = 3
LINES = 20


class StillBusy(DeployError):
    """It is not known how an operation of SageMaker ends; nothing is known to have failed."""

    exit_code = 1


def wait_until_idle(
    account: Account,
    operation: str,
    name: str,
    show: Callable[[str], None],
    poll: float = POLL,
    longest: float = LONGEST,
) -> dict[str, Any] | None:
    """Poll an endpoint or a job until its status is none of `BUSY`; return its description, None where there is none.

    boto3's waiters give up where the connection breaks, which says nothing about the operation: here it continues.

    `operation` is ``describe_endpoint`` or ``describe_transform_job``. `show` gets each new status. `poll` and
    `longest` are seconds between two polls, and in all.

    Raises
    ------
    StillBusy
        After `longest`, and where AWS no longer answers, as when credentials expire.
    """
    words = operation.split("_")[1:]
    field = "".join(word.capitalize() for word in words)
    what, end = " ".join([*words, name]), time.monotonic() + longest
    shown = None
    while True:
        try:
            description = account.read("sagemaker", operation, **{f"{field}Name": name})
        except Unreachable:
            status = "out of reach"
        except DeployError as error:
            raise StillBusy(f"{error}. AWS continues with {what}, and nothing was removed") from None
        else:
            if description is None or description[f"{field}Status"] not in BUSY:
                return description
            status = description[f"{field}Status"]
        if time.monotonic() > end:
            raise StillBusy(
                f"{what} is still {status} after {longest / 3600:.0f} hours: `spoter deploy status` shows it, "
                "`spoter deploy` continues to wait"
            )
        if status != shown:
            show(status)
        shown = status
        time.sleep(poll)


def wait_for_endpoint(account: Account, name: str, reporter: Reporter, poll: float = POLL) -> dict[str, Any] | None:
    """Do as `wait_until_idle` for an endpoint."""
    with reporter.waiting(f"endpoint {name}") as show:
        return wait_until_idle(account, "describe_endpoint", name, show, poll)


def tail_log(account: Account, group: str, job: str | None = None, since: float = 0.0, lines: int = LINES) -> list[str]:
    """Return the last lines that containers wrote to CloudWatch, each with its time.

    The log group is `requests.log_group` of an endpoint, or `batch.LOG_GROUP`, which holds many jobs: `job` is the name
    of a transform job, or of a deployment for all of its jobs. Streams that began before `since` (seconds since 1970)
    are left out, as those of instances that continue to serve.
    """
    # CloudWatch does not take a prefix and an order by time together (API reference, DescribeLogStreams). Names of jobs
    # hold their time.
    order = {"logStreamNamePrefix": job} if job else {"orderBy": "LastEventTime"}
    listing = account.read("logs", "describe_log_streams", logGroupName=group, limit=50, descending=True, **order) or {}
    streams = [
        stream["logStreamName"]
        for stream in listing.get("logStreams", [])
        if stream.get("creationTime", 0) / 1000 >= since and (job is None or is_of_job(stream["logStreamName"], job))
    ]
    events = []
    for name in streams[:STREAMS]:
        parameters = {"logGroupName": group, "logStreamName": name, "limit": lines, "startFromHead": False}
        events += (account.read("logs", "get_log_events", **parameters) or {}).get("events", [])
    events.sort(key=lambda event: event["timestamp"])
    return [format_event(event) for event in events[-lines:]]


def is_of_job(stream: str, job: str) -> bool:
    """Tell whether a log stream is a transform job's, or any job's of a deployment: not of spoter-2 for spoter."""
    return re.match(re.escape(job) + r"(-\d{8}-\d{6}-\d{6})?/", stream) is not None


def format_event(event: dict[str, Any]) -> str:
    """Return an event of CloudWatch Logs as a line: ``12:30:59 message``, in UTC."""
    moment = datetime.fromtimestamp(event["timestamp"] / 1000, UTC)
    return f"{moment:%H:%M:%S} {event['message'].rstrip()}"


def explain_failure(account: Account, group: str, reason: str, job: str | None = None, since: float = 0.0) -> str:
    """Return why an endpoint or a job failed: AWS's reason, then the last lines of its containers; see `tail_log`."""
    try:
        lines = tail_log(account, group, job, since)
    except DeployError as error:  # the reason counts more than the log
        return f"{reason}\n  {group} cannot be read: {error}"
    if not lines:
        return f"{reason}\n  {group} holds nothing of it: no container has started"
    return "\n".join([reason, f"  the last lines of {group} (UTC):", *(f"    {line}" for line in lines)])
