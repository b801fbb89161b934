"""Waiting for SageMaker, and what a container said last."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from aws.deployment import plan
from aws.deployment.account import Account
from aws.deployment.reporter import Reporter
from aws.deployment.settings import DeployError

# Statuses that pass by themselves (API reference, DescribeEndpoint).
BUSY = ("Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting")
# Seconds between two looks, as the sagemaker SDK has them.
POLL = 30.0
# Seconds. SageMaker ends what it cannot do itself: an instance has an hour to get ready, and twice that to go back.
LONGEST = 3 * 3600.0
# Streams that a failure is told from: one for each of the first few instances.
STREAMS = 3
LINES = 20


class StillGoing(DeployError):
    """SageMaker is not done after `LONGEST`, which nothing but its own failure explains; it may be yet."""

    status = 1


def settled(account: Account, name: str, reporter: Reporter, poll: float = POLL) -> dict[str, Any] | None:
    """Wait until nothing is under way with an endpoint; return its description, None where there is none.

    Parameters
    ----------
    account : Account
    name : str
        The endpoint's.
    reporter : Reporter
    poll : float
        Seconds between two looks.

    Raises
    ------
    StillGoing
        When `LONGEST` is over.
    """
    end = time.monotonic() + LONGEST
    found = account.read("sagemaker", "describe_endpoint", EndpointName=name)
    if found is None or found["EndpointStatus"] not in BUSY:
        return found
    with reporter.waiting(f"endpoint {name}") as show:
        while found is not None and found["EndpointStatus"] in BUSY:
            if time.monotonic() > end:
                raise StillGoing(
                    f"endpoint {name} is still {found['EndpointStatus']} after {LONGEST / 3600:.0f} hours: "
                    "`python deploy.py status` shows it, `python deploy.py` goes on waiting"
                )
            show(found["EndpointStatus"])
            time.sleep(poll)
            found = account.read("sagemaker", "describe_endpoint", EndpointName=name)
    return found


def tail(account: Account, group: str, prefix: str | None = None, since: float = 0.0, lines: int = LINES) -> list[str]:
    """Return the last lines that containers wrote to CloudWatch, each with its time; none where there are none.

    Parameters
    ----------
    account : Account
    group : str
        Log group: `plan.log_group` of an endpoint, ``/aws/sagemaker/TransformJobs``.
    prefix : str, optional
        What the streams' names begin with, such as a transform job's.
    since : float
        Seconds since 1970: streams that began before are left out, as those of instances that serve on.
    lines : int
        How many at most.
    """
    # CloudWatch does not take a prefix and an order by time together (API reference, DescribeLogStreams).
    told = {"logStreamNamePrefix": prefix} if prefix else {"orderBy": "LastEventTime", "descending": True}
    answer = account.read("logs", "describe_log_streams", logGroupName=group, limit=50, **told) or {}
    streams = [stream for stream in answer.get("logStreams", []) if stream.get("creationTime", 0) / 1000 >= since]
    events = []
    for stream in streams[:STREAMS]:
        name = stream["logStreamName"]
        parameters = {"logGroupName": group, "logStreamName": name, "limit": lines, "startFromHead": False}
        events += (account.read("logs", "get_log_events", **parameters) or {}).get("events", [])
    events.sort(key=lambda event: event["timestamp"])
    return [shown(event) for event in events[-lines:]]


def shown(event: dict[str, Any]) -> str:
    """Return an event of CloudWatch Logs as a line: ``12:30:59 message``, in UTC."""
    moment = datetime.fromtimestamp(event["timestamp"] / 1000, UTC)
    return f"{moment:%H:%M:%S} {event['message'].rstrip()}"


def reason_and_log(account: Account, name: str, reason: str, since: float) -> str:
    """Return why an endpoint failed: AWS's reason, then what its containers said last."""
    group = plan.log_group(name)
    try:
        lines = tail(account, group, since=since)
    except DeployError as error:  # the reason counts more than the log
        return f"{reason}\n  {group} cannot be read: {error}"
    if not lines:
        return f"{reason}\n  {group} holds nothing of it: no container has started"
    return "\n".join([reason, f"  the last lines of {group} (UTC):", *(f"    {line}" for line in lines)])
