"""Checks before a deployment: each problem is reported, all of them together."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from spoter.aws.deploy import limits
from spoter.aws.deploy.account import Account
from spoter.aws.deploy.preflight import Preflight
from spoter.aws.deploy.settings import DeployError
from tests.aws.deploy.cloud import ACCOUNT, REGION
from tests.aws.deploy.deploying import BUCKET, QUOTAS, make_alarm, make_role, make_settings

IMAGE = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/spoter:1.0"


@pytest.fixture
def ready(cloud):
    make_role(cloud)
    cloud.quotas = QUOTAS
    return cloud


def check(model: Path, **fields):
    settings = make_settings(**fields)
    preflight = Preflight(settings, Account(settings), model)
    preflight.run()
    return preflight


def problems(model: Path, **fields) -> list[str]:
    with pytest.raises(DeployError) as error:
        check(model, **fields)
    return str(error.value).splitlines()[1:]


def test_ordinary_account_passes(ready, dgs11):
    preflight = check(dgs11)
    assert preflight.role_arn == f"arn:aws:iam::{ACCOUNT}:role/spoter-endpoint"
    assert (preflight.bucket, preflight.bucket_exists) == (BUCKET, False)
    assert [verb for verb in ready.operations() if verb.startswith(("Create", "Put", "Add", "PUT", "POST"))] == [
        "CreateRole"  # by the fixture
    ]


def test_all_problems_are_reported_together(cloud, dgs11):
    cloud.quotas = {"ml.m5.large for transform job usage": 0.0}
    reported = problems(dgs11, mode="batch", instance_type="ml.m5.large", bucket="not-there", capture_percent=5)
    assert len(reported) == 5
    for words in ("input", "capture-percent", "role spoter-endpoint", "bucket not-there", "is 0, expected"):
        assert any(words in line for line in reported), words


def test_checks_without_credentials_still_run_if_credentials_are_missing(cloud, dgs11, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    reported = problems(dgs11, mode="serverless", capture_percent=5)
    assert [("no AWS credentials" in line, "capture-percent" in line) for line in reported] == [
        (False, True),
        (True, False),
    ]
    assert cloud.calls == []


def test_invalid_keys_are_reported_with_awss_code(cloud, dgs11):
    cloud.refuse("GetCallerIdentity", "InvalidClientTokenId", "The security token included in the request is invalid")
    assert "InvalidClientTokenId" in problems(dgs11)[0]


@pytest.mark.parametrize(
    "statement",
    [
        {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"},
        {"Effect": "Deny", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"},
        {"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:TagSession"},
    ],
)
def test_role_that_sagemaker_cannot_assume(cloud, dgs11, statement):
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    cloud.client("iam").create_role(RoleName="spoter-endpoint", AssumeRolePolicyDocument=policy)
    assert "sagemaker.amazonaws.com" in problems(dgs11)[0]


def test_missing_permission_to_read_the_role_is_a_warning(ready, dgs11):
    ready.refuse("GetRole", "AccessDenied")
    preflight = check(dgs11)
    assert any("iam:GetRole" in line for line in preflight.warnings)
    assert preflight.role_arn == f"arn:aws:iam::{ACCOUNT}:role/spoter-endpoint"


def test_role_of_another_account(ready, dgs11):
    assert "999999999999" in problems(dgs11, role="arn:aws:iam::999999999999:role/spoter-endpoint")[0]


def test_bucket_of_another_account(ready, dgs11):
    ready.foreign_buckets.add("theirs")
    assert "bucket theirs" in problems(dgs11, bucket="theirs")[0]


def test_bucket_in_another_region(ready, dgs11):
    ready.client("s3", "us-west-2").create_bucket(
        Bucket="elsewhere", CreateBucketConfiguration={"LocationConstraint": "us-west-2"}
    )
    assert "is in us-west-2" in problems(dgs11, bucket="elsewhere")[0]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"instance_type": "ml.c5.huge"}, "ml.c5.huge"),
        ({"instance_type": "ml.c7g.large"}, "ml.c7g.large"),
        ({"instance_type": "ml.inf1.xlarge"}, "ml.inf1.xlarge"),
        ({"mode": "batch", "input": "s3://in/a.jsonl", "instance_type": "ml.c5.large"}, "ml.c5.large"),
        ({"mode": "serverless", "capture_percent": 1}, "capture-percent"),
        ({"mode": "async", "capture_percent": 1}, "capture-percent"),
        ({"mode": "serverless", "rollback_alarms": ("a",)}, "rollback-alarms"),
        ({"mode": "batch", "input": "in/a.jsonl", "instance_type": "ml.m5.large"}, "expected s3://"),
        ({"output": "s3://out/"}, "output with mode realtime"),
        ({"input": "s3://in/"}, "input with mode realtime"),
    ],
)
def test_settings_that_do_not_fit_the_mode(ready, dgs11, fields, words):
    assert any(words in line for line in problems(dgs11, **fields)), words


def test_serverless_memory_depends_on_the_model(ready, dgs11, tmp_path):
    assert not any("memory" in line for line in check(dgs11, mode="serverless").warnings)
    assert "expected at least 2048" in problems(dgs11, mode="serverless", memory_mb=1024)[0]
    shutil.copytree(dgs11, tmp_path / "large")
    for size, memory, words in ((400, 3072, "memory-mb 3072"), (800, 3072, "expected at least 5120")):
        with (tmp_path / "large" / "model.onnx").open("ab") as file:
            file.truncate(size * 2**20)  # sparse
        errors, warnings = limits.check_memory(make_settings(mode="serverless", memory_mb=memory), tmp_path / "large")
        assert words in (errors + warnings)[0]


def test_clips_above_the_limit_of_a_mode_are_a_warning(ready, dgs11, tmp_path):
    for mode in ("realtime", "serverless", "async"):
        assert check(dgs11, mode=mode).warnings == [], "an ordinary model gives warnings"
    shutil.copytree(dgs11, tmp_path / "long")
    config = json.loads((dgs11 / "config.json").read_text())
    for frames, modes in ((4000, ["serverless"]), (8000, ["realtime", "serverless"])):
        changed = config | {"max_frames": frames, "position_rows": frames}
        (tmp_path / "long" / "config.json").write_text(json.dumps(changed))
        warned = [
            mode
            for mode in ("realtime", "serverless", "async")
            if any(f"a clip of {frames} frames" in line for line in check(tmp_path / "long", mode=mode).warnings)
        ]
        assert warned == modes


def test_rollback_alarms_must_exist(ready, dgs11):
    reported = problems(dgs11, rollback_alarms=("errors", "slow"))
    assert ["alarm errors" in reported[0], "alarm slow" in reported[1], len(reported)] == [True, True, 2]
    make_alarm(ready, "errors")
    make_alarm(ready, "slow")
    check(dgs11, rollback_alarms=("errors", "slow"))


def test_quotas_are_compared_with_the_settings(ready, dgs11):
    ready.quotas = {"a": 1.0, "b": 1.0, "c": 1.0, "ml.c5.large for endpoint usage": 2.0}  # on the second page
    assert "is 2, expected at least 3" in problems(dgs11, instance_count=3)[0]
    assert "is 2, expected at least 4" in problems(dgs11, autoscale="1:4")[0]
    assert any("up to 4" in line for line in check(dgs11, instance_count=2).warnings)
    ready.quotas = None
    assert any("ListServiceQuotas" in line for line in check(dgs11).warnings)


def test_custom_image_must_exist_in_ecr(ready, dgs11):
    assert "no image" in problems(dgs11, image_uri=IMAGE)[0]
    ecr = ready.client("ecr")
    ecr.create_repository(repositoryName="spoter")
    assert "no image" in problems(dgs11, image_uri=IMAGE)[0]
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json", "layers": []}
    ecr.put_image(repositoryName="spoter", imageTag="1.0", imageManifest=json.dumps(manifest))
    check(dgs11, image_uri=IMAGE)
    assert "is in us-east-1" in problems(dgs11, image_uri=IMAGE.replace(REGION, "us-east-1"))[0]
    assert "docker.io/spoter:1.0" in problems(dgs11, image_uri="docker.io/spoter:1.0")[0]
    ready.refuse("DescribeImages", "AccessDeniedException")
    assert any("ecr:DescribeImages" in line for line in check(dgs11, image_uri=IMAGE).warnings)


def test_endpoint_name_of_another_owner(ready, dgs11):
    sagemaker = ready.client("sagemaker")
    variant = {"VariantName": "A", "ModelName": "m", "InitialInstanceCount": 1, "InstanceType": "ml.c5.large"}
    sagemaker.create_model(ModelName="m", ExecutionRoleArn=f"arn:aws:iam::{ACCOUNT}:role/spoter-endpoint")
    sagemaker.create_endpoint_config(EndpointConfigName="c", ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName="spoter", EndpointConfigName="c")
    assert "endpoint/spoter" in problems(dgs11)[0] and "--name" in problems(dgs11)[0]
    tags = [{"Key": "spoter:deployment", "Value": "spoter"}]
    sagemaker.add_tags(ResourceArn=sagemaker.describe_endpoint(EndpointName="spoter")["EndpointArn"], Tags=tags)
    check(dgs11)


def test_input_of_a_batch_job(ready, dgs11):
    fields = {"mode": "batch", "instance_type": "ml.m5.large", "input": "s3://clips/a.jsonl"}
    assert "s3://clips/a.jsonl" in problems(dgs11, **fields)[0]
    s3 = ready.client("s3")
    s3.create_bucket(Bucket="clips", CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.put_object(Bucket="clips", Key="a.jsonl", Body=b"{}")
    assert not any("s3://clips/a.jsonl" in line for line in check(dgs11, **fields).warnings)
    s3.put_object(Bucket="clips", Key="a.jsonl.old", Body=b"{}")
    assert any("s3://clips/a.jsonl" in line for line in check(dgs11, **fields).warnings)


def test_invalid_model_folder(ready, tmp_path):
    assert "config.json" in problems(tmp_path)[0]


def test_dry_run_prints_the_calls_without_making_them(cloud, dgs11):
    settings, lines = make_settings(autoscale="1:3", image_uri=IMAGE, rollback_alarms=("errors",)), []
    preflight = Preflight(settings, Account(settings, dry_run=True, show=lines.append), dgs11)
    preflight.run()
    assert cloud.calls == []
    assert preflight.role_arn == "arn:aws:iam::ACCOUNT:role/spoter-endpoint"
    assert (preflight.bucket, preflight.bucket_exists) == (f"sagemaker-{REGION}-ACCOUNT", False)
    shown = [" ".join(line.split()[:2]) for line in lines]
    assert shown == [
        "sts get_caller_identity",
        "iam get_role",
        "s3 head_bucket",
        "ecr describe_images",
        "sagemaker describe_endpoint",
        "cloudwatch describe_alarms",
        "service-quotas list_service_quotas",
    ]
