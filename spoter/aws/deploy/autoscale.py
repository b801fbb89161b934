"""Automatic scaling of an endpoint's instances with Application Auto Scaling."""

from typing import Any

import msgspec

from spoter.aws.choices import Mode
from spoter.aws.deploy import requests
from spoter.aws.deploy.account import Account
from spoter.aws.deploy.ownership import has_our_tag
from spoter.aws.deploy.settings import DeployError, ScalingBounds, Settings

SERVICE = "application-autoscaling"
DIMENSION = "sagemaker:variant:DesiredInstanceCount"

# Invocations per minute for one instance, 20 per second. With the bundled model, a request like those in samples/ takes
# 5 to 8 ms of one core, and a request with all landmarks of Holistic about 25 ms. ml.c5.large has one core and should
# answer 40 requests per second. The target is half of that, because new instances start minutes after the load rises
# (the safety factor of "Load testing your auto scaling configuration" in the developer guide). For another model or
# instance type: measure, then set autoscale-target.
INVOCATIONS = 1200.0
# Waiting requests per instance, as in "Autoscale an asynchronous endpoint" of the developer guide.
BACKLOG = 5.0
# Seconds. An instance needs minutes to start; until then the metric asks for more instances than needed.
OUT_COOLDOWN = 300
# Seconds. Scaling in is slower than scaling out, so that a short pause in the traffic does not remove instances.
IN_COOLDOWN = 600


def apply_scaling(settings: Settings, account: Account) -> None:
    """Set up automatic scaling as in the settings, or remove it; do nothing if the current setup matches.

    Raises
    ------
    DeployError
        If the endpoint has automatic scaling that this deployment did not set up.
    """
    bounds = settings.scaling()
    target = _describe_target(account, settings.name)
    is_ours = target is not None and _is_ours(settings, account, target)
    if bounds is None:
        if is_ours:
            remove_scaling(settings, account)
        return
    if target is not None and not is_ours:
        raise DeployError(
            f"endpoint {settings.name} is already scaled from {target['MinCapacity']} to {target['MaxCapacity']} "
            "instances, but not by `spoter deploy`: leave autoscale out, or remove that scaling with "
            f"`aws {SERVICE} deregister-scalable-target --service-namespace sagemaker --resource-id "
            f"{_resource_id(settings.name)} --scalable-dimension {DIMENSION}`"
        )
    if target is not None and _is_current(settings, account, bounds, target):
        return
    dimension = _dimension(settings.name)
    tags = {"Tags": requests.tags(settings)} if target is None else {}  # AWS accepts tags only for a new target
    account.call(
        SERVICE, "register_scalable_target", **dimension, MinCapacity=bounds.minimum, MaxCapacity=bounds.maximum, **tags
    )
    account.call(
        SERVICE,
        "put_scaling_policy",
        **dimension,
        PolicyName=load_policy(settings.name),
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration=_tracking(settings),
    )
    wake_name = wake_policy(settings.name)
    if bounds.minimum == 0:
        _put_wake_policy(settings, account)
        return
    if wake_name in _read_policies(settings, account):
        account.call(SERVICE, "delete_scaling_policy", **dimension, PolicyName=wake_name)
    _delete_alarm(settings, account)


def remove_scaling(settings: Settings, account: Account) -> None:
    """Remove the scaling that `apply_scaling` set up, if there is any; leave other scaling alone."""
    dimension = _dimension(settings.name)
    if account.dry_run or find_target(settings, account) is not None:
        for name in _read_policies(settings, account):
            account.call(SERVICE, "delete_scaling_policy", **dimension, PolicyName=name)
        account.call(SERVICE, "deregister_scalable_target", **dimension)
    _delete_alarm(settings, account)


def with_current_scaling(settings: Settings, account: Account) -> Settings:
    """Return the settings with the scaling that this deployment currently has, for `apply_scaling` to restore."""
    target = find_target(settings, account)
    if target is None:
        return msgspec.structs.replace(settings, autoscale=None)
    policy = _read_policies(settings, account).get(load_policy(settings.name), {})
    tracking = policy.get("TargetTrackingScalingPolicyConfiguration", {})
    bounds = f"{target['MinCapacity']}:{target['MaxCapacity']}"
    return msgspec.structs.replace(settings, autoscale=bounds, autoscale_target=tracking.get("TargetValue"))


def find_target(settings: Settings, account: Account) -> dict[str, Any] | None:
    """Return the endpoint's scalable target if this deployment registered it, else None."""
    target = _describe_target(account, settings.name)
    return target if target is not None and _is_ours(settings, account, target) else None


