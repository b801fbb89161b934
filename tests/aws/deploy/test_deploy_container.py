"""deploy.py before SageMaker's real container code: the control plane is moto's, all answers are the model's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from spoter.aws.deploy import invoke, requests
from spoter.aws.deploy.account import Account
from spoter.aws.local.endpoint import LocalEndpoint
from tests.aws.deploy.cloud import NUMBER, REGION
from tests.aws.deploy.containers import over_http
from tests.aws.deploy.deploying import BUCKET, names, run, told_settings

# What SageMaker sets in the containers of a transform job (developer guide, "Use Your Own Inference Code with Batch
# Transform").
IN_JOB = {"SAGEMAKER_BATCH": "true", "SAGEMAKER_BATCH_STRATEGY": "SINGLE_RECORD", "SAGEMAKER_MAX_PAYLOAD_IN_MB": "12"}


@pytest.fixture(scope="module")
def job_container(archive: Path) -> Iterator[LocalEndpoint]:
    with LocalEndpoint(archive, workers=1, environ=IN_JOB) as endpoint:
        yield endpoint


@pytest.fixture
def real(ready, local_endpoint, monkeypatch):
    """The account, with the data plane elsewhere: boto3 sends invocations to `deploy.py --local`."""
    ready.container = None
    monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", local_endpoint.url)
    return ready


def test_a_deployment_is_tried_on_the_real_container(real):
    done = run(real)
    assert done.error is None
    assert "hallo.json: HALLO 0.9839, as here" in done.told
    assert not real.called("InvokeEndpoint"), "moto's answer was taken"
    assert run(real).changes == []


def test_a_model_that_the_container_does_not_run_is_taken_back(real, samples, dgs11, tmp_path):
    """The container has dgs11; the folder is another model's, which answers the same sample otherwise."""
    other = tmp_path / "other"
    other.mkdir()
    for file in dgs11.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    meaning = json.loads((dgs11 / "meaning.json").read_text())
    swapped = {index: f"NOT-{gloss}" for index, gloss in meaning.items()}
    (other / "meaning.json").write_text(json.dumps(swapped))
    done = run(real, model=str(other))
    assert done.error.exit_code == 1 and "expected NOT-HALLO" in done.told and "HALLO 0.98" in done.told
    assert not any(names(real).values())


def test_the_containers_own_words_come_through(real, samples, tmp_path):
    settings = told_settings()
    (tmp_path / "bad.json").write_text('{"layout": 54')
    with pytest.raises(invoke.RequestRefused, match="endpoint spoter answers 400: invalid_json: "):
        invoke.invoke(settings, Account(settings), tmp_path / "bad.json", None, None, None)
    answer = invoke.invoke(settings, Account(settings), samples / "deutschland.csv", None, "text/csv", 1)
    assert b"DEUTSCHLAND" in answer


def test_a_batch_of_good_and_bad_lines_is_answered_in_order(ready, job_container, samples):
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
    found = [answer.get("error", {}).get("code") or answer["instances"][0]["gloss"] for answer in answers]
    assert found == ["WELT", "ICH", "invalid_json", "unknown_form", "WELT"]
    assert (bucket, names(ready)["endpoints"]) == (BUCKET, [])


def test_the_container_here_has_the_variables_that_a_deployment_gives_it(local_endpoint):
    there = requests.container(told_settings(), REGION, f"s3://{NUMBER}/k/model.tar.gz")["Environment"]
    here = local_endpoint.container.environ
    assert {name: here.get(name) for name in there} == there
    mine = {name for name in here if name.startswith("SAGEMAKER_")} - there.keys()
    placing = {"SAGEMAKER_BASE_DIR", "SAGEMAKER_BIND_TO_PORT", "SAGEMAKER_MODEL_SERVER_WORKERS"}
    assert mine == placing | {"SAGEMAKER_SERVING_MODULE"}  # the last is the image's own
