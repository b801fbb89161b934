"""Status, logs, and the removal of all that carries the tag and of nothing else."""

from __future__ import annotations

import pytest

from spoter.aws.deploy import manage
from spoter.aws.deploy import ownership as tagged
from spoter.aws.deploy.account import Account
from spoter.aws.deploy.settings import DeployError
from tests.aws.deploy.cloud import REGION
from tests.aws.deploy.containers import in_process
from tests.aws.deploy.deploying import BUCKET, QUOTAS, make_alarm, make_role, names, run, told_settings
from tests.aws.deploy.made import ROLE, make

GROUP = "/aws/sagemaker/Endpoints/spoter"


def lines(**fields) -> dict[str, str]:
    settings = told_settings(**fields)
    told = manage.status_lines(settings, Account(settings))
    return {line[:14].strip(): line[15:] for line in told}


def remove(shown: list[str] | None = None, **fields) -> list[str]:
    """Delete everything and return what was found."""
    settings = told_settings(**fields)
    account = Account(settings)
    found = manage.list_resources(settings, account)
    manage.delete_resources(settings, account, found, (shown if shown is not None else []).append, poll=0)
    return [str(thing) for thing in found]


def test_status(cloud):
    make(cloud, mode="async", autoscale="0:2")
    told = lines(mode="async")
    assert told["endpoint"] == "spoter in eu-central-1"
    assert told["status"].startswith("InService since 20")
    assert told["mode"] == "async"
    assert told["variant"] == "AllTraffic: 1 instances of ml.c5.large, 1 wanted"
    assert "pytorch-inference:2.6.0-cpu-py312" in told["image"]
    assert told["archive"].startswith(f"s3://{BUCKET}/spoter/spoter/")
    assert told["scaling"] == "0 to 2 instances"
    assert (told["capture"], told["failure"]) == ("off", "none")


def test_status_of_other_modes_and_of_nothing(cloud):
    make(cloud, mode="serverless", memory_mb=2048)
    assert any("serverless, 2048 MB" in value for value in lines().values())
    with pytest.raises(DeployError, match="found no endpoint other"):
        lines(name="other")


def test_status_tells_the_last_failure(cloud):
    config = make(cloud, capture_percent=10)
    cloud.sagemaker.fail("UpdateEndpoint", "the new model did not answer /ping")
    sagemaker = cloud.client("sagemaker")
    sagemaker.update_endpoint(EndpointName="spoter", EndpointConfigName=config)
    while sagemaker.describe_endpoint(EndpointName="spoter")["EndpointStatus"] != "InService":
        pass  # each look brings it on
    told = lines()
    assert told["status"].startswith("InService")
    assert told["failure"] == "the new model did not answer /ping"
    assert told["capture"].startswith("10 % to s3://")


def test_delete_leaves_nothing_of_what_deploy_has_made(cloud, dgs11):
    """The one test here that runs deploy.py's steps; the others put the same things there by the same requests."""
    make_role(cloud)
    cloud.container, cloud.quotas = in_process(dgs11), QUOTAS
    assert run(cloud, mode="serverless").error is None
    remove()
    assert names(cloud) == {"endpoints": [], "configs": [], "models": [], "buckets": [], "objects": []}


@pytest.mark.parametrize("fields", [{}, {"mode": "async", "autoscale": "0:2"}, {"autoscale": "1:2"}])
def test_delete_leaves_nothing_of_a_deployment(cloud, fields):
    make(cloud, **fields)
    found = remove()  # by name alone
    assert any(thing.startswith("endpoint spoter") for thing in found)
    assert names(cloud) == {"endpoints": [], "configs": [], "models": [], "buckets": [], "objects": []}
    assert cloud.client("cloudwatch").describe_alarms()["MetricAlarms"] == []
    assert remove() == []


def test_delete_in_the_right_order(cloud):
    make(cloud, mode="async", autoscale="0:2")
    cloud.calls.clear()
    remove()
    verbs = [one for one in cloud.operations() if one.startswith(("Delete", "Deregister", "DELETE"))]
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


def test_delete_finds_a_bucket_and_prefix_by_the_model(cloud):
    s3 = cloud.client("s3")
    s3.create_bucket(Bucket="mine", CreateBucketConfiguration={"LocationConstraint": REGION})
    make(cloud, bucket="mine", prefix="models/signs")
    assert any(thing.startswith("object s3://mine/models/signs/spoter/") for thing in remove())
    assert s3.list_objects_v2(Bucket="mine")["KeyCount"] == 0
    assert "mine" in names(cloud)["buckets"], "a bucket that was there before is not ours"


