"""Automatic scaling: registration in each mode, repetition, changes and removal."""

from __future__ import annotations

import pytest

from spoter.aws.deploy import autoscale
from spoter.aws.deploy.account import Account
from spoter.aws.deploy.settings import DeployError
from tests.aws.deploy.deploying import make_settings

DIMENSION = {
    "ServiceNamespace": "sagemaker",
    "ResourceId": "endpoint/spoter/variant/AllTraffic",
    "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
}


def apply(**fields) -> None:
    settings = make_settings(**fields)
    autoscale.apply_scaling(settings, Account(settings))


def current_scaling(cloud) -> tuple[list[tuple[int, int]], dict[str, dict], list[str]]:
    """Return bounds, policies by name and alarms in the account."""
    client, alarms = cloud.client("application-autoscaling"), cloud.client("cloudwatch").describe_alarms()
    targets = client.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]
    policies = client.describe_scaling_policies(ServiceNamespace="sagemaker")["ScalingPolicies"]
    bounds = [(target["MinCapacity"], target["MaxCapacity"]) for target in targets]
    return (
        bounds,
        {policy["PolicyName"]: policy for policy in policies},
        [alarm["AlarmName"] for alarm in alarms["MetricAlarms"]],
    )


def test_realtime_scaling_follows_invocations(cloud):
    apply(autoscale="1:4", tags={"team": "signs"})
    bounds, policies, alarms = current_scaling(cloud)
    assert (bounds, list(policies), alarms) == ([(1, 4)], ["spoter-load"], [])
    tracking = policies["spoter-load"]["TargetTrackingScalingPolicyConfiguration"]
    metric = tracking["PredefinedMetricSpecification"]["PredefinedMetricType"]
    assert (metric, tracking["TargetValue"]) == ("SageMakerVariantInvocationsPerInstance", autoscale.INVOCATIONS)
    assert tracking["ScaleInCooldown"] > tracking["ScaleOutCooldown"] > 0
    assert cloud.called("RegisterScalableTarget")[0]["Tags"] == {"spoter:deployment": "spoter", "team": "signs"}


def test_asynchronous_scaling_from_zero_has_a_wake_policy_and_alarm(cloud):
    apply(mode="async", autoscale="0:2", autoscale_target=3)
    bounds, policies, alarms = current_scaling(cloud)
    assert (bounds, sorted(policies), alarms) == ([(0, 2)], ["spoter-load", "spoter-wake"], ["spoter-wake"])
    tracking = policies["spoter-load"]["TargetTrackingScalingPolicyConfiguration"]
    assert tracking["CustomizedMetricSpecification"]["MetricName"] == "ApproximateBacklogSizePerInstance"
    assert tracking["TargetValue"] == 3
    steps = policies["spoter-wake"]["StepScalingPolicyConfiguration"]
    assert steps["StepAdjustments"] == [{"MetricIntervalLowerBound": 0.0, "ScalingAdjustment": 1}]
    alarm = cloud.client("cloudwatch").describe_alarms(AlarmNames=["spoter-wake"])["MetricAlarms"][0]
    assert alarm["MetricName"] == "HasBacklogWithoutCapacity"
    assert alarm["Dimensions"] == [{"Name": "EndpointName", "Value": "spoter"}]
    assert alarm["AlarmActions"] == [policies["spoter-wake"]["PolicyARN"]]


def test_repetition_changes_nothing_and_new_bounds_remove_the_wake_policy(cloud):
    apply(mode="async", autoscale="0:2")
    before = current_scaling(cloud)
    apply(mode="async", autoscale="0:2")
    assert current_scaling(cloud)[0] == before[0] and current_scaling(cloud)[1].keys() == before[1].keys()
    apply(mode="async", autoscale="1:5")
    bounds, policies, alarms = current_scaling(cloud)
    assert (bounds, list(policies), alarms) == ([(1, 5)], ["spoter-load"], []), "the wake policy remains"


def test_scaling_is_removed_when_autoscale_is_omitted(cloud):
    apply(mode="async", autoscale="0:2")
    apply(mode="async")
    assert current_scaling(cloud) == ([], {}, [])
    apply(mode="async")


def test_scaling_of_others_is_not_changed(cloud):
    cloud.client("application-autoscaling").register_scalable_target(**DIMENSION, MinCapacity=2, MaxCapacity=3)
    apply()
    assert current_scaling(cloud)[0] == [(2, 3)]
    with pytest.raises(DeployError, match=r"from 2 to 3 "):
        apply(autoscale="1:4")
    settings = make_settings()
    autoscale.remove_scaling(settings, Account(settings))
    assert current_scaling(cloud)[0] == [(2, 3)]


def test_dry_run_prints_all_calls(cloud):
    settings, lines = make_settings(mode="async", autoscale="0:2"), []
    autoscale.apply_scaling(settings, Account(settings, dry_run=True, show=lines.append))
    assert cloud.calls == []
    verbs = [line.split()[1] for line in lines]
    assert verbs == [
        "describe_scalable_targets",
        "register_scalable_target",
        "put_scaling_policy",
        "put_scaling_policy",
        "put_metric_alarm",
    ]
