"""Deployments to moto's AWS over HTTP: a first run, repeated and changed runs, and each mode."""

from __future__ import annotations

import hashlib

import pytest

from spoter.aws.deploy import requests
from tests.aws.deploy.deploying import BUCKET, endpoint, make_alarm, resource_names, run

FIRST = [
    "PUT bucket",
    "PUT bucket publicAccessBlock",
    "PUT bucket tagging",
    "PUT object",
    "CreateModel",
    "CreateEndpointConfig",
    "CreateEndpoint",
]


def test_first_deployment_creates_each_resource_once_in_order(ready):
    done = run(ready, tags={"team": "signs"})
    assert done.error is None
    assert done.changes == FIRST
    description = endpoint(ready)
    assert description["EndpointStatus"] == "InService"
    (model,), (config,) = resource_names(ready)["models"], resource_names(ready)["configs"]
    assert description["EndpointConfigName"] == config
    sagemaker, s3 = ready.client("sagemaker"), ready.client("s3")
    definition = sagemaker.describe_model(ModelName=model)["PrimaryContainer"]
    (key,) = resource_names(ready)["objects"]
    assert definition["ModelDataUrl"] == f"s3://{BUCKET}/{key}"
    body = s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    assert key == f"spoter/spoter/{hashlib.sha256(body).hexdigest()}/model.tar.gz"
    expected_tags = {(requests.TAG, "spoter"), ("team", "signs")}
    arns = [sagemaker.describe_model(ModelName=model)["ModelArn"], description["EndpointArn"]]
    arns.append(sagemaker.describe_endpoint_config(EndpointConfigName=config)["EndpointConfigArn"])
    for arn in arns:
        assert {(tag["Key"], tag["Value"]) for tag in sagemaker.list_tags(ResourceArn=arn)["Tags"]} == expected_tags
    tags = s3.get_object_tagging(Bucket=BUCKET, Key=key)["TagSet"]
    assert {(tag["Key"], tag["Value"]) for tag in tags} == expected_tags
    assert all(s3.get_public_access_block(Bucket=BUCKET)["PublicAccessBlockConfiguration"].values())


def test_first_deployment_prints_its_address_and_the_undo_command(ready):
    done = run(ready)
    text = "\n".join(done.lines)
    assert "https://runtime.sagemaker.eu-central-1.amazonaws.com/endpoints/spoter/invocations" in text
    assert "aws sagemaker-runtime invoke-endpoint --endpoint-name spoter --region eu-central-1" in text
    assert "spoter deploy delete --name spoter --region eu-central-1" in text
    assert ready.called("InvokeEndpoint"), "the endpoint was not tried"


@pytest.mark.parametrize(
    ("mode", "has_mode"),
    [
        ("serverless", lambda variant, config: variant["ServerlessConfig"]["MemorySizeInMB"] == 3072),
        ("async", lambda variant, config: config["AsyncInferenceConfig"]["OutputConfig"]["S3FailurePath"]),
        ("realtime", lambda variant, config: config["DataCaptureConfig"]["InitialSamplingPercentage"] == 10),
    ],
)
def test_each_mode_is_deployed_and_answers(ready, mode, has_mode):
    done = run(ready, mode=mode, capture_percent=10 if mode == "realtime" else 0)
    assert done.error is None
    assert done.changes[: len(FIRST)] == FIRST
    config = ready.client("sagemaker").describe_endpoint_config(EndpointConfigName=resource_names(ready)["configs"][0])
    assert has_mode(config["ProductionVariants"][0], config)
    assert ready.called("InvokeEndpointAsync" if mode == "async" else "InvokeEndpoint")
    second = run(ready, mode=mode, capture_percent=10 if mode == "realtime" else 0)
    assert (second.error, second.changes) == (None, [])


def test_data_capture_gives_a_warning(ready):
    assert "/captured" in run(ready, capture_percent=10).output
    assert "/captured" not in run(ready).output


