"""Status, logs, and deletion of exactly the resources with the deployment's tag."""

from __future__ import annotations

import pytest

from spoter.aws.deploy import manage, ownership
from spoter.aws.deploy.account import Account
from spoter.aws.deploy.settings import DeployError
from tests.aws.deploy.cloud import REGION
from tests.aws.deploy.containers import in_process
from tests.aws.deploy.deployed import ROLE, create_deployment
from tests.aws.deploy.deploying import BUCKET, QUOTAS, make_alarm, make_role, make_settings, resource_names, run

GROUP = "/aws/sagemaker/Endpoints/spoter"


def status(**fields) -> dict[str, str]:
    settings = make_settings(**fields)
    lines = manage.status_lines(settings, Account(settings))
    return {line[:14].strip(): line[15:] for line in lines}


def remove(shown: list[str] | None = None, **fields) -> list[str]:
    """Delete all resources of the deployment and return them."""
    settings = make_settings(**fields)
    account = Account(settings)
    resources = manage.list_resources(settings, account)
    manage.delete_resources(settings, account, resources, (shown if shown is not None else []).append, poll=0)
    return [str(resource) for resource in resources]


def test_status_of_an_asynchronous_endpoint(cloud):
    create_deployment(cloud, mode="async", autoscale="0:2")
    shown = status(mode="async")
    assert shown["endpoint"] == "spoter in eu-central-1"
    assert shown["status"].startswith("InService since 20")
    assert shown["mode"] == "async"
    assert shown["variant"] == "AllTraffic: 1 instances of ml.c5.large, 1 desired"
    assert "pytorch-inference:2.6.0-cpu-py312" in shown["image"]
    assert shown["archive"].startswith(f"s3://{BUCKET}/spoter/spoter/")
    assert shown["scaling"] == "0 to 2 instances"
    assert (shown["capture"], shown["failure"]) == ("off", "none")


def test_status_of_a_serverless_and_of_a_missing_endpoint(cloud):
    create_deployment(cloud, mode="serverless", memory_mb=2048)
    assert any("serverless, 2048 MB" in value for value in status().values())
    with pytest.raises(DeployError, match="endpoint other"):
        status(name="other")


def test_status_shows_the_last_failure(cloud):
    config = create_deployment(cloud, capture_percent=10)
    cloud.sagemaker.fail("UpdateEndpoint", "the new model did not answer /ping")
    sagemaker = cloud.client("sagemaker")
    sagemaker.update_endpoint(EndpointName="spoter", EndpointConfigName=config)
    while sagemaker.describe_endpoint(EndpointName="spoter")["EndpointStatus"] != "InService":
        pass  # each query advances the status
    shown = status()
    assert shown["status"].startswith("InService")
    assert shown["failure"] == "the new model did not answer /ping"
    assert shown["capture"].startswith("10 % to s3://")


def test_delete_removes_everything_after_a_real_deployment(cloud, dgs11):
    """The only test here that runs the steps of a deployment; the others create the same resources directly."""
    make_role(cloud)
    cloud.container, cloud.quotas = in_process(dgs11), QUOTAS
    assert run(cloud, mode="serverless").error is None
    remove()
    assert resource_names(cloud) == {"endpoints": [], "configs": [], "models": [], "buckets": [], "objects": []}


@pytest.mark.parametrize("fields", [{}, {"mode": "async", "autoscale": "0:2"}, {"autoscale": "1:2"}])
def test_delete_removes_all_resources(cloud, fields):
    create_deployment(cloud, **fields)
    removed = remove()  # with the name only
    assert any(resource.startswith("endpoint spoter") for resource in removed)
    assert resource_names(cloud) == {"endpoints": [], "configs": [], "models": [], "buckets": [], "objects": []}
    assert cloud.client("cloudwatch").describe_alarms()["MetricAlarms"] == []
    assert remove() == []


def test_delete_uses_the_right_order(cloud):
    create_deployment(cloud, mode="async", autoscale="0:2")
    cloud.calls.clear()
    remove()
    verbs = [verb for verb in cloud.operations() if verb.startswith(("Delete", "Deregister", "DELETE"))]
    assert verbs == [
        "DeleteScalingPolicy",
        "DeleteScalingPolicy",
        "DeregisterScalableTarget",
        "DeleteAlarms",
        "DeleteEndpoint",
        "DeleteEndpointConfig",
        "DeleteModel",
        "DELETE",
        "DELETE",
    ]


def test_delete_finds_bucket_and_prefix_through_the_model(cloud):
    s3 = cloud.client("s3")
    s3.create_bucket(Bucket="mine", CreateBucketConfiguration={"LocationConstraint": REGION})
    create_deployment(cloud, bucket="mine", prefix="models/signs")
    assert any(resource.startswith("object s3://mine/models/signs/spoter/") for resource in remove())
    assert s3.list_objects_v2(Bucket="mine")["KeyCount"] == 0
    assert "mine" in resource_names(cloud)["buckets"], "the older bucket was deleted"


