"""Automatic scaling of an endpoint's instances with Application Auto Scaling."""

from __future__ import annotations

from typing import Any

import msgspec

from spoter.aws.deploy import requests
from spoter.aws.deploy.account import Account
from spoter.aws.deploy.settings import DeployError, Settings

SERVICE = "application-autoscaling"
DIMENSION = "sagemaker:variant:DesiredInstanceCount"

# Invocations a minute for one instance: 20 a second. A request like those in samples/ takes 5 to 8 ms of one core with
# the embedded model, one with all of Holistic's landmarks some 25 ms; ml.c5.large has one core, so that 40 a second are
# what it is expected to answer. Half of that, because new instances come minutes after the load (the safety factor of
# the developer guide's "Load testing your auto scaling configuration"). Measure your own model and instance type, and
# set autoscale-target.
INVOCATIONS = 1200.0
# Requests that wait for one instance: five, as in the developer guide's "Autoscale an asynchronous endpoint".
BACKLOG = 5.0
# Seconds. An instance takes minutes until it answers: until then the metric asks for more than is needed.
OUT_COOLDOWN = 300
# Going down is slower than going up, so that a pause in the traffic does not cost the instances it needs afterwards.
IN_COOLDOWN = 600


def apply(settings: Settings, account: Account) -> None:
    """Let the endpoint scale as the settings say, or not at all; what is right already is left as it is.

    Raises
    ------
    DeployError
        Where the endpoint is scaled by something that this deployment has not set up.
    """
    scaling = settings.scaling()
    target = _target(account, settings.name)
    ours = target is not None and _is_ours(settings, account, target)
    if scaling is None:
        if ours:
            remove(settings, account)
        return
    if target is not None and not ours:
        raise DeployError(
            f"endpoint {settings.name} is scaled from {target['MinCapacity']} to {target['MaxCapacity']} instances, "
            f"which deploy.py has not set up: `aws {SERVICE} deregister-scalable-target --service-namespace sagemaker "
            f"--resource-id {_resource(settings.name)} --scalable-dimension {DIMENSION}` ends that; or leave autoscale "
            "out"
        )
    if target is not None and _is_as_told(settings, account, target):
        return
    where = _where(settings.name)
    tags = {"Tags": requests.tags(settings)} if target is None else {}  # AWS takes them only when a target is made
    account.call(
        SERVICE, "register_scalable_target", **where, MinCapacity=scaling.least, MaxCapacity=scaling.most, **tags
    )
    account.call(
        SERVICE,
        "put_scaling_policy",
        **where,
        PolicyName=load_policy(settings.name),
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration=_tracking(settings),
    )
    if scaling.least == 0:
        _wake(settings, account)
    else:
        _drop_wake(settings, account)


def remove(settings: Settings, account: Account) -> None:
    """End what `apply` has set up; nothing where nothing is, or where it is not ours."""
    target = _target(account, settings.name)
    if account.dry_run or (target is not None and _is_ours(settings, account, target)):
        for policy in _policies(settings, account):
            account.call(SERVICE, "delete_scaling_policy", **_where(settings.name), PolicyName=policy["PolicyName"])
        account.call(SERVICE, "deregister_scalable_target", **_where(settings.name))
    if (alarm := find_alarm(settings, account)) is not None:
        account.call("cloudwatch", "delete_alarms", AlarmNames=[alarm["AlarmName"]])


def as_found(settings: Settings, account: Account) -> Settings:
    """Return the settings with the scaling that is there now and is ours, for `apply` to set it up again."""
    target = find_target(settings, account)
    if target is None:
        return msgspec.structs.replace(settings, autoscale=None)
    policies = {policy["PolicyName"]: policy for policy in _policies(settings, account)}
    tracking = policies.get(load_policy(settings.name), {}).get("TargetTrackingScalingPolicyConfiguration", {})
    bounds = f"{target['MinCapacity']}:{target['MaxCapacity']}"
    return msgspec.structs.replace(settings, autoscale=bounds, autoscale_target=tracking.get("TargetValue"))


def find_target(settings: Settings, account: Account) -> dict[str, Any] | None:
    """Return the endpoint's scalable target where it is ours."""
    target = _target(account, settings.name)
    return target if target is not None and _is_ours(settings, account, target) else None


def find_alarm(settings: Settings, account: Account) -> dict[str, Any] | None:
    """Return the alarm that wakes an endpoint without instances, where it is ours."""
    found = account.read("cloudwatch", "describe_alarms", AlarmNames=[wake_policy(settings.name)])
    for alarm in (found or {}).get("MetricAlarms", []):
        tags = account.read("cloudwatch", "list_tags_for_resource", ResourceARN=alarm["AlarmArn"]) or {}
        if {"Key": requests.TAG, "Value": settings.name} in tags.get("Tags", []):
            return alarm
    return None


def load_policy(name: str) -> str:
    """Return the name of the policy that follows the load."""
    return f"{name}-load"


