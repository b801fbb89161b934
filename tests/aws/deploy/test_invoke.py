"""Asking an endpoint in each mode; the sample whose gloss must come back."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from spoter.aws.deploy import invoke
from spoter.aws.deploy.account import Account
from spoter.aws.deploy.settings import DeployError
from tests import ROOT
from tests.aws.deploy.containers import in_process
from tests.aws.deploy.deploying import BUCKET, told_settings
from tests.aws.deploy.made import make

MODES = ("realtime", "serverless", "async")


@pytest.fixture(scope="module")
def container():
    return in_process(ROOT / "models" / "dgs11")


@pytest.fixture
def ready(cloud, container, monkeypatch):
    cloud.container = container
    monkeypatch.setattr(invoke, "ASYNC_POLL", 0.0)
    return cloud


def ask(file: Path, content_type=None, accept=None, top_k=None, **fields) -> bytes:
    settings = told_settings(**fields)
    return invoke.invoke(settings, Account(settings), file, content_type, accept, top_k)


@pytest.mark.parametrize("mode", MODES)
def test_a_file_is_answered_in_each_mode(ready, samples, mode):
    make(ready, mode=mode)
    answer = json.loads(ask(samples / "deutschland.csv", top_k=2))
    assert answer["instances"][0]["gloss"] == "DEUTSCHLAND"
    assert len(answer["instances"]) == 2
    left = [item["Key"] for item in ready.client("s3").list_objects_v2(Bucket=BUCKET).get("Contents", [])]
    assert [key for key in left if not key.endswith("model.tar.gz")] == [], "a request or an answer is left"


def test_an_ending_or_a_content_type_tells_what_it_is(ready, samples, tmp_path):
    make(ready)
    shutil.copy(samples / "software.npy", tmp_path / "clip")
    assert b"SOFTWARE" in ask(tmp_path / "clip", content_type="application/x-npy")
    assert ask(samples / "hallo.json", accept="text/csv").startswith(b"clip,rank,gloss")
    assert ready.called("InvokeEndpoint")[-1]["content-type"] == "application/json"
    with pytest.raises(Exception, match=r"expected one of .json, .csv"):
        ask(tmp_path / "clip")
    with pytest.raises(DeployError, match="No such file"):
        ask(tmp_path / "none", content_type="text/csv")


@pytest.mark.parametrize("mode", ["realtime", "async"])
def test_the_containers_reason_is_told(ready, tmp_path, mode):
    make(ready, mode=mode)
    (tmp_path / "bad.json").write_text('{"layout": 54')
    with pytest.raises(invoke.RequestRefused) as error:
        ask(tmp_path / "bad.json")
    assert str(error.value).startswith("endpoint spoter answers 400: invalid_json: ")
    assert error.value.exit_code == 1


def test_awss_own_refusal_is_told(ready, samples):
    make(ready)
    ready.refuse("InvokeEndpoint", "AccessDeniedException", "not authorized to perform sagemaker:InvokeEndpoint")
    with pytest.raises(DeployError, match=r"AccessDeniedException: not authorized.*spoter/aws/iam/"):
        ask(samples / "hallo.json")


@pytest.mark.parametrize(("mode", "size"), [("serverless", 4 * 2**20), ("realtime", 25 * 2**20)])
def test_a_request_that_is_too_large_is_not_sent(ready, tmp_path, mode, size):
    make(ready, mode=mode)
    ready.calls.clear()
    (tmp_path / "large.json").write_bytes(b" " * (size + 1))
    with pytest.raises(DeployError, match=f"expected at most {size:,} in mode {mode}; mode async takes more"):
        ask(tmp_path / "large.json", mode="realtime")  # what the endpoint is counts, not what the settings say
    assert "InvokeEndpoint" not in ready.operations()


def test_without_an_endpoint(ready, samples):
    with pytest.raises(DeployError, match="found no endpoint spoter in eu-central-1"):
        ask(samples / "hallo.json")


def smoke(samples, model: Path, **fields) -> str:
    settings = told_settings(**fields)
    return invoke.smoke_test(settings, Account(settings), model, samples)


@pytest.mark.parametrize("mode", MODES)
def test_the_samples_gloss_comes_back(ready, samples, dgs11, mode):
    make(ready, mode=mode)
    assert smoke(samples, dgs11, mode=mode) == "hallo.json: HALLO 0.9839, as here"


@pytest.mark.parametrize(
    "answer",
    [
        {"instances": [{"gloss": "WELT", "score": 0.9839, "index": 9}]},
        {"instances": [{"gloss": "HALLO", "score": 0.9, "index": 4}]},
        {"instances": []},
        {"default": "response"},
    ],
)
def test_another_answer_is_no_success(ready, samples, dgs11, answer):
    make(ready)
    ready.container = lambda body, headers: (200, "application/json", json.dumps(answer).encode())
    with pytest.raises(DeployError, match=r"expected HALLO 0.9839 as the same model answers here"):
        smoke(samples, dgs11)


def test_an_answer_that_is_no_json(ready, samples, dgs11):
    make(ready)
    ready.container = lambda body, headers: (200, "text/html", b"<html>")
    with pytest.raises(DeployError, match="not JSON"):
        smoke(samples, dgs11)


def test_a_model_that_refuses_the_sample_must_refuse_it_there_too(ready, samples, dgs11, tmp_path):
    make(ready)
    other = tmp_path / "other"
    shutil.copytree(dgs11, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"max_frames": 2}))
    with pytest.raises(DeployError, match="refuses here"):
        smoke(samples, other)
    ready.container = in_process(other)
    assert "refused as here" in smoke(samples, other)
    ready.container = lambda body, headers: (503, "text/plain", b"Prediction failed")
    with pytest.raises(invoke.RequestRefused, match="answers 503: Prediction failed"):
        smoke(samples, other)


@pytest.mark.parametrize("mode", ["realtime", "async"])
def test_a_dry_run_shows_the_call_and_nothing_of_the_landmarks(cloud, samples, dgs11, mode):
    settings, lines = told_settings(mode=mode), []
    invoke.smoke_test(settings, Account(settings, dry_run=True, show=lines.append), dgs11, samples)
    assert cloud.calls == []
    verb = "invoke_endpoint_async" if mode == "async" else "invoke_endpoint"
    assert sum(line.startswith(f"sagemaker-runtime {verb} ") for line in lines) == 1
    assert any('"87342 bytes"' in line for line in lines)
    assert max(map(len, lines)) < 400
