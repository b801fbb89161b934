"""Invocations of an endpoint in each mode, and the check with a sample."""

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
from tests.aws.deploy.deployed import create_deployment
from tests.aws.deploy.deploying import BUCKET, make_settings

MODES = ("realtime", "serverless", "async")


@pytest.fixture(scope="module")
def container():
    return in_process(ROOT / "models" / "dgs11")


@pytest.fixture
def ready(cloud, container, monkeypatch):
    cloud.container = container
    monkeypatch.setattr(invoke, "ASYNC_POLL", 0.0)
    return cloud


def send(file: Path, content_type=None, accept=None, top_k=None, **fields) -> bytes:
    settings = make_settings(**fields)
    return invoke.invoke(settings, Account(settings), file, content_type, accept, top_k)


@pytest.mark.parametrize("mode", MODES)
def test_file_is_answered_in_each_mode(ready, samples, mode):
    create_deployment(ready, mode=mode)
    answer = json.loads(send(samples / "deutschland.csv", top_k=2))
    assert answer["instances"][0]["gloss"] == "DEUTSCHLAND"
    assert len(answer["instances"]) == 2
    keys = [item["Key"] for item in ready.client("s3").list_objects_v2(Bucket=BUCKET).get("Contents", [])]
    assert [key for key in keys if not key.endswith("model.tar.gz")] == [], "a request or an answer remains"


def test_content_type_comes_from_the_extension_or_the_option(ready, samples, tmp_path):
    create_deployment(ready)
    shutil.copy(samples / "software.npy", tmp_path / "clip")
    assert b"SOFTWARE" in send(tmp_path / "clip", content_type="application/x-npy")
    assert send(samples / "hallo.json", accept="text/csv").startswith(b"clip,rank,gloss")
    assert ready.called("InvokeEndpoint")[-1]["content-type"] == "application/json"
    with pytest.raises(Exception, match=r"\.json"):
        send(tmp_path / "clip")
    with pytest.raises(DeployError, match="none"):
        send(tmp_path / "none", content_type="text/csv")


@pytest.mark.parametrize("mode", ["realtime", "async"])
def test_containers_error_is_reported(ready, tmp_path, mode):
    create_deployment(ready, mode=mode)
    (tmp_path / "bad.json").write_text('{"layout": 54')
    with pytest.raises(invoke.RequestRefused) as error:
        send(tmp_path / "bad.json")
    assert " 400: invalid_json: " in str(error.value)
    assert error.value.exit_code == 1


def test_refusal_by_aws_is_reported(ready, samples):
    create_deployment(ready)
    ready.refuse("InvokeEndpoint", "AccessDeniedException", "not authorized to perform sagemaker:InvokeEndpoint")
    with pytest.raises(DeployError, match=r"AccessDeniedException.*spoter/aws/iam/"):
        send(samples / "hallo.json")


@pytest.mark.parametrize(("mode", "size"), [("serverless", 4 * 2**20), ("realtime", 25 * 2**20)])
def test_request_above_the_limit_is_not_sent(ready, tmp_path, mode, size):
    create_deployment(ready, mode=mode)
    ready.calls.clear()
    (tmp_path / "large.json").write_bytes(b" " * (size + 1))
    with pytest.raises(DeployError, match=f"{size + 1:,} bytes.*{size:,} in mode {mode}"):
        send(tmp_path / "large.json", mode="realtime")  # the endpoint's mode counts, not that of the settings
    assert "InvokeEndpoint" not in ready.operations()


def test_missing_endpoint_is_reported(ready, samples):
    with pytest.raises(DeployError, match="endpoint spoter in eu-central-1"):
        send(samples / "hallo.json")


def smoke(samples, model: Path, **fields) -> str:
    settings = make_settings(**fields)
    return invoke.smoke_test(settings, Account(settings), model, samples)


@pytest.mark.parametrize("mode", MODES)
def test_smoke_test_passes_in_each_mode(ready, samples, dgs11, mode):
    create_deployment(ready, mode=mode)
    assert smoke(samples, dgs11, mode=mode).startswith("hallo.json: HALLO 0.9839")


@pytest.mark.parametrize(
    "answer",
    [
        {"instances": [{"gloss": "WELT", "score": 0.9839, "index": 9}]},
        {"instances": [{"gloss": "HALLO", "score": 0.9, "index": 4}]},
        {"instances": []},
        {"default": "response"},
    ],
)
def test_smoke_test_fails_for_a_different_answer(ready, samples, dgs11, answer):
    create_deployment(ready)
    ready.container = lambda body, headers: (200, "application/json", json.dumps(answer).encode())
    with pytest.raises(DeployError, match=r"expected HALLO 0\.9839"):
        smoke(samples, dgs11)


def test_smoke_test_fails_for_an_answer_that_is_not_json(ready, samples, dgs11):
    create_deployment(ready)
    ready.container = lambda body, headers: (200, "text/html", b"<html>")
    with pytest.raises(DeployError, match="JSON"):
        smoke(samples, dgs11)


def test_smoke_test_expects_the_same_refusal(ready, samples, dgs11, tmp_path):
    create_deployment(ready)
    other = tmp_path / "other"
    shutil.copytree(dgs11, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"max_frames": 2}))
    with pytest.raises(DeployError, match="refusal too_many_frames"):
        smoke(samples, other)
    ready.container = in_process(other)
    assert "too_many_frames" in smoke(samples, other)
    ready.container = lambda body, headers: (503, "text/plain", b"Prediction failed")
    with pytest.raises(invoke.RequestRefused, match="503: Prediction failed"):
        smoke(samples, other)


@pytest.mark.parametrize("mode", ["realtime", "async"])
def test_dry_run_prints_the_call_without_landmarks(cloud, samples, dgs11, mode):
    settings, lines = make_settings(mode=mode), []
    invoke.smoke_test(settings, Account(settings, dry_run=True, show=lines.append), dgs11, samples)
    assert cloud.calls == []
    verb = "invoke_endpoint_async" if mode == "async" else "invoke_endpoint"
    assert sum(line.startswith(f"sagemaker-runtime {verb} ") for line in lines) == 1
    assert any('"87342 bytes"' in line for line in lines)
    assert max(map(len, lines)) < 400
