"""SageMaker's runtime API on loopback, as boto3 sees it."""

from __future__ import annotations

import asyncio
import json
import socket
import threading

import boto3
import httpx
import pytest
from botocore.exceptions import ClientError

from spoter.aws.local import runtime
from spoter.aws.local.endpoint import LocalEndpoint
from spoter.ops.ports import LOOPBACK, free_port
from tests import ROOT
from tests.aws.local.fixtures import runtime_client

SAMPLE = (ROOT / "samples" / "hallo.json").read_bytes()
INVOKE = {"EndpointName": "spoter", "ContentType": "application/json"}


def test_unchanged_boto3_gets_glosses(local_endpoint: LocalEndpoint, monkeypatch):
    """Nothing but the environment points to it."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", local_endpoint.url)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "local")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "local")
    answer = boto3.client("sagemaker-runtime").invoke_endpoint(Body=SAMPLE, **INVOKE)
    assert json.loads(answer["Body"].read())["instances"][0]["gloss"] == "HALLO"
    assert (answer["ContentType"], answer["InvokedProductionVariant"]) == ("application/json", "AllTraffic")
    assert "CustomAttributes" not in answer  # the model sets none
    assert len(answer["ResponseMetadata"]["RequestId"]) == 36


def test_it_was_up_only_once_a_sample_was_answered(local_endpoint):
    assert json.loads(local_endpoint.prediction)["instances"][0]["gloss"]
    assert httpx.get(f"{local_endpoint.url}/ping").status_code == 200


def test_the_models_own_error_is_a_model_error(local_endpoint):
    client = runtime_client(local_endpoint)
    with pytest.raises(client.exceptions.ModelError) as caught:
        client.invoke_endpoint(Body=b"{nonsense", **INVOKE)
    told = caught.value.response
    assert (told["Error"]["Code"], told["ResponseMetadata"]["HTTPStatusCode"]) == ("ModelError", 424)
    assert told["OriginalStatusCode"] == 400
    assert json.loads(told["OriginalMessage"])["error"]["code"] == "invalid_json"
    assert told["Error"]["Message"].startswith('Received client error (400) from primary with message "{"error"')
    assert told["LogStreamArn"] == "arn:aws:logs:eu-central-1:123456789012:log-group:/aws/sagemaker/Endpoints/spoter"


def refused(endpoint: LocalEndpoint, **options: object) -> tuple[str, int, str]:
    with pytest.raises(ClientError) as caught:
        runtime_client(endpoint).invoke_endpoint(**INVOKE | options)
    error = caught.value.response
    return error["Error"]["Code"], error["ResponseMetadata"]["HTTPStatusCode"], error["Error"]["Message"]


def test_another_endpoint_is_not_found(local_endpoint):
    found = refused(local_endpoint, EndpointName="other", Body=SAMPLE)
    assert found == ("ValidationError", 400, "Endpoint other of account 123456789012 not found.")


@pytest.mark.parametrize(
    ("header", "value", "said"),
    [
        ("X-Amzn-SageMaker-Custom-Attributes", "top_k=1," * 200, "at most 1024"),
        ("X-Amzn-SageMaker-Custom-Attributes", "ä", "all of them ASCII"),
        ("Content-Type", "text/ä", "all of them ASCII"),
        ("X-Amzn-SageMaker-Target-Variant", "Other", "Variant Other of endpoint spoter not found"),
        ("X-Amzn-SageMaker-Target-Model", "a.tar.gz", "does not support"),
        ("X-Amzn-SageMaker-Inference-Component", "part", "does not support"),
    ],
)
def test_headers_that_sagemaker_would_refuse_are_refused(local_endpoint, header, value, said):
    url = f"{local_endpoint.url}/endpoints/spoter/invocations"
    answer = httpx.post(url, content=SAMPLE, headers={header: value.encode()})
    assert (answer.status_code, answer.headers["x-amzn-errortype"]) == (400, "ValidationError")
    assert said in answer.json()["message"]


def test_the_variant_that_there_is_can_be_asked_for(local_endpoint):
    answer = runtime_client(local_endpoint).invoke_endpoint(TargetVariant="AllTraffic", Body=SAMPLE, **INVOKE)
    assert answer["InvokedProductionVariant"] == "AllTraffic"


def test_a_body_above_the_limit_is_refused(local_endpoint):
    found = refused(local_endpoint, Body=b" " * (runtime.MAX_BODY + 1))
    assert found == ("413", 413, "HTTP content length exceeded 6291456 bytes.")


def test_a_body_at_the_limit_reaches_the_model(local_endpoint):
    code, _, message = refused(local_endpoint, Body=b" " * runtime.MAX_BODY)
    assert code == "ModelError" and "empty_body" in message


def test_a_body_of_unknown_length_is_limited_too(local_endpoint):
    url = f"{local_endpoint.url}/endpoints/spoter/invocations"
    answer = httpx.post(url, content=(b" " * 1024**2 for _ in range(7)))
    assert answer.status_code == 413


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/endpoints/spoter/invocations"),
        ("POST", "/endpoints/spoter/async-invocations"),
        ("POST", "/models"),
    ],
)
def test_nothing_else_is_answered(local_endpoint, method, path):
    """Above all not TorchServe's management API."""
    answer = httpx.request(method, local_endpoint.url + path)
    assert answer.status_code == 404 and answer.headers["x-amzn-errortype"] == "UnknownOperationException"