def test_what_lacks_the_tag_is_never_touched(cloud):
    """Things of other deployments, of people, and of names like ours."""
    make(cloud)
    make(cloud, name="spoter-two")
    sagemaker, s3 = cloud.client("sagemaker"), cloud.client("s3")
    sagemaker.create_model(ModelName="spoter-mine", ExecutionRoleArn=ROLE)
    s3.put_object(Bucket=BUCKET, Key="spoter/spoter/notes.txt", Body=b"mine")
    s3.put_object(Bucket=BUCKET, Key="spoter/spoter/captured/AllTraffic/1.jsonl", Body=b"{}")
    make_alarm(cloud, "spoter-wake")
    remove()
    left = names(cloud)
    assert left["endpoints"] == ["spoter-two"]
    assert len(left["configs"]) == 1 and left["configs"][0].startswith("spoter-two-")
    assert sorted(name.startswith("spoter-two-") or name == "spoter-mine" for name in left["models"]) == [True, True]
    assert left["buckets"] == [BUCKET]
    assert "spoter/spoter/notes.txt" in left["objects"] and len(left["objects"]) == 3
    assert len(cloud.client("cloudwatch").describe_alarms()["MetricAlarms"]) == 1
    settings = told_settings()
    told = manage.explain_remaining(settings, Account(settings), [])
    assert any("captured/ stays with 1 objects" in line for line in told)
    assert any(f"bucket {BUCKET} stays" in line for line in told)


def test_all_pages_are_looked_at(cloud):
    sagemaker = cloud.client("sagemaker")
    tags = [{"Key": "spoter:deployment", "Value": "spoter"}]
    variant = {"VariantName": "A", "ModelName": "spoter-m", "InitialInstanceCount": 1, "InstanceType": "ml.c5.large"}
    sagemaker.create_model(ModelName="spoter-m", ExecutionRoleArn=ROLE, Tags=tags)
    for number in range(105):  # a page of moto's has 100
        sagemaker.create_endpoint_config(EndpointConfigName=f"spoter-{number}", ProductionVariants=[variant], Tags=tags)
    assert len(remove()) == 106
    assert names(cloud)["configs"] == []


def test_a_running_job_is_stopped_and_a_finished_one_told(cloud):
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
    settings = told_settings()
    assert "the record of 2 transform jobs stays" in manage.explain_remaining(settings, Account(settings), [])[0]


def test_one_thing_that_cannot_be_removed_does_not_keep_the_others(cloud):
    make(cloud)
    cloud.refuse("DeleteModel", "AccessDeniedException", "not authorized to perform sagemaker:DeleteModel")
    with pytest.raises(DeployError, match=r"model spoter-.* is left: .*sagemaker:DeleteModel"):
        remove()
    left = names(cloud)
    assert (left["endpoints"], left["configs"], left["objects"], len(left["models"])) == ([], [], [], 1)


def test_what_is_gone_meanwhile_is_no_error(cloud):
    make(cloud)
    settings = told_settings()
    account, shown = Account(settings), []
    found = manage.list_resources(settings, account)
    manage.delete_resources(settings, account, found, shown.append, poll=0)
    manage.delete_resources(
        settings, account, [thing for thing in found if thing.kind != "object"], shown.append, poll=0
    )
    assert sum("is gone already" in line for line in shown) == 4


def test_logs(cloud):
    settings = told_settings()
    account, shown = Account(settings), []
    with pytest.raises(DeployError, match="holds nothing"):
        manage.show_logs(settings, account, False, shown.append)
    cloud.log(GROUP, "AllTraffic/i-1", ["one", "two"])
    manage.show_logs(settings, account, False, shown.append)
    assert [line.split(" ", 1)[1] for line in shown] == ["one", "two"]


def test_logs_are_followed_until_interrupted(cloud):
    cloud.log(GROUP, "AllTraffic/i-1", ["one"])
    settings, shown = told_settings(), []

    def show(line: str) -> None:
        shown.append(line.split(" ", 1)[1])
        if shown == ["one"]:
            cloud.log(GROUP, "AllTraffic/i-2", ["two", "three"])
        if "three" in shown:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        manage.show_logs(settings, Account(settings), True, show, poll=0)
    assert shown == ["one", "two", "three"]


def test_the_log_group_is_removed_once_it_is_tagged(cloud):
    settings = told_settings(tags={"team": "signs"})
    account = Account(settings)
    cloud.log(GROUP, "AllTraffic/i-1", ["one"])
    assert manage.list_resources(settings, account) == []
    assert tagged.tag_log_group(settings, account, since=0.0)
    cloud.log(f"{GROUP}-two", "AllTraffic/i-1", ["of another"])
    assert remove() == [f"log group {GROUP}"]
    groups = cloud.client("logs").describe_log_groups()["logGroups"]
    assert [group["logGroupName"] for group in groups] == [f"{GROUP}-two"]