def find_alarm(settings: Settings, account: Account) -> str | None:
    """Return the name of this deployment's alarm that wakes an endpoint without instances, or None."""
    response = account.read("cloudwatch", "describe_alarms", AlarmNames=[wake_policy(settings.name)]) or {}
    for alarm in response.get("MetricAlarms", []):
        tagging = account.read("cloudwatch", "list_tags_for_resource", ResourceARN=alarm["AlarmArn"]) or {}
        if has_our_tag(settings, tagging.get("Tags")):
            return str(alarm["AlarmName"])
    return None


def load_policy(name: str) -> str:
    """Return the name of the policy that follows the load."""
    return f"{name}-load"


def wake_policy(name: str) -> str:
    """Return the name of the policy, and of its alarm, that starts the first instance."""
    return f"{name}-wake"


def _tracking(settings: Settings) -> dict[str, Any]:
    cooldowns = {"ScaleInCooldown": IN_COOLDOWN, "ScaleOutCooldown": OUT_COOLDOWN}
    if settings.mode == Mode.asynchronous:
        metric = {
            "MetricName": "ApproximateBacklogSizePerInstance",
            "Namespace": "AWS/SageMaker",
            "Dimensions": [{"Name": "EndpointName", "Value": settings.name}],
            "Statistic": "Average",
        }
        target = {"TargetValue": settings.autoscale_target or BACKLOG, "CustomizedMetricSpecification": metric}
    else:
        predefined = {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"}
        target = {"TargetValue": settings.autoscale_target or INVOCATIONS, "PredefinedMetricSpecification": predefined}
    return target | cooldowns


def _put_wake_policy(settings: Settings, account: Account) -> None:
    """Add a policy and an alarm that start the first instance when a request waits.

    Without instances there is no backlog per instance: the endpoint would stay without instances until the backlog
    exceeds the target (developer guide, "Define a scaling policy that scales up from zero").
    """
    name = wake_policy(settings.name)
    policy = account.call(
        SERVICE,
        "put_scaling_policy",
        **_dimension(settings.name),
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
        AlarmActions=[policy["PolicyARN"] if policy else "POLICY-ARN"],
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


def _delete_alarm(settings: Settings, account: Account) -> None:
    alarm = find_alarm(settings, account)
    if alarm is not None:
        account.call("cloudwatch", "delete_alarms", AlarmNames=[alarm])


def _is_current(settings: Settings, account: Account, bounds: ScalingBounds, target: dict[str, Any]) -> bool:
    """Return whether a target has these bounds, and exactly the policies and the alarm for them."""
    if (target["MinCapacity"], target["MaxCapacity"]) != (bounds.minimum, bounds.maximum):
        return False
    needs_wake = bounds.minimum == 0
    policies = _read_policies(settings, account)
    expected = {load_policy(settings.name)} | ({wake_policy(settings.name)} if needs_wake else set())
    if policies.keys() != expected or (find_alarm(settings, account) is not None) != needs_wake:
        return False
    tracking = policies[load_policy(settings.name)].get("TargetTrackingScalingPolicyConfiguration", {})
    return all(tracking.get(key) == value for key, value in _tracking(settings).items())


def _read_policies(settings: Settings, account: Account) -> dict[str, dict[str, Any]]:
    """Return the endpoint's scaling policies by name."""
    resource = {"ServiceNamespace": "sagemaker", "ResourceId": _resource_id(settings.name)}
    policies = account.pages(SERVICE, "describe_scaling_policies", "ScalingPolicies", **resource)
    return {policy["PolicyName"]: policy for policy in policies}


def _describe_target(account: Account, name: str) -> dict[str, Any] | None:
    query = {"ServiceNamespace": "sagemaker", "ResourceIds": [_resource_id(name)], "ScalableDimension": DIMENSION}
    targets = account.pages(SERVICE, "describe_scalable_targets", "ScalableTargets", **query)
    return targets[0] if targets else None


def _is_ours(settings: Settings, account: Account, target: dict[str, Any]) -> bool:
    arn = target.get("ScalableTargetARN")
    tagging = account.read(SERVICE, "list_tags_for_resource", ResourceARN=arn) if arn else None
    return bool((tagging or {}).get("Tags", {}).get(requests.TAG) == settings.name)


def _resource_id(name: str) -> str:
    return f"endpoint/{name}/variant/{requests.VARIANT}"


def _dimension(name: str) -> dict[str, str]:
    return {"ServiceNamespace": "sagemaker", "ResourceId": _resource_id(name), "ScalableDimension": DIMENSION}
