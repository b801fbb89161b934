"""SageMaker's runtime API on loopback, used with boto3."""

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


def test_boto3_needs_only_environment_variables(local_endpoint: LocalEndpoint, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", local_endpoint.url)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "local")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "local")
    answer = boto3.client("sagemaker-runtime").invoke_endpoint(Body=SAMPLE, **INVOKE)
    assert json.loads(answer["Body"].read())["instances"][0]["gloss"] == "HALLO"
    assert (answer["ContentType"], answer["InvokedProductionVariant"]) == ("application/json", "AllTraffic")
    assert "CustomAttributes" not in answer  # the model sets none
    assert len(answer["ResponseMetadata"]["RequestId"]) == 36


def test_start_waits_for_the_answer_to_a_sample(local_endpoint):
    assert json.loads(local_endpoint.prediction)["instances"][0]["gloss"]
    assert httpx.get(f"{local_endpoint.url}/ping").status_code == 200


def test_error_of_the_model_is_a_model_error(local_endpoint):
    client = runtime_client(local_endpoint)
    with pytest.raises(client.exceptions.ModelError) as caught:
        client.invoke_endpoint(Body=b"{nonsense", **INVOKE)
    response, log_group = caught.value.response, "/aws/sagemaker/Endpoints/spoter"
    assert (response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]) == ("ModelError", 424)
    assert response["OriginalStatusCode"] == 400
    assert json.loads(response["OriginalMessage"])["error"]["code"] == "invalid_json"
    assert response["Error"]["Message"].startswith('Received client error (400) from primary with message "{"error"')
    assert response["LogStreamArn"] == f"arn:aws:logs:eu-central-1:123456789012:log-group:{log_group}"


def refused(endpoint: LocalEndpoint, **options: object) -> tuple[str, int, str]:
    with pytest.raises(ClientError) as caught:
        runtime_client(endpoint).invoke_endpoint(**INVOKE | options)
    error = caught.value.response
    return error["Error"]["Code"], error["ResponseMetadata"]["HTTPStatusCode"], error["Error"]["Message"]


def test_unknown_endpoint_is_refused(local_endpoint):
    error = refused(local_endpoint, EndpointName="other", Body=SAMPLE)
    assert error == ("ValidationError", 400, "Endpoint other of account 123456789012 not found.")


@pytest.mark.parametrize(
    ("header", "value", "part"),
    [
        ("X-Amzn-SageMaker-Custom-Attributes", "top_k=1," * 200, "1024"),
        ("X-Amzn-SageMaker-Custom-Attributes", "ä", "ASCII"),
        ("Content-Type", "text/ä", "ASCII"),
        ("X-Amzn-SageMaker-Target-Variant", "Other", "Other"),
        ("X-Amzn-SageMaker-Target-Model", "a.tar.gz", "target-model"),
        ("X-Amzn-SageMaker-Inference-Component", "part", "inference-component"),
    ],
)
def test_headers_that_sagemaker_would_refuse_are_refused(local_endpoint, header, value, part):
    url = f"{local_endpoint.url}/endpoints/spoter/invocations"
    answer = httpx.post(url, content=SAMPLE, headers={header: value.encode()})
    assert (answer.status_code, answer.headers["x-amzn-errortype"]) == (400, "ValidationError")
    assert part in answer.json()["message"]


def test_existing_variant_can_be_requested(local_endpoint):
    answer = runtime_client(local_endpoint).invoke_endpoint(TargetVariant="AllTraffic", Body=SAMPLE, **INVOKE)
    assert answer["InvokedProductionVariant"] == "AllTraffic"


def test_body_above_the_limit_is_refused(local_endpoint):
    error = refused(local_endpoint, Body=b" " * (runtime.MAX_BODY + 1))
    assert error == ("413", 413, "HTTP content length exceeded 6291456 bytes.")


def test_body_at_the_limit_reaches_the_model(local_endpoint):
    code, _, message = refused(local_endpoint, Body=b" " * runtime.MAX_BODY)
    assert code == "ModelError" and "empty_body" in message


def test_body_of_unknown_length_is_limited(local_endpoint):
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
def test_other_operations_are_unknown(local_endpoint, method, path):
    """In particular, TorchServe's management API is not reachable."""
    answer = httpx.request(method, local_endpoint.url + path)
    assert answer.status_code == 404 and answer.headers["x-amzn-errortype"] == "UnknownOperationException"


def send_to(container: str, method: str, path: str, headers: dict[str, str] | None = None) -> httpx.Response:
    """Send a request to the API in front of a container at another URL."""

    async def send() -> httpx.Response:
        app = runtime.application("spoter", container)
        transport = httpx.ASGITransport(app)
        async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport) as client:
            return await client.request(method, f"http://runtime{path}", headers=headers, content=SAMPLE)

    return asyncio.run(send())


def test_unreachable_container_gives_503():
    nowhere = f"http://{LOOPBACK}:{free_port()}"
    answer = send_to(nowhere, "POST", "/endpoints/spoter/invocations")
    assert (answer.status_code, answer.headers["x-amzn-errortype"]) == (503, "ServiceUnavailable")
    assert send_to(nowhere, "GET", "/ping").status_code == 503


def test_slow_container_gives_a_model_error(monkeypatch):
    """A listener that never answers replaces the container, because a model cannot be made slow."""
    monkeypatch.setattr(runtime, "INVOKE_TIMEOUT", 0.1)
    with socket.create_server((LOOPBACK, 0)) as silent:
        answer = send_to(f"http://{LOOPBACK}:{silent.getsockname()[1]}", "POST", "/endpoints/spoter/invocations")
    assert answer.status_code == 424 and answer.json()["OriginalStatusCode"] == 0


def test_only_headers_of_the_api_are_forwarded_and_returned():
    """A listener that records one request replaces the container, because TorchServe does not show headers."""
    received = bytearray()

    def answer_once() -> None:
        connection, _ = listening.accept()
        with connection:
            while not received.endswith(SAMPLE):
                received.extend(connection.recv(65536))
            connection.sendall(
                b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: text/csv\r\nX-Secret: 1\r\n"
                b"X-Amzn-SageMaker-Custom-Attributes: trace=7\r\n\r\nok"
            )

    with socket.create_server((LOOPBACK, 0)) as listening:
        thread = threading.Thread(target=answer_once, daemon=True)
        thread.start()
        headers = {"X-Amzn-SageMaker-Inference-Id": "7", "Accept": "text/csv", "Cookie": "a=b"}
        url = f"http://{LOOPBACK}:{listening.getsockname()[1]}"
        answer = send_to(url, "POST", "/endpoints/spoter/invocations", headers)
    head = bytes(received).partition(b"\r\n\r\n")[0].lower()
    assert b"x-amzn-sagemaker-inference-id: 7" in head and b"accept: text/csv" in head and b"cookie" not in head
    assert (answer.content, answer.headers["content-type"]) == (b"ok", "text/csv")
    assert answer.headers["x-amzn-sagemaker-custom-attributes"] == "trace=7" and "x-secret" not in answer.headers
