"""The endpoint itself: made, updated or left as it is, whatever state it is found in."""

from __future__ import annotations

import time
from typing import Any

from spoter.aws.deploy import autoscale, requests, tags
from spoter.aws.deploy.account import Account, CallError
from spoter.aws.deploy.console import Reporter
from spoter.aws.deploy.ownership import keep_tags
from spoter.aws.deploy.rollback import Undo
from spoter.aws.deploy.settings import DeployError, Settings
from spoter.aws.deploy.waiting import BUSY, POLL, reason_and_log, settled

# The clock here and AWS's may differ by this many seconds; AWS refuses signatures that differ by more.
CLOCKS = 300


class EndpointError(DeployError):
    """SageMaker could not bring the endpoint up."""

    status = 1


def look(settings: Settings, account: Account, reporter: Reporter, poll: float = POLL) -> bool:
    """Look at what is there under the endpoint's name, and wait until nothing is under way with it.

    Returns
    -------
    bool
        Whether something was under way: an earlier run may have been interrupted before it tried the endpoint.

    Raises
    ------
    NameTaken
        Where it is not of this deployment.
    DeployError
        Where it is of another mode.
    """
    found = account.read("sagemaker", "describe_endpoint", EndpointName=settings.name)
    if found is None:
        return False
    keep_tags(settings, account, "Endpoint", found)
    busy = found["EndpointStatus"] in BUSY
    found = settled(account, settings.name, reporter, poll)
    if found is None or found["EndpointStatus"] == "Failed":
        return busy
    config = account.read("sagemaker", "describe_endpoint_config", EndpointConfigName=found["EndpointConfigName"])
    # SageMaker turns no endpoint with instances into a serverless one (developer guide, "Update a serverless
    # endpoint"), and an asynchronous one is called by another verb: clients would break on the day of the update.
    if config is not None and (mode := requests.mode_of(config)) != settings.mode:
        raise DeployError(
            f"endpoint {settings.name} is of mode {mode}, found mode {settings.mode} in the settings: an endpoint "
            "keeps its mode. Remove it with `python deploy.py delete`, or deploy beside it with another --name"
        )
    return busy


def bring_up(
    settings: Settings, account: Account, config_name: str, undo: Undo, reporter: Reporter, poll: float = POLL
) -> str:
    """Let the endpoint serve a configuration.

    Parameters
    ----------
    settings : Settings
    account : Account
    config_name : str
    undo : Undo
        Is told what was made.
    reporter : Reporter
    poll : float
        Seconds between two looks.

    Returns
    -------
    str
        ``created``, ``updated`` or ``unchanged``.

    Raises
    ------
    EndpointError
        With AWS's reason and the last lines of the container's log.
    """
    name = settings.name
    found = account.read("sagemaker", "describe_endpoint", EndpointName=name)
    if found is not None and found["EndpointStatus"] == "Failed":
        # The only thing that can be done with it (API reference, DescribeEndpoint).
        why = reason_and_log(account, name, found.get("FailureReason", "no reason given"), 0.0)
        _tag_logs(settings, account, found, reporter)
        reporter.note(f"endpoint {name} has failed earlier and serves nothing; it is removed and made anew: {why}")
        remove(account, name, reporter, poll)
        found = None
    since = time.time() - CLOCKS
    if found is None:
        account.call("sagemaker", "create_endpoint", **requests.endpoint_request(settings, config_name))
        undo.add(f"endpoint {name}", lambda: remove(account, name, reporter, poll))
    elif (found["EndpointConfigName"], found["EndpointStatus"]) == (config_name, "InService"):
        _tag_logs(settings, account, found, reporter)  # a run that was interrupted has not come to it
        return "unchanged"
    else:
        _update(settings, account, found, config_name, undo, reporter, poll)
    after = settled(account, name, reporter, poll)
    done = "created" if found is None else "updated"
    if account.dry_run:
        _tag_logs(settings, account, {}, reporter)
        return done
    if after is None:
        raise EndpointError(f"endpoint {name} is gone: someone has removed it meanwhile")
    _tag_logs(settings, account, after, reporter)
    status, serving = after["EndpointStatus"], after["EndpointConfigName"]
    if status != "InService" or serving != config_name:
        reason = reason_and_log(account, name, after.get("FailureReason") or "AWS gives no reason", since)
        back = f", with {serving} as before" if serving != config_name else ""
        raise EndpointError(f"endpoint {name} is {status}{back}: {reason}")
    return done


def _tag_logs(settings: Settings, account: Account, found: dict[str, Any], reporter: Reporter) -> None:
    """Make the log group ours, which SageMaker makes when the first container speaks."""
    made = found["CreationTime"].timestamp() if found else 0.0
    try:
        if not tags.tag_logs(settings, account, made):
            reporter.note(
                f"{requests.log_group(settings.name)} is older than the endpoint: `delete` will leave it alone"
            )
    except CallError as error:
        reporter.warn(f"the log group carries no tag, `delete` will not find it: {error}")


def _update(
    settings: Settings,
    account: Account,
    found: dict[str, Any],
    config_name: str,
    undo: Undo,
    reporter: Reporter,
    poll: float,
) -> None:
    """Begin to replace the instances, and note the way back."""
    old = found["EndpointConfigName"]
    variant = (found.get("ProductionVariants") or [{}])[0]
    request = requests.update_request(settings, config_name, variant.get("CurrentInstanceCount", 0))
    if _type_changes(settings, account, old):
        # SageMaker refuses another instance type while scaling is automatic (developer guide, "Update endpoints that
        # use auto scaling"); it is set up again when the update is done.
        scaled = autoscale.as_found(settings, account)
        autoscale.remove(settings, account)
        undo.add("automatic scaling", lambda: autoscale.apply(scaled, account), "set up again")
    reporter.note(f"endpoint {settings.name} serves {old} until the new instances answer")
    account.call("sagemaker", "update_endpoint", **request)
    undo.add(f"configuration {old}", lambda: _go_back(settings, account, old, reporter, poll), "went back to")


def _type_changes(settings: Settings, account: Account, config_name: str) -> bool:
    config = account.read("sagemaker", "describe_endpoint_config", EndpointConfigName=config_name)
    there = (config or {"ProductionVariants": [{}]})["ProductionVariants"][0].get("InstanceType")
    return there is not None and there != settings.instance_type


def _go_back(settings: Settings, account: Account, old: str, reporter: Reporter, poll: float) -> None:
    """Let the old configuration serve again, where SageMaker has not gone back to it by itself."""
    name = settings.name
    found = settled(account, name, reporter, poll)
    if found is None or (found["EndpointConfigName"] == old and found["EndpointStatus"] == "InService"):
        return
    account.call(
        "sagemaker",
        "update_endpoint",
        EndpointName=name,
        EndpointConfigName=old,
        # Where they are scaled, as many instances as serve now.
        RetainAllVariantProperties=autoscale.find_target(settings, account) is not None,
    )
    after = settled(account, name, reporter, poll)
    if after is not None and (after["EndpointConfigName"], after["EndpointStatus"]) != (old, "InService"):
        raise DeployError(f"endpoint {name} is {after['EndpointStatus']}: {after.get('FailureReason', 'no reason')}")


def remove(account: Account, name: str, reporter: Reporter, poll: float = POLL) -> None:
    """Delete an endpoint and wait until it is gone."""
    account.call("sagemaker", "delete_endpoint", EndpointName=name)
    if not account.dry_run:
        settled(account, name, reporter, poll)
