"""Local endpoints with SageMaker's real container code, one per entry point, shared by all tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spoter.aws.choices import EntryPoint
from spoter.aws.local.endpoint import LocalEndpoint
from spoter.torchserve.pack import build
from tests import ROOT


@pytest.fixture(scope="session")
def archive(tmp_path_factory) -> Path:
    """model.tar.gz of the bundled model."""
    return build(ROOT / "models" / "dgs11", "spoter", None, tmp_path_factory.mktemp("store"))[-1]


@pytest.fixture(scope="session")
def local_endpoint(archive: Path) -> Iterator[LocalEndpoint]:
    """Endpoint "spoter" with one worker and entry point handler, as with `spoter deploy --local`."""
    with LocalEndpoint(archive, workers=1) as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def functions_endpoint(archive: Path) -> Iterator[LocalEndpoint]:
    """Endpoint "spoter" with one worker and entry point functions (code/inference.py)."""
    with LocalEndpoint(archive, workers=1, entry_point=EntryPoint.functions) as endpoint:
        yield endpoint


def runtime_client(endpoint: LocalEndpoint) -> Any:
    """Return boto3's client of the runtime API, without retries."""
    import boto3
    from botocore.config import Config

    config = Config(retries={"total_max_attempts": 1}, max_pool_connections=50)
    return boto3.client("sagemaker-runtime", endpoint_url=endpoint.url, config=config, **endpoint.credentials)


def invoke(client: Any, body: bytes, content_type: str, **options: str) -> tuple[int, str, bytes]:
    """Invoke the endpoint; return the container's status, content type ("" with an error) and body."""
    try:
        answer = client.invoke_endpoint(EndpointName="spoter", Body=body, ContentType=content_type, **options)
    except client.exceptions.ModelError as error:
        return error.response["OriginalStatusCode"], "", error.response["OriginalMessage"].encode()
    return 200, answer["ContentType"], answer["Body"].read()
