"""Waiting for SageMaker, and what a container said last."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from spoter.aws.deploy import requests
from spoter.aws.deploy.account import Account, Unreachable
from spoter.aws.deploy.console import Reporter
from spoter.aws.deploy.settings import DeployError

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
    """How something ends that SageMaker is busy with cannot be awaited: nothing is known to have failed."""

    status = 1


def watch(
    account: Account,
    operation: str,
    name: str,
    busy: tuple[str, ...],
    show: Callable[[str], None],
    poll: float = POLL,
    longest: float = LONGEST,
) -> dict[str, Any] | None:
    """Look at something of SageMaker's until it is in none of the statuses `busy`; return its description.

    A connection that breaks meanwhile says nothing about what is under way: it is waited for as well.

    Parameters
    ----------
    account : Account
    operation : str
        ``describe_endpoint`` or ``describe_transform_job``.
    name : str
    busy : tuple of str
    show : callable
        Is given the status after each look.
    poll : float
        Seconds between two looks.
    longest : float
        Seconds for which it is waited.

    Returns
    -------
    dict or None
        None where it is not there.

    Raises
    ------
    StillGoing
        When `longest` is over, and where AWS does not answer those who ask any more, as when credentials run out.
    """
    words = operation.split("_")[1:]
    field = "".join(word.capitalize() for word in words)
    what, end = " ".join([*words, name]), time.monotonic() + longest
    while True:
        try:
            found = account.read("sagemaker", operation, **{f"{field}Name": name})
        except Unreachable:
            status = "out of reach"
        except DeployError as error:
            raise StillGoing(f"{error}. AWS goes on with {what}, and nothing was removed") from None
        else:
            if found is None or found[f"{field}Status"] not in busy:
                return found
            status = found[f"{field}Status"]
        if time.monotonic() > end:
            raise StillGoing(
                f"{what} is still {status} after {longest / 3600:.0f} hours: `python deploy.py status` shows it, "
                "`python deploy.py` goes on waiting"
            )
        show(status)
        time.sleep(poll)


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
        As `watch` does.
    """
    with reporter.waiting(f"endpoint {name}") as show:
        return watch(account, "describe_endpoint", name, BUSY, show, poll)


def tail(account: Account, group: str, job: str | None = None, since: float = 0.0, lines: int = LINES) -> list[str]:
    """Return the last lines that containers wrote to CloudWatch, each with its time; none where there are none.

    Parameters
    ----------
    account : Account
    group : str
        Log group: `plan.log_group` of an endpoint, ``/aws/sagemaker/TransformJobs``.
    job : str, optional
        Of a group that holds many jobs: the name of a transform job, or of a deployment for all of its jobs.
    since : float
        Seconds since 1970: streams that began before are left out, as those of instances that serve on.
    lines : int
        How many at most.
    """
    # CloudWatch does not take a prefix and an order by time together (API reference, DescribeLogStreams). Names of jobs
    # hold their time.
    told = {"logStreamNamePrefix": job} if job else {"orderBy": "LastEventTime"}
    answer = account.read("logs", "describe_log_streams", logGroupName=group, limit=50, descending=True, **told) or {}
    streams = [
        stream
        for stream in answer.get("logStreams", [])
        if stream.get("creationTime", 0) / 1000 >= since and (job is None or is_of_job(stream["logStreamName"], job))
    ]
    events = []
    for stream in streams[:STREAMS]:
        name = stream["logStreamName"]
        parameters = {"logGroupName": group, "logStreamName": name, "limit": lines, "startFromHead": False}
        events += (account.read("logs", "get_log_events", **parameters) or {}).get("events", [])
    events.sort(key=lambda event: event["timestamp"])
    return [shown(event) for event in events[-lines:]]


def is_of_job(stream: str, job: str) -> bool:
    """Tell whether a log stream is a transform job's, or any job's of a deployment: spoter-2's are none of spoter's."""
    return re.match(re.escape(job) + r"(-\d{8}-\d{6}-\d{6})?/", stream) is not None


def shown(event: dict[str, Any]) -> str:
    """Return an event of CloudWatch Logs as a line: ``12:30:59 message``, in UTC."""
    moment = datetime.fromtimestamp(event["timestamp"] / 1000, UTC)
    return f"{moment:%H:%M:%S} {event['message'].rstrip()}"


def reason_and_log(account: Account, name: str, reason: str, since: float) -> str:
    """Return why an endpoint failed: AWS's reason, then what its containers said last."""
    group = requests.log_group(name)
    try:
        lines = tail(account, group, since=since)
    except DeployError as error:  # the reason counts more than the log
        return f"{reason}\n  {group} cannot be read: {error}"
    if not lines:
        return f"{reason}\n  {group} holds nothing of it: no container has started"
    return "\n".join([reason, f"  the last lines of {group} (UTC):", *(f"    {line}" for line in lines)])
