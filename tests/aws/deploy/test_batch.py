"""Batch transform: JSON Lines to JSON Lines, in order."""

from __future__ import annotations

import json

import pytest

from spoter.aws.deploy import batch
from spoter.aws.deploy.account import Account
from spoter.aws.deploy.progress import DeploymentFailed
from tests import ROOT
from tests.aws.deploy.cloud import NUMBER, REGION
from tests.aws.deploy.containers import in_process
from tests.aws.deploy.deploying import told_settings

ROLE = f"arn:aws:iam::{NUMBER}:role/spoter-endpoint"
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
    settings = told_settings(**FIELDS | fields)
    return batch.run_job(settings, Account(settings), "spoter-m", shown.append, poll=0)


def test_answers_are_in_order_and_a_bad_line_has_its_own(ready):
    shown: list[str] = []
    place = run(shown)
    assert place == "s3://clips/out/a.jsonl.out"
    body = ready.client("s3").get_object(Bucket="clips", Key="out/a.jsonl.out")["Body"].read()
    answers = [json.loads(line) for line in body.splitlines()]
    best = [answer["instances"][0]["gloss"] if "instances" in answer else answer["error"]["code"] for answer in answers]
    assert best == ["ICH", "WELT", "invalid_json", "WELT", "ICH"]
    assert [line.split(": ")[-1] for line in shown[1:]] == ["InProgress after 0 min", "Completed after 0 min"]


def test_what_is_asked_of_sagemaker(ready):
    run([], tags={"team": "signs"})
    told = ready.called("CreateTransformJob")[0]
    assert told["BatchStrategy"] == "SingleRecord"
    assert told["TransformInput"]["SplitType"] == "Line"
    assert told["TransformOutput"]["AssembleWith"] == "None"
    assert told["MaxConcurrentTransforms"] * told["MaxPayloadInMB"] <= 100
    assert {"Key": "spoter:deployment", "Value": "spoter"} in told["Tags"]
    assert {"Key": "team", "Value": "signs"} in told["Tags"]


def test_without_an_output_answers_go_to_the_deployments_folder(ready):
    s3 = ready.client("s3")
    s3.create_bucket(Bucket="mine", CreateBucketConfiguration={"LocationConstraint": REGION})
    settings = told_settings(**{**FIELDS, "output": None, "bucket": "mine"})
    place = batch.run_job(settings, Account(settings), "spoter-m", lambda line: None, poll=0)
    assert place.startswith("s3://mine/spoter/spoter/answers/spoter-")
    assert s3.get_object(Bucket="mine", Key=place.removeprefix("s3://mine/"))["Body"].read().count(b"\n") == 5


def test_a_failed_job_tells_awss_reason_and_the_log(ready):
    ready.sagemaker.fail("CreateTransformJob", "AlgorithmError: out of memory", ("loading", "killed"))
    with pytest.raises(DeploymentFailed) as error:
        run([])
    assert "is Failed: AlgorithmError: out of memory" in str(error.value)
    assert str(error.value).splitlines()[-1].endswith(" killed")


def test_a_container_that_fails_fails_the_job(ready):
    ready.container = lambda body, headers: (503, "text/plain", b"Prediction failed")
    with pytest.raises(DeploymentFailed, match=r"(?s)See job logs.*503: Prediction failed"):
        run([])


def test_interrupted_the_job_goes_on_and_how_to_stop_it_is_told(ready):
    shown: list[str] = []

    def show(line: str) -> None:
        shown.append(line)
        if "InProgress" in line:
            raise KeyboardInterrupt

    settings = told_settings(**FIELDS)
    account = Account(settings)
    with pytest.raises(KeyboardInterrupt):
        batch.run_job(settings, account, "spoter-m", show, poll=0)
    job = ready.called("CreateTransformJob")[0]["TransformJobName"]
    assert f"stop-transform-job --transform-job-name {job}" in shown[-1]
    assert "StopTransformJob" not in ready.operations()


def test_a_dry_run_makes_no_job(cloud):
    settings, lines = told_settings(**FIELDS), []
    batch.run_job(settings, Account(settings, dry_run=True, show=lines.append), "spoter-m", lambda line: None)
    assert [line.split()[1] for line in lines][-2:] == ["create_transform_job", "describe_transform_job"]
    assert cloud.calls == []
