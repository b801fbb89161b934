"""Create, update and delete the endpoint, from every state that it can be in."""

import time
from typing import Any

from spoter.aws.deploy import autoscale, requests
from spoter.aws.deploy.account import Account, CallError
from spoter.aws.deploy.ownership import add_missing_tags, tag_log_group
from spoter.aws.deploy.progress import DeploymentFailed, Reporter, Undo
from spoter.aws.deploy.settings import DeployError, Settings
from spoter.aws.deploy.waiting import BUSY, POLL, explain_failure, wait_for_endpoint

# Seconds by which our clock may differ from AWS's; AWS refuses signatures with a larger difference.
CLOCK_SKEW = 300


def check_existing(settings: Settings, account: Account, reporter: Reporter, poll: float = POLL) -> bool:
    """Check an existing endpoint of this name, and wait until SageMaker is no longer changing it.

    Return whether SageMaker was changing it: an earlier run may have been interrupted before it tried the endpoint.

    Raises
    ------
    NameTaken
        If the endpoint does not belong to this deployment.
    DeployError
        If the endpoint has another mode.
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
    # SageMaker cannot turn an endpoint with instances into a serverless one (developer guide, "Update a serverless
    # endpoint"). An asynchronous endpoint has another operation, so that its clients would break with the update.
    if config is not None and (mode := requests.mode_of(config)) != settings.mode:
        raise DeployError(
            f"endpoint {settings.name} has mode {mode}, the settings have mode {settings.mode}; the mode cannot be "
            "changed. Delete the endpoint with `spoter deploy delete`, or choose another --name"
        )
    return busy


def bring_up(
    settings: Settings, account: Account, config_name: str, undo: Undo, reporter: Reporter, poll: float = POLL
) -> str:
    """Create or update the endpoint with a configuration; return ``created``, ``updated`` or ``unchanged``.

    Raises
    ------
    DeploymentFailed
        With AWS's reason and the last lines of the container's log.
    """
    name = settings.name
    group = requests.log_group(name)
    existing = account.read("sagemaker", "describe_endpoint", EndpointName=name)
    if existing is not None and existing["EndpointStatus"] == "Failed":
        # A failed endpoint can only be deleted (API reference, DescribeEndpoint).
        reason = explain_failure(account, group, existing.get("FailureReason", "no reason given"))
        _tag_log_group(settings, account, existing, reporter)
        reporter.note(f"endpoint {name} failed in an earlier run and is created again: {reason}")
        delete_endpoint(account, name, reporter, poll)
        existing = None
    since = time.time() - CLOCK_SKEW
    if existing is None:
        account.call("sagemaker", "create_endpoint", **requests.endpoint_request(settings, config_name))
        undo.add(f"endpoint {name}", lambda: delete_endpoint(account, name, reporter, poll))
    elif (existing["EndpointConfigName"], existing["EndpointStatus"]) == (config_name, "InService"):
        _tag_log_group(settings, account, existing, reporter)  # an interrupted run did not
        return "unchanged"
    else:
        _update(settings, account, existing, config_name, undo, reporter, poll)
    result = wait_for_endpoint(account, name, reporter, poll)
    change = "created" if existing is None else "updated"
    if account.dry_run:
        _tag_log_group(settings, account, {}, reporter)
        return change
    if result is None:
        raise DeploymentFailed(f"endpoint {name} was deleted by someone else")
    _tag_log_group(settings, account, result, reporter)
    status, serving = result["EndpointStatus"], result["EndpointConfigName"]
    if status != "InService" or serving != config_name:
        reason = explain_failure(account, group, result.get("FailureReason") or "AWS gives no reason", since=since)
        still = f", and still serves {serving}" if serving != config_name else ""
        raise DeploymentFailed(f"endpoint {name} is {status}{still}: {reason}")
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
                f"{requests.log_group(settings.name)} is older than the endpoint: `delete` will not remove it"
            )
    except CallError as error:
        reporter.warn(f"the log group could not be tagged, so `delete` will not remove it: {error}")


def _update(
    settings: Settings,
    account: Account,
    existing: dict[str, Any],
    config_name: str,
    undo: Undo,
    reporter: Reporter,
    poll: float,
) -> None:
    """Start the replacement of the instances, and register how to undo it."""
    old = existing["EndpointConfigName"]
    variant = (existing.get("ProductionVariants") or [{}])[0]
    request = requests.update_request(settings, config_name, variant.get("CurrentInstanceCount", 0))
    old_config = account.read("sagemaker", "describe_endpoint_config", EndpointConfigName=old) or {}
    if old_config.get("ProductionVariants", [{}])[0].get("InstanceType") not in (None, settings.instance_type):
        # SageMaker refuses another instance type while scaling is automatic (developer guide, "Update endpoints that
        # use auto scaling"); scaling is set up again after the update.
        previous = autoscale.with_current_scaling(settings, account)
        autoscale.remove_scaling(settings, account)
        undo.add("automatic scaling", lambda: autoscale.apply_scaling(previous, account), "restored")
    reporter.note(f"endpoint {settings.name} serves {old} until the new instances are ready")
    account.call("sagemaker", "update_endpoint", **request)
    undo.add(f"configuration {old}", lambda: _roll_back(settings, account, old, reporter, poll), "rolled back to")


def _roll_back(settings: Settings, account: Account, old: str, reporter: Reporter, poll: float) -> None:
    """Update the endpoint to its old configuration, unless SageMaker rolled back itself."""
    name = settings.name
    description = wait_for_endpoint(account, name, reporter, poll)
    if description is None or (description["EndpointConfigName"], description["EndpointStatus"]) == (old, "InService"):
        return
    retain = autoscale.find_target(settings, account) is not None  # if scaled: the current number
    request = {"EndpointName": name, "EndpointConfigName": old, "RetainAllVariantProperties": retain}
    account.call("sagemaker", "update_endpoint", **request)
    result = wait_for_endpoint(account, name, reporter, poll)
    if result is not None and (result["EndpointConfigName"], result["EndpointStatus"]) != (old, "InService"):
        raise DeployError(f"endpoint {name} is {result['EndpointStatus']}: {result.get('FailureReason', 'no reason')}")