def test_unchanged_second_run_changes_nothing(ready):
    first = run(ready)
    second = run(ready)
    assert second.error is None
    assert second.changes == []
    assert not ready.called("InvokeEndpoint")
    assert "unchanged" in second.output
    assert second.lines == first.lines


def test_new_tag_is_added_and_nothing_else(ready):
    run(ready)
    second = run(ready, tags={"team": "signs"})
    assert second.changes == ["AddTags"] * 3


def test_changed_model_updates_the_endpoint_and_keeps_the_old_resources(ready, changed_model):
    run(ready)
    before = resource_names(ready)
    make_alarm(ready, "errors")
    second = run(ready, model=changed_model, rollback_alarms=("errors",))
    assert second.error is None
    assert second.changes == ["PUT object", "CreateModel", "CreateEndpointConfig", "UpdateEndpoint"]
    (update,) = ready.called("UpdateEndpoint")
    assert update["DeploymentConfig"]["AutoRollbackConfiguration"] == {"Alarms": [{"AlarmName": "errors"}]}
    assert not update["RetainAllVariantProperties"]
    after = resource_names(ready)
    for kind in ("configs", "models", "objects"):
        assert len(after[kind]) == 2 and set(before[kind]) < set(after[kind])
    assert endpoint(ready)["EndpointConfigName"] not in before["configs"]
    assert run(ready, model=changed_model).changes == []


def test_update_of_a_scaled_endpoint_keeps_its_instances(ready, changed_model):
    run(ready, autoscale="1:4")
    second = run(ready, autoscale="1:4", model=changed_model)
    assert second.error is None
    assert ready.called("UpdateEndpoint")[0]["RetainAllVariantProperties"]
    assert "DeregisterScalableTarget" not in second.changes


def test_new_instance_type_removes_scaling_before_the_update_and_restores_it(ready):
    run(ready, autoscale="1:4")
    second = run(ready, autoscale="1:4", instance_type="ml.c5.xlarge")
    assert second.error is None
    order = [change for change in second.changes if "Scal" in change or change == "UpdateEndpoint"]
    assert order.index("DeregisterScalableTarget") < order.index("UpdateEndpoint")
    assert order.index("UpdateEndpoint") < order.index("RegisterScalableTarget") < order.index("PutScalingPolicy")


def test_scaling_does_not_change_the_configuration(ready):
    run(ready)
    second = run(ready, autoscale="1:4")
    assert second.changes and not {"CreateEndpointConfig", "UpdateEndpoint"} & set(second.changes)


def test_batch_job_answers_lines_in_order_without_an_endpoint(ready, samples):
    s3 = ready.client("s3")
    s3.create_bucket(Bucket="clips", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    clips = (samples / "ich-welt.jsonl").read_bytes()
    s3.put_object(Bucket="clips", Key="clips.jsonl", Body=clips)
    done = run(ready, mode="batch", input="s3://clips/clips.jsonl", output="s3://clips/answers")
    assert done.error is None
    assert done.changes[-2:] == ["CreateModel", "CreateTransformJob"]
    assert done.lines[0] == "answers   s3://clips/answers/clips.jsonl.out"
    answers = s3.get_object(Bucket="clips", Key="answers/clips.jsonl.out")["Body"].read().splitlines()
    assert len(answers) == len(clips.splitlines())
    assert [b'"ICH"' in answers[0], b'"WELT"' in answers[1]] == [True, True]
    assert resource_names(ready)["endpoints"] == []


def test_failed_batch_job_removes_its_model(ready):
    s3 = ready.client("s3")
    s3.create_bucket(Bucket="clips", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    s3.put_object(Bucket="clips", Key="clips.jsonl", Body=b"{}")
    done = run(ready, mode="batch", input="s3://clips/clips.jsonl")
    assert done.error.exit_code == 1 and "ClientError" in done.output
    assert resource_names(ready)["models"] == []
