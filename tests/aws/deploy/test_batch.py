"""Batch transform jobs: JSON Lines to JSON Lines, in order."""

from __future__ import annotations

import json

import pytest

from spoter.aws.deploy import batch
from spoter.aws.deploy.account import Account
from spoter.aws.deploy.progress import DeploymentFailed
from tests import ROOT
from tests.aws.deploy.cloud import ACCOUNT, REGION
from tests.aws.deploy.containers import in_process
from tests.aws.deploy.deploying import make_settings

ROLE = f"arn:aws:iam::{ACCOUNT}:role/spoter-endpoint"
FIELDS = {"mode": "batch", "instance_type": "ml.m5.large", "input": "s3://clips/in/a.jsonl", "output": "s3://clips/out"}


@pytest.fixture(scope="module")
def container():
    return in_process(ROOT / "models" / "dgs11", in_job=True)


@pytest.fixture
def ready(cloud, container, samples):
    cloud.container = container
    lines = (samples / "ich-welt.jsonl").read_bytes().splitlines()
    s3 = cloud.client("s3")
    s3.create_bucket(Bucket="clips", CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.put_object(Bucket="clips", Key="in/a.jsonl", Body=b"\n".join([*lines, b"{", *lines[::-1]]) + b"\n")
    cloud.client("sagemaker").create_model(ModelName="spoter-m", ExecutionRoleArn=ROLE)
    return cloud


def run(shown: list[str], **fields) -> str:
    settings = make_settings(**FIELDS | fields)
    return batch.run_job(settings, Account(settings), "spoter-m", shown.append, poll=0)


def test_answers_are_in_order_and_a_bad_line_gets_an_error(ready):
    shown: list[str] = []
    output = run(shown)
    assert output == "s3://clips/out/a.jsonl.out"
    body = ready.client("s3").get_object(Bucket="clips", Key="out/a.jsonl.out")["Body"].read()
    answers = [json.loads(line) for line in body.splitlines()]
    best = [answer["instances"][0]["gloss"] if "instances" in answer else answer["error"]["code"] for answer in answers]
    assert best == ["ICH", "WELT", "invalid_json", "WELT", "ICH"]
    assert [line.split(": ")[-1] for line in shown[1:]] == ["InProgress after 0 min", "Completed after 0 min"]


def test_parameters_of_the_transform_job(ready):
    run([], tags={"team": "signs"})
    parameters = ready.called("CreateTransformJob")[0]
    assert parameters["BatchStrategy"] == "SingleRecord"
    assert parameters["TransformInput"]["SplitType"] == "Line"
    assert parameters["TransformOutput"]["AssembleWith"] == "None"
    assert parameters["MaxConcurrentTransforms"] * parameters["MaxPayloadInMB"] <= 100
    assert {"Key": "spoter:deployment", "Value": "spoter"} in parameters["Tags"]
    assert {"Key": "team", "Value": "signs"} in parameters["Tags"]


def test_default_output_is_the_folder_of_the_deployment(ready):
    s3 = ready.client("s3")
    s3.create_bucket(Bucket="mine", CreateBucketConfiguration={"LocationConstraint": REGION})
    settings = make_settings(**{**FIELDS, "output": None, "bucket": "mine"})
    output = batch.run_job(settings, Account(settings), "spoter-m", lambda line: None, poll=0)
    assert output.startswith("s3://mine/spoter/spoter/answers/spoter-")
    assert s3.get_object(Bucket="mine", Key=output.removeprefix("s3://mine/"))["Body"].read().count(b"\n") == 5


def test_failed_job_reports_awss_reason_and_the_log(ready):
    ready.sagemaker.fail("CreateTransformJob", "AlgorithmError: out of memory", ("loading", "killed"))
    with pytest.raises(DeploymentFailed) as error:
        run([])
    assert "is Failed: AlgorithmError: out of memory" in str(error.value)
    assert str(error.value).splitlines()[-1].endswith(" killed")


def test_failing_container_fails_the_job(ready):
    ready.container = lambda body, headers: (503, "text/plain", b"Prediction failed")
    with pytest.raises(DeploymentFailed, match=r"(?s)See job logs.*503: Prediction failed"):
        run([])


def test_interrupted_job_continues_and_the_stop_command_is_shown(ready):
    shown: list[str] = []

    def show(line: str) -> None:
        shown.append(line)
        if "InProgress" in line:
            raise KeyboardInterrupt

    settings = make_settings(**FIELDS)
    account = Account(settings)
    with pytest.raises(KeyboardInterrupt):
        batch.run_job(settings, account, "spoter-m", show, poll=0)
    job = ready.called("CreateTransformJob")[0]["TransformJobName"]
    assert f"stop-transform-job --transform-job-name {job}" in shown[-1]
    assert "StopTransformJob" not in ready.operations()


def test_dry_run_creates_no_job(cloud):
    settings, lines = make_settings(**FIELDS), []
    batch.run_job(settings, Account(settings, dry_run=True, show=lines.append), "spoter-m", lambda line: None)
    assert [line.split()[1] for line in lines][-2:] == ["create_transform_job", "describe_transform_job"]
    assert cloud.calls == []