def test_resources_without_the_tag_are_not_touched(cloud):
    """Resources of other deployments and of other people, some with similar names."""
    create_deployment(cloud)
    create_deployment(cloud, name="spoter-two")
    sagemaker, s3 = cloud.client("sagemaker"), cloud.client("s3")
    sagemaker.create_model(ModelName="spoter-mine", ExecutionRoleArn=ROLE)
    s3.put_object(Bucket=BUCKET, Key="spoter/spoter/notes.txt", Body=b"mine")
    s3.put_object(Bucket=BUCKET, Key="spoter/spoter/captured/AllTraffic/1.jsonl", Body=b"{}")
    make_alarm(cloud, "spoter-wake")
    remove()
    remaining = resource_names(cloud)
    assert remaining["endpoints"] == ["spoter-two"]
    assert len(remaining["configs"]) == 1 and remaining["configs"][0].startswith("spoter-two-")
    assert sorted(name.startswith("spoter-two-") or name == "spoter-mine" for name in remaining["models"]) == [
        True,
        True,
    ]
    assert remaining["buckets"] == [BUCKET]
    assert "spoter/spoter/notes.txt" in remaining["objects"] and len(remaining["objects"]) == 3
    assert len(cloud.client("cloudwatch").describe_alarms()["MetricAlarms"]) == 1
    settings = make_settings()
    explanations = manage.explain_remaining(settings, Account(settings), [])
    assert any("captured/ " in line and " 1 objects" in line for line in explanations)
    assert any(f"bucket {BUCKET} " in line for line in explanations)


def test_all_pages_of_a_listing_are_read(cloud):
    sagemaker = cloud.client("sagemaker")
    tags = [{"Key": "spoter:deployment", "Value": "spoter"}]
    variant = {"VariantName": "A", "ModelName": "spoter-m", "InitialInstanceCount": 1, "InstanceType": "ml.c5.large"}
    sagemaker.create_model(ModelName="spoter-m", ExecutionRoleArn=ROLE, Tags=tags)
    for number in range(105):  # a page of moto has 100
        sagemaker.create_endpoint_config(EndpointConfigName=f"spoter-{number}", ProductionVariants=[variant], Tags=tags)
    assert len(remove()) == 106
    assert resource_names(cloud)["configs"] == []


def test_running_job_is_stopped_and_finished_jobs_are_reported(cloud):
    sagemaker, s3 = cloud.client("sagemaker"), cloud.client("s3")
    s3.create_bucket(Bucket="clips", CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.put_object(Bucket="clips", Key="a.jsonl", Body=b"")
    sagemaker.create_model(ModelName="spoter-m", ExecutionRoleArn=ROLE)
    source = {"DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://clips/a.jsonl"}}}
    for job in ("spoter-1", "spoter-2"):
        sagemaker.create_transform_job(
            TransformJobName=job,
            ModelName="spoter-m",
            TransformInput=source | {"SplitType": "Line"},
            TransformOutput={"S3OutputPath": "s3://clips/out"},
            TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
            Tags=[{"Key": "spoter:deployment", "Value": "spoter"}],
        )
    for _ in range(2):
        sagemaker.describe_transform_job(TransformJobName="spoter-1")
    shown: list[str] = []
    assert remove(shown) == ["running transform job spoter-2"]
    assert shown == ["stopped running transform job spoter-2"]
    for _ in range(2):
        sagemaker.describe_transform_job(TransformJobName="spoter-2")
    assert remove() == []
    settings = make_settings()
    assert " 2 transform jobs " in manage.explain_remaining(settings, Account(settings), [])[0]


def test_failed_deletion_does_not_prevent_the_others(cloud):
    create_deployment(cloud)
    cloud.refuse("DeleteModel", "AccessDeniedException", "not authorized to perform sagemaker:DeleteModel")
    with pytest.raises(DeployError, match=r"model spoter-.*sagemaker:DeleteModel"):
        remove()
    remaining = resource_names(cloud)
    assert (remaining["endpoints"], remaining["configs"], remaining["objects"]) == ([], [], [])
    assert len(remaining["models"]) == 1


def test_deletion_of_missing_resources_is_not_an_error(cloud):
    create_deployment(cloud)
    settings = make_settings()
    account, shown = Account(settings), []
    resources = manage.list_resources(settings, account)
    manage.delete_resources(settings, account, resources, shown.append, poll=0)
    shown.clear()
    manage.delete_resources(
        settings, account, [resource for resource in resources if resource.kind != "object"], shown.append, poll=0
    )
    assert len(shown) == 4 and not any(line.startswith("removed") for line in shown)


def test_logs_show_the_last_lines(cloud):
    settings = make_settings()
    account, shown = Account(settings), []
    with pytest.raises(DeployError, match=GROUP):
        manage.show_logs(settings, account, False, shown.append)
    cloud.log(GROUP, "AllTraffic/i-1", ["one", "two"])
    manage.show_logs(settings, account, False, shown.append)
    assert [line.split(" ", 1)[1] for line in shown] == ["one", "two"]


def test_logs_are_followed_until_interrupted(cloud):
    cloud.log(GROUP, "AllTraffic/i-1", ["one"])
    settings, shown = make_settings(), []

    def show(line: str) -> None:
        shown.append(line.split(" ", 1)[1])
        if shown == ["one"]:
            cloud.log(GROUP, "AllTraffic/i-2", ["two", "three"])
        if "three" in shown:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        manage.show_logs(settings, Account(settings), True, show, poll=0)
    assert shown == ["one", "two", "three"]


def test_log_group_is_removed_only_if_tagged(cloud):
    settings = make_settings(tags={"team": "signs"})
    account = Account(settings)
    cloud.log(GROUP, "AllTraffic/i-1", ["one"])
    assert manage.list_resources(settings, account) == []
    assert ownership.tag_log_group(settings, account, since=0.0)
    cloud.log(f"{GROUP}-two", "AllTraffic/i-1", ["of another"])
    assert remove() == [f"log group {GROUP}"]
    groups = cloud.client("logs").describe_log_groups()["logGroups"]
    assert [group["logGroupName"] for group in groups] == [f"{GROUP}-two"]
