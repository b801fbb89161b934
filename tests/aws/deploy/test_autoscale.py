"""Automatic scaling: what is registered in each mode, twice, changed, and ended."""

from __future__ import annotations

import pytest

from spoter.aws.deploy import autoscale
from spoter.aws.deploy.account import Account
from spoter.aws.deploy.settings import DeployError
from tests.aws.deploy.deploying import told_settings

WHERE = {
    "ServiceNamespace": "sagemaker",
    "ResourceId": "endpoint/spoter/variant/AllTraffic",
    "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
}


def apply(**fields) -> None:
    settings = told_settings(**fields)
    autoscale.apply_scaling(settings, Account(settings))


def there(cloud) -> tuple[list[tuple[int, int]], dict[str, dict], list[str]]:
    """Return bounds, policies by name and alarms that the account has."""
    client, alarms = cloud.client("application-autoscaling"), cloud.client("cloudwatch").describe_alarms()
    targets = client.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]
    policies = client.describe_scaling_policies(ServiceNamespace="sagemaker")["ScalingPolicies"]
    bounds = [(target["MinCapacity"], target["MaxCapacity"]) for target in targets]
    return bounds, {one["PolicyName"]: one for one in policies}, [one["AlarmName"] for one in alarms["MetricAlarms"]]


def test_a_real_time_endpoint_follows_its_invocations(cloud):
    apply(autoscale="1:4", tags={"team": "signs"})
    bounds, policies, alarms = there(cloud)
    assert (bounds, list(policies), alarms) == ([(1, 4)], ["spoter-load"], [])
    tracking = policies["spoter-load"]["TargetTrackingScalingPolicyConfiguration"]
    metric = tracking["PredefinedMetricSpecification"]["PredefinedMetricType"]
    assert (metric, tracking["TargetValue"]) == ("SageMakerVariantInvocationsPerInstance", autoscale.INVOCATIONS)
    assert tracking["ScaleInCooldown"] > tracking["ScaleOutCooldown"] > 0
    assert cloud.called("RegisterScalableTarget")[0]["Tags"] == {"spoter:deployment": "spoter", "team": "signs"}


def test_an_asynchronous_endpoint_sleeps_and_is_woken(cloud):
    apply(mode="async", autoscale="0:2", autoscale_target=3)
    bounds, policies, alarms = there(cloud)
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


def test_again_changes_nothing_and_other_bounds_change_only_those(cloud):
    apply(mode="async", autoscale="0:2")
    before = there(cloud)
    apply(mode="async", autoscale="0:2")
    assert there(cloud)[0] == before[0] and there(cloud)[1].keys() == before[1].keys()
    apply(mode="async", autoscale="1:5")
    bounds, policies, alarms = there(cloud)
    assert (bounds, list(policies), alarms) == ([(1, 5)], ["spoter-load"], []), "it is still woken from 0"


def test_without_autoscale_ours_is_ended(cloud):
    apply(mode="async", autoscale="0:2")
    apply(mode="async")
    assert there(cloud) == ([], {}, [])
    apply(mode="async")


def test_what_others_have_set_up_is_left_alone(cloud):
    cloud.client("application-autoscaling").register_scalable_target(**WHERE, MinCapacity=2, MaxCapacity=3)
    apply()
    assert there(cloud)[0] == [(2, 3)]
    with pytest.raises(DeployError, match=r"scaled from 2 to 3 instances, which `spoter deploy` has not set up"):
        apply(autoscale="1:4")
    settings = told_settings()
    autoscale.remove_scaling(settings, Account(settings))
    assert there(cloud)[0] == [(2, 3)]


def test_a_dry_run_shows_all_of_it(cloud):
    settings, lines = told_settings(mode="async", autoscale="0:2"), []
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
