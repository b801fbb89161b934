"""Deployments with SageMaker's real container code: moto is the control plane, the answers come from the model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from spoter.aws.deploy import invoke, requests
from spoter.aws.deploy.account import Account
from spoter.aws.local.endpoint import LocalEndpoint
from tests.aws.deploy.cloud import ACCOUNT, REGION
from tests.aws.deploy.containers import over_http
from tests.aws.deploy.deploying import BUCKET, make_settings, resource_names, run

# Variables that SageMaker sets in the containers of a transform job (developer guide, "Use Your Own Inference Code with
# Batch Transform").
IN_JOB = {"SAGEMAKER_BATCH": "true", "SAGEMAKER_BATCH_STRATEGY": "SINGLE_RECORD", "SAGEMAKER_MAX_PAYLOAD_IN_MB": "12"}


@pytest.fixture(scope="module")
def job_container(archive: Path) -> Iterator[LocalEndpoint]:
    with LocalEndpoint(archive, workers=1, environ=IN_JOB) as endpoint:
        yield endpoint


@pytest.fixture
def local_data_plane(ready, local_endpoint, monkeypatch):
    """The account, with `spoter deploy --local` as its data plane."""
    ready.container = None
    monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", local_endpoint.url)
    return ready


def test_deployment_is_tried_on_the_real_container(local_data_plane):
    done = run(local_data_plane)
    assert done.error is None
    assert "hallo.json: HALLO 0.9839" in done.output
    assert not local_data_plane.called("InvokeEndpoint"), "moto answered"
    assert run(local_data_plane).changes == []


def test_deployment_is_undone_if_the_container_runs_another_model(local_data_plane, dgs11, tmp_path):
    """The container has dgs11; the deployed folder is a model with another answer to the sample."""
    other = tmp_path / "other"
    other.mkdir()
    for file in dgs11.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    meaning = json.loads((dgs11 / "meaning.json").read_text())
    swapped = {index: f"NOT-{gloss}" for index, gloss in meaning.items()}
    (other / "meaning.json").write_text(json.dumps(swapped))
    done = run(local_data_plane, model=str(other))
    assert done.error.exit_code == 1 and "NOT-HALLO" in done.output and "found HALLO 0.98" in done.output
    assert not any(resource_names(local_data_plane).values())


def test_error_of_the_container_is_forwarded(local_data_plane, samples, tmp_path):
    settings = make_settings()
    (tmp_path / "bad.json").write_text('{"layout": 54')
    with pytest.raises(invoke.RequestRefused, match=r" 400: invalid_json: "):
        invoke.invoke(settings, Account(settings), tmp_path / "bad.json", None, None, None)
    answer = invoke.invoke(settings, Account(settings), samples / "deutschland.csv", None, "text/csv", 1)
    assert b"DEUTSCHLAND" in answer


def test_batch_job_answers_good_and_bad_lines_in_order(ready, job_container, samples):
    ready.container = over_http(f"{job_container.container.root}/invocations")
    s3 = ready.client("s3")
    s3.create_bucket(Bucket="clips", CreateBucketConfiguration={"LocationConstraint": REGION})
    ich, welt = (samples / "ich-welt.jsonl").read_bytes().splitlines()
    s3.put_object(Bucket="clips", Key="mixed.jsonl", Body=b"\n".join([welt, ich, b"{nonsense", b"{}", welt]) + b"\n")
    done = run(ready, mode="batch", input="s3://clips/mixed.jsonl")
    assert done.error is None
    bucket, _, key = done.lines[0].removeprefix("answers   s3://").partition("/")
    lines = s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode().splitlines()
    answers = [json.loads(line) for line in lines]
    results = [answer.get("error", {}).get("code") or answer["instances"][0]["gloss"] for answer in answers]
    assert results == ["WELT", "ICH", "invalid_json", "unknown_form", "WELT"]
    assert (bucket, resource_names(ready)["endpoints"]) == (BUCKET, [])


def test_local_container_has_the_variables_of_a_deployment(local_endpoint):
    deployed = requests.container(make_settings(), REGION, f"s3://{ACCOUNT}/k/model.tar.gz")["Environment"]
    local = local_endpoint.container.environ
    assert {name: local.get(name) for name in deployed} == deployed
    local_only = {name for name in local if name.startswith("SAGEMAKER_")} - deployed.keys()
    placement = {"SAGEMAKER_BASE_DIR", "SAGEMAKER_BIND_TO_PORT", "SAGEMAKER_MODEL_SERVER_WORKERS"}
    assert local_only == placement | {"SAGEMAKER_SERVING_MODULE"}  # SAGEMAKER_SERVING_MODULE is set in the image
