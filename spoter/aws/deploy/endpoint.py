"""The endpoint itself: created, updated or left as it is, whatever state it is in."""

from __future__ import annotations

import time
from typing import Any

from spoter.aws.deploy import autoscale, requests
from spoter.aws.deploy.account import Account, CallError
from spoter.aws.deploy.ownership import add_missing_tags, tag_log_group
from spoter.aws.deploy.progress import DeploymentFailed, Reporter, Undo
from spoter.aws.deploy.settings import DeployError, Settings
from spoter.aws.deploy.waiting import BUSY, POLL, explain_failure, wait_for_endpoint

# Our clock and AWS's may differ by this many seconds; AWS refuses signatures that differ by more.
CLOCK_SKEW = 300


def check_existing(settings: Settings, account: Account, reporter: Reporter, poll: float = POLL) -> bool:
    """Check an existing endpoint of this name, and wait until SageMaker is not busy with it.

    Return whether SageMaker was busy: an earlier run may have been interrupted before it tried the endpoint.

    Raises
    ------
    NameTaken
        Where it is not of this deployment.
    DeployError
        Where it is of another mode.
    """
    description = account.read("sagemaker", "describe_endpoint", EndpointName=settings.name)
    if description is None:
        return False
    add_missing_tags(settings, account, "Endpoint", description)
    busy = description["EndpointStatus"] in BUSY
    description = wait_for_endpoint(account, settings.name, reporter, poll)
    if description is None or description["EndpointStatus"] == "Failed":
        return busy
    name = description["EndpointConfigName"]
    config = account.read("sagemaker", "describe_endpoint_config", EndpointConfigName=name)
    # SageMaker turns no endpoint with instances into a serverless one (developer guide, "Update a serverless
    # endpoint"), and an asynchronous one has another operation: clients would break on the day of the update.
    if config is not None and (mode := requests.mode_of(config)) != settings.mode:
        raise DeployError(
            f"endpoint {settings.name} is of mode {mode}, found mode {settings.mode} in the settings: an endpoint "
            "keeps its mode. Remove it with `spoter deploy delete`, or deploy next to it with another --name"
        )
    return busy


def bring_up(
    settings: Settings, account: Account, config_name: str, undo: Undo, reporter: Reporter, poll: float = POLL
) -> str:
    """Let the endpoint serve a configuration; return ``created``, ``updated`` or ``unchanged``.

    Raises
    ------
    DeploymentFailed
        With AWS's reason and the last lines of the container's log.
    """
    name = settings.name
    group = requests.log_group(name)
    existing = account.read("sagemaker", "describe_endpoint", EndpointName=name)
    if existing is not None and existing["EndpointStatus"] == "Failed":
        # Deletion is all that SageMaker can do with it (API reference, DescribeEndpoint).
        reason = explain_failure(account, group, existing.get("FailureReason", "no reason given"))
        _tag_log_group(settings, account, existing, reporter)
        reporter.note(f"endpoint {name} has failed earlier and serves nothing; it is created again: {reason}")
        delete_endpoint(account, name, reporter, poll)
        existing = None
    since = time.time() - CLOCK_SKEW
    if existing is None:
        account.call("sagemaker", "create_endpoint", **requests.endpoint_request(settings, config_name))
        undo.add(f"endpoint {name}", lambda: delete_endpoint(account, name, reporter, poll))
    elif (existing["EndpointConfigName"], existing["EndpointStatus"]) == (config_name, "InService"):
        _tag_log_group(settings, account, existing, reporter)  # an interrupted run has not done it
        return "unchanged"
    else:
        _update(settings, account, existing, config_name, undo, reporter, poll)
    result = wait_for_endpoint(account, name, reporter, poll)
    change = "created" if existing is None else "updated"
    if account.dry_run:
        _tag_log_group(settings, account, {}, reporter)
        return change
    if result is None:
        raise DeploymentFailed(f"endpoint {name} is gone: someone else has deleted it")
    _tag_log_group(settings, account, result, reporter)
    status, serving = result["EndpointStatus"], result["EndpointConfigName"]
    if status != "InService" or serving != config_name:
        reason = explain_failure(account, group, result.get("FailureReason") or "AWS gives no reason", since=since)
        back = f", with {serving} as before" if serving != config_name else ""
        raise DeploymentFailed(f"endpoint {name} is {status}{back}: {reason}")
    return change


def delete_endpoint(account: Account, name: str, reporter: Reporter, poll: float = POLL) -> None:
    """Delete an endpoint and wait until it is gone."""
    account.call("sagemaker", "delete_endpoint", EndpointName=name)
    if not account.dry_run:
        wait_for_endpoint(account, name, reporter, poll)


def _tag_log_group(settings: Settings, account: Account, description: dict[str, Any], reporter: Reporter) -> None:
    """Tag the log group, which SageMaker creates when the first container logs."""
    created = description["CreationTime"].timestamp() if description else 0.0
    try:
        if not tag_log_group(settings, account, created):
            reporter.note(
                f"{requests.log_group(settings.name)} is older than the endpoint: `delete` will leave it alone"
            )
    except CallError as error:
        reporter.warn(f"the log group carries no tag, `delete` will not find it: {error}")


def _update(
    settings: Settings,
    account: Account,
    existing: dict[str, Any],
    config_name: str,
    undo: Undo,
    reporter: Reporter,
    poll: float,
) -> None:
    """Begin to replace the instances, and register how to undo that."""
    old = existing["EndpointConfigName"]
    variant = (existing.get("ProductionVariants") or [{}])[0]
    request = requests.update_request(settings, config_name, variant.get("CurrentInstanceCount", 0))
    old_config = account.read("sagemaker", "describe_endpoint_config", EndpointConfigName=old) or {}
    if old_config.get("ProductionVariants", [{}])[0].get("InstanceType") not in (None, settings.instance_type):
        # SageMaker refuses another instance type while scaling is automatic (developer guide, "Update endpoints that
        # use auto scaling"); it is set up again after the update.
        scaled = autoscale.with_current_scaling(settings, account)
        autoscale.remove_scaling(settings, account)
        undo.add("automatic scaling", lambda: autoscale.apply_scaling(scaled, account), "set up again")
    reporter.note(f"endpoint {settings.name} serves {old} until the new instances answer")
    account.call("sagemaker", "update_endpoint", **request)
    undo.add(f"configuration {old}", lambda: _go_back(settings, account, old, reporter, poll), "went back to")


def _go_back(settings: Settings, account: Account, old: str, reporter: Reporter, poll: float) -> None:
    """Let the old configuration serve again, where SageMaker has not gone back to it by itself."""
    name = settings.name
    description = wait_for_endpoint(account, name, reporter, poll)
    if description is None or (description["EndpointConfigName"], description["EndpointStatus"]) == (old, "InService"):
        return
    retain = autoscale.find_target(settings, account) is not None  # where they are scaled, as many as serve now
    request = {"EndpointName": name, "EndpointConfigName": old, "RetainAllVariantProperties": retain}
    account.call("sagemaker", "update_endpoint", **request)
    after = wait_for_endpoint(account, name, reporter, poll)
    if after is not None and (after["EndpointConfigName"], after["EndpointStatus"]) != (old, "InService"):
        raise DeployError(f"endpoint {name} is {after['EndpointStatus']}: {after.get('FailureReason', 'no reason')}")