def ask(container: str, method: str, path: str, headers: dict[str, str] | None = None) -> httpx.Response:
    """Send a request to the API before a container at another URL."""

    async def send() -> httpx.Response:
        app = runtime.application("spoter", container)
        transport = httpx.ASGITransport(app)
        async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport) as client:
            return await client.request(method, f"http://runtime{path}", headers=headers, content=SAMPLE)

    return asyncio.run(send())


def test_a_container_that_is_away_is_an_unavailable_service():
    nowhere = f"http://{LOOPBACK}:{free_port()}"
    answer = ask(nowhere, "POST", "/endpoints/spoter/invocations")
    assert (answer.status_code, answer.headers["x-amzn-errortype"]) == (503, "ServiceUnavailable")
    assert ask(nowhere, "GET", "/ping").status_code == 503


def test_a_container_that_takes_too_long_is_a_model_error(monkeypatch):
    """A listener that never answers stands for it: a model cannot be told to be slow."""
    monkeypatch.setattr(runtime, "INVOKE_TIMEOUT", 0.1)
    with socket.create_server((LOOPBACK, 0)) as silent:
        answer = ask(f"http://{LOOPBACK}:{silent.getsockname()[1]}", "POST", "/endpoints/spoter/invocations")
    assert answer.status_code == 424 and answer.json()["OriginalStatusCode"] == 0


def test_only_the_apis_own_headers_pass_either_way():
    """A listener that writes down one request stands for a container: TorchServe shows no headers."""
    seen = bytearray()

    def answer_once() -> None:
        connection, _ = listening.accept()
        with connection:
            while not seen.endswith(SAMPLE):
                seen.extend(connection.recv(65536))
            connection.sendall(
                b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: text/csv\r\nX-Secret: 1\r\n"
                b"X-Amzn-SageMaker-Custom-Attributes: trace=7\r\n\r\nok"
            )

    with socket.create_server((LOOPBACK, 0)) as listening:
        thread = threading.Thread(target=answer_once, daemon=True)
        thread.start()
        headers = {"X-Amzn-SageMaker-Inference-Id": "7", "Accept": "text/csv", "Cookie": "a=b"}
        url = f"http://{LOOPBACK}:{listening.getsockname()[1]}"
        answer = ask(url, "POST", "/endpoints/spoter/invocations", headers)
    head = bytes(seen).partition(b"\r\n\r\n")[0].lower()
    assert b"x-amzn-sagemaker-inference-id: 7" in head and b"accept: text/csv" in head and b"cookie" not in head
    assert (answer.content, answer.headers["content-type"]) == (b"ok", "text/csv")
    assert answer.headers["x-amzn-sagemaker-custom-attributes"] == "trace=7" and "x-secret" not in answer.headers
