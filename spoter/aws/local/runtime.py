"""SageMaker's runtime API in front of one container, for boto3's `invoke_endpoint`.

The only operation is InvokeEndpoint, as described in
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_runtime_InvokeEndpoint.html and in botocore's API model
(sagemaker-runtime/2017-05-13/service-2.json). Signatures are not checked: all credentials are accepted.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from spoter.aws.deploy.requests import VARIANT, log_group
from spoter.aws.local.container import ACCOUNT, REGION

# Maximum of BodyBlob in botocore's model, in bytes. Newer endpoints may accept more; every endpoint accepts this.
MAX_BODY = 6 * 1024 * 1024
INVOKE_TIMEOUT = 60.0  # seconds (API_runtime_InvokeEndpoint)
# "SageMaker strips all POST headers except those supported by the API."
_PREFIX = "x-amzn-sagemaker-"
_FORWARDED = ("content-type", "accept")
# Longest Content-Type, Accept and custom attributes, in ASCII characters (botocore's model).
MAX_HEADER = 1024
_RETURNED = ("content-type", "x-amzn-sagemaker-custom-attributes")


def application(name: str, container: str) -> Starlette:
    """Return the API of an account with one endpoint, in front of the container at this URL (without a path)."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        # No proxy from the environment, and one connection per client: TorchServe has the queue.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=32)
        async with httpx.AsyncClient(base_url=container, trust_env=False, limits=limits, timeout=None) as client:
            app.state.client = client
            yield

    async def invoke(request: Request) -> Response:
        if request.path_params["name"] != name:
            message = f"Endpoint {request.path_params['name']} of account {ACCOUNT} not found."
            return _error(400, "ValidationError", {"message": message})
        headers = {key: value for key, value in request.headers.items() if key in _FORWARDED or key.startswith(_PREFIX)}
        problem = _check_headers(name, headers)
        if problem is not None:
            return _error(400, "ValidationError", {"message": problem})
        try:
            body = await _read_body(request)
        except ClientDisconnect:  # the client is gone
            return Response(status_code=400)
        if body is None:
            # SageMaker's own message, without a type: github.com/aws/sagemaker-python-sdk/issues/171
            return _error(413, None, {"message": f"HTTP content length exceeded {MAX_BODY} bytes."})
        return await _forward(request.app.state.client, name, body, headers)

    async def ping(request: Request) -> Response:
        try:
            answer = await request.app.state.client.get("/ping", timeout=5)
        except httpx.HTTPError:
            return Response(status_code=503)
        return Response(answer.content, answer.status_code, media_type=answer.headers.get("content-type"))

    async def unknown(request: Request, error: Exception) -> Response:
        message = f"{request.method} {request.url.path} is not an operation of this endpoint; only InvokeEndpoint is."
        return _error(404, "UnknownOperationException", {"message": message})

    async def failed(request: Request, error: Exception) -> Response:
        message = f"{type(error).__name__} in the runtime API of `spoter deploy --local`: please report this bug"
        return _error(500, "InternalFailure", {"message": message})

    routes = [Route("/endpoints/{name}/invocations", invoke, methods=["POST"]), Route("/ping", ping)]
    handlers = {404: unknown, 405: unknown, Exception: failed}
    return Starlette(routes=routes, lifespan=lifespan, exception_handlers=handlers)


async def _read_body(request: Request) -> bytes | None:
    """Return the body of a request, or None as soon as it exceeds `MAX_BODY`."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > MAX_BODY:
        return None
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY:
            return None
    return bytes(body)


def _check_headers(name: str, headers: Mapping[str, str]) -> str | None:
    """Return the reason for which SageMaker would refuse a header (names in lower case), or None.

    The endpoint has one variant, one model and no inference components.
    """
    for key, value in headers.items():
        if len(value) > MAX_HEADER or not value.isascii():
            return f"Found {len(value)} characters at {key}, expected at most {MAX_HEADER}, all of them ASCII."
    variant = headers.get(f"{_PREFIX}target-variant", VARIANT)
    if variant != VARIANT:
        return f"Variant {variant} of endpoint {name} not found."
    for kind in ("target-model", "inference-component"):
        if _PREFIX + kind in headers:
            return f"Endpoint {name} does not support the header {_PREFIX}{kind}."
    return None


async def _forward(client: httpx.AsyncClient, name: str, body: bytes, headers: Mapping[str, str]) -> Response:
    """Forward a request to the container and return its answer, as SageMaker does."""
    try:
        async with asyncio.timeout(INVOKE_TIMEOUT):
            answer = await client.post("/invocations", content=body, headers=headers)
    except TimeoutError:
        return _model_error(name, 0, "Your invocation timed out while waiting for a response from container primary.")
    except httpx.HTTPError:
        return _error(503, "ServiceUnavailable", {"Message": "The endpoint's container does not answer."})
    if answer.status_code >= 400:
        return _model_error(name, answer.status_code, answer.content.decode(errors="replace"))
    returned = {key: answer.headers[key] for key in _RETURNED if key in answer.headers}
    return Response(answer.content, headers=returned | {"x-Amzn-Invoked-Production-Variant": VARIANT} | _request_id())


def _model_error(name: str, status: int, body: str) -> Response:
    """Return the 424 for a container's 4xx or 5xx, or for a timeout (status 0)."""
    kind, code = ("client", "CLIENT_ERROR_FROM_MODEL") if 400 <= status < 500 else ("server", "SERVER_ERROR_FROM_MODEL")
    group = log_group(name)
    members = {
        "ErrorCode": code,
        "Message": f'Received {kind} error ({status}) from primary with message "{body}". '
        f"See the log group {group} in account {ACCOUNT} for more information.",
        "OriginalMessage": body,
        "OriginalStatusCode": status,
        "LogStreamArn": f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{group}",
    }
    return _error(424, "ModelError", members)


def _error(status: int, kind: str | None, members: dict[str, Any]) -> Response:
    return JSONResponse(members, status, headers=_request_id() | ({"x-amzn-ErrorType": kind} if kind else {}))


def _request_id() -> dict[str, str]:
    return {"x-amzn-RequestId": str(uuid.uuid4())}