def wake_policy(name: str) -> str:
    """Return the name of the policy, and of its alarm, that makes the first instance."""
    return f"{name}-wake"


def _tracking(settings: Settings) -> dict[str, Any]:
    cooldowns = {"ScaleInCooldown": IN_COOLDOWN, "ScaleOutCooldown": OUT_COOLDOWN}
    if settings.mode == "async":
        metric = {
            "MetricName": "ApproximateBacklogSizePerInstance",
            "Namespace": "AWS/SageMaker",
            "Dimensions": [{"Name": "EndpointName", "Value": settings.name}],
            "Statistic": "Average",
        }
        return {
            "TargetValue": settings.autoscale_target or BACKLOG,
            "CustomizedMetricSpecification": metric,
        } | cooldowns
    metric = {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"}
    return {
        "TargetValue": settings.autoscale_target or INVOCATIONS,
        "PredefinedMetricSpecification": metric,
    } | cooldowns


def _wake(settings: Settings, account: Account) -> None:
    """Add one instance when something waits and there is none.

    A backlog per instance says nothing where there are no instances: without this the endpoint would sleep until the
    backlog were above the target (developer guide, "Define a scaling policy that scales up from zero").
    """
    name = wake_policy(settings.name)
    answer = account.call(
        SERVICE,
        "put_scaling_policy",
        **_where(settings.name),
        PolicyName=name,
        PolicyType="StepScaling",
        StepScalingPolicyConfiguration={
            "AdjustmentType": "ChangeInCapacity",
            "MetricAggregationType": "Average",
            "Cooldown": OUT_COOLDOWN,
            "StepAdjustments": [{"MetricIntervalLowerBound": 0.0, "ScalingAdjustment": 1}],
        },
    )
    account.call(
        "cloudwatch",
        "put_metric_alarm",
        AlarmName=name,
        AlarmDescription=f"A request waits for endpoint {settings.name}, which has no instance",
        AlarmActions=[answer["PolicyARN"] if answer else "POLICY-ARN"],
        Namespace="AWS/SageMaker",
        MetricName="HasBacklogWithoutCapacity",
        Dimensions=[{"Name": "EndpointName", "Value": settings.name}],
        Statistic="Average",
        Period=60,
        EvaluationPeriods=2,
        DatapointsToAlarm=2,
        Threshold=1.0,
        ComparisonOperator="GreaterThanOrEqualToThreshold",
        TreatMissingData="missing",
        Tags=requests.tag_list(settings),
    )


def _is_as_told(settings: Settings, account: Account, target: dict[str, Any]) -> bool:
    """Tell whether a target has the settings' bounds, and just the policies and the alarm that go with them."""
    scaling = settings.scaling()
    if (target["MinCapacity"], target["MaxCapacity"]) != (scaling.least, scaling.most):
        return False
    found = {policy["PolicyName"]: policy for policy in _policies(settings, account)}
    expected = {load_policy(settings.name)} | ({wake_policy(settings.name)} if scaling.least == 0 else set())
    if found.keys() != expected or (find_alarm(settings, account) is not None) != (scaling.least == 0):
        return False
    tracking = found[load_policy(settings.name)].get("TargetTrackingScalingPolicyConfiguration", {})
    return all(tracking.get(key) == value for key, value in _tracking(settings).items())


def _policies(settings: Settings, account: Account) -> list[dict[str, Any]]:
    where = {"ServiceNamespace": "sagemaker", "ResourceId": _resource(settings.name)}
    return account.pages(SERVICE, "describe_scaling_policies", "ScalingPolicies", **where)


def _drop_wake(settings: Settings, account: Account) -> None:
    name = wake_policy(settings.name)
    if any(policy["PolicyName"] == name for policy in _policies(settings, account)):
        account.call(SERVICE, "delete_scaling_policy", **_where(settings.name), PolicyName=name)
    if find_alarm(settings, account) is not None:
        account.call("cloudwatch", "delete_alarms", AlarmNames=[name])


def _target(account: Account, name: str) -> dict[str, Any] | None:
    told = {"ServiceNamespace": "sagemaker", "ResourceIds": [_resource(name)], "ScalableDimension": DIMENSION}
    found = account.pages(SERVICE, "describe_scalable_targets", "ScalableTargets", **told)
    return found[0] if found else None


def _is_ours(settings: Settings, account: Account, target: dict[str, Any]) -> bool:
    arn = target.get("ScalableTargetARN")
    answer = account.read(SERVICE, "list_tags_for_resource", ResourceARN=arn) if arn else None
    return (answer or {}).get("Tags", {}).get(requests.TAG) == settings.name


def _resource(name: str) -> str:
    return f"endpoint/{name}/variant/{requests.VARIANT}"


def _where(name: str) -> dict[str, str]:
    return {"ServiceNamespace": "sagemaker", "ResourceId": _resource(name), "ScalableDimension": DIMENSION}
