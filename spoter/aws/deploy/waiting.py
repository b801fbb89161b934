"""Wait for SageMaker, and read the last lines of containers' logs."""

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
# Seconds between two status queries, as in the sagemaker SDK.
POLL = 30.0
# Seconds. SageMaker also has time limits: one hour for an instance to get ready, two for a rollback.
TIMEOUT = 3 * 3600.0
# Number of log streams, one per instance, from which a failure is explained.
STREAMS = 3
LINES = 20


class StillBusy(DeployError):
    """An operation of SageMaker has not ended, and its result is unknown."""

    exit_code = 1


def wait_until_idle(
    account: Account,
    operation: str,
    name: str,
    show: Callable[[str], None],
    poll: float = POLL,
    timeout: float = TIMEOUT,
) -> dict[str, Any] | None:
    """Query an endpoint or a job until its status is not in `BUSY`; return its description, or None if it is gone.

    boto3's waiters fail when the connection breaks, though the operation continues; this function keeps waiting.

    `operation` is ``describe_endpoint`` or ``describe_transform_job``. `show` gets each new status. `poll` and
    `timeout` are the seconds between two queries and in total.

    Raises
    ------
    StillBusy
        After `timeout`, or if AWS refuses the query, for example because the credentials expired.
    """
    words = operation.split("_")[1:]
    field = "".join(word.capitalize() for word in words)
    subject, end = " ".join([*words, name]), time.monotonic() + timeout
    shown = None
    while True:
        try:
            description = account.read("sagemaker", operation, **{f"{field}Name": name})
        except Unreachable:
            status = "AWS is unreachable"
        except DeployError as error:
            raise StillBusy(f"{error}. AWS continues with {subject}, and nothing was removed") from None
        else:
            if description is None or description[f"{field}Status"] not in BUSY:
                return description
            status = description[f"{field}Status"]
        if time.monotonic() > end:
            raise StillBusy(
                f"{subject} is still {status} after {timeout / 3600:.0f} hours: check `spoter deploy status`, or run "
                "`spoter deploy` again to continue waiting"
            )
        if status != shown:
            show(status)
        shown = status
        time.sleep(poll)


def wait_for_endpoint(account: Account, name: str, reporter: Reporter, poll: float = POLL) -> dict[str, Any] | None:
    """Wait for an endpoint with `wait_until_idle`, and report its status."""
    with reporter.waiting(f"endpoint {name}") as show:
        return wait_until_idle(account, "describe_endpoint", name, show, poll)


def tail_log(account: Account, group: str, job: str | None = None, since: float = 0.0, lines: int = LINES) -> list[str]:
    """Return the last lines that containers wrote to CloudWatch, each with its time.

    The log group is `requests.log_group` of an endpoint, or `batch.LOG_GROUP`, which holds many jobs: then `job` is the
    name of a transform job, or of a deployment for all of its jobs. Streams that started before `since` (seconds since
    1970) are skipped, such as those of older instances.
    """
    # CloudWatch does not accept a prefix together with an order by time (API reference, DescribeLogStreams). The names
    # of jobs contain their time.
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
    """Return whether a log stream belongs to a job, or to any job of a deployment (spoter-2 is not spoter)."""
    return re.match(re.escape(job) + r"(-\d{8}-\d{6}-\d{6})?/", stream) is not None


def format_event(event: dict[str, Any]) -> str:
    """Return an event of CloudWatch Logs as one line, ``12:30:59 message``, in UTC."""
    moment = datetime.fromtimestamp(event["timestamp"] / 1000, UTC)
    return f"{moment:%H:%M:%S} {event['message'].rstrip()}"


def explain_failure(account: Account, group: str, reason: str, job: str | None = None, since: float = 0.0) -> str:
    """Return AWS's reason for a failure, followed by the last log lines of the containers (`tail_log`)."""
    try:
        lines = tail_log(account, group, job, since)
    except DeployError as error:  # still report the reason
        return f"{reason}\n  {group} cannot be read: {error}"
    if not lines:
        return f"{reason}\n  {group} has no lines about this: no container has started"
    return "\n".join([reason, f"  the last lines of {group} (UTC):", *(f"    {line}" for line in lines)])
