"""Conversion of AWS Lambda events to requests for a model, and of the model's replies to Lambda's results.

`endpoint_proxy` and `standalone` share this module. It imports only the standard library and `spoter.error_codes`.

API Gateway's REST API sends events of payload format 1.0; its HTTP API and function URLs send format 2.0 (Amazon API
Gateway, "Working with AWS Lambda proxy integrations for HTTP APIs"). Every other event is a direct invocation, and is
the request itself: the existing web client's ``{"keypoints": […]}``, answered with ``[{"gloss": …}, …]``.
"""

import base64
import json
import logging
import os
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from spoter.error_codes import ErrorCode

logger = logging.getLogger(__name__)

JSON = "application/json"
ATTRIBUTES = "x-amzn-sagemaker-custom-attributes"
METHODS = "GET, POST, OPTIONS"
# Headers that a browser may send in addition to the simple ones; AWS's are for signed requests and API keys.
REQUEST_HEADERS = f"accept, authorization, content-type, x-amz-date, x-amz-security-token, x-api-key, {ATTRIBUTES}"
PREFLIGHT_SECONDS = 3600
# Seconds to wait before a retry, by status (RFC 9110, 10.2.3).
RETRY_AFTER = {429: "1", 503: "2"}


class Request(NamedTuple):
    """A request for the model: its body and headers."""

    body: bytes
    content_type: str | None
    accept: str | None
    attributes: str | None


class Reply(NamedTuple):
    """A model's reply to a request."""

    status: int
    content_type: str
    body: bytes


@dataclass(frozen=True)
class _HttpEvent:
    """An event of API Gateway of either version; the names of `headers` are in lower case."""

    version: str
    method: str
    headers: dict[str, str]
    query: dict[str, str]
    body: str
    is_base64: bool


def error_reply(code: ErrorCode, message: str, where: str | None = None, status: int | None = None) -> Reply:
    """Return an error in the server's form (docs/errors.md), with `status` or else the status of its code."""
    document = {"error": {"code": code, "message": message, "where": where}}
    return Reply(status or code.status, JSON, json.dumps(document).encode())


def handle_event(
    event: Any,
    respond: Callable[[Request], Reply],
    about: Mapping[str, str] | None = None,
    log_fields: Mapping[str, object] | None = None,
) -> Any:
    """Answer an event of Lambda.

    `respond` is not called for preflights and probes. The answer to a probe has ``"alive": true`` and the fields of
    `about`, the name of the endpoint or the model. The log line has status, milliseconds, bytes and the fields of
    `log_fields` after the return of `respond`.

    Returns
    -------
    dict, list or str
        For API Gateway: ``statusCode``, ``headers``, ``body``. For a direct invocation: the list of glosses, the
        whole document if the request may hold several clips, or an error with ``errorMessage`` (which the existing
        web client reads), ``errorType``, ``statusCode`` and our ``error``.
    """
    logger.setLevel(logging.INFO)  # Lambda's default is WARNING
    started = time.perf_counter()
    sizes: dict[str, int] = {}

    def respond_or_report(request: Request) -> Reply:
        sizes["bytes"] = len(request.body)
        try:
            return respond(request)
        except Exception as error:  # the client must get a reply and no traceback
            # Without the message, which may quote a landmark.
            frames = "".join(traceback.format_tb(error.__traceback__))
            logger.error("%s in a request: please report this bug\n%s", type(error).__name__, frames)
            return error_reply(ErrorCode.INTERNAL, "the function failed; see its log")

    http = _parse_http(event)
    result: Any
    if http is None:
        status, result = _answer_direct(event, respond_or_report, about or {})
    else:
        status, headers, content = _answer_http(http, respond_or_report, about or {})
        headers |= _cors_headers(http.headers.get("origin"))
        # All answers of our servers are text: JSON, JSON Lines or CSV in UTF-8.
        text = content.decode(errors="replace")
        result = {"statusCode": status, "headers": headers, "body": text, "isBase64Encoded": False}
    line: dict[str, object] = {"event": http.version if http else "direct", "status": status}
    line |= {"ms": round(1e3 * (time.perf_counter() - started), 1), **sizes, **(log_fields or {})}
    logger.info("%s", json.dumps(line))
    return result


def _parse_http(event: Any) -> _HttpEvent | None:
    """Parse an event of API Gateway or a function URL; return None for every other event."""
    if not isinstance(event, dict) or not isinstance(event.get("requestContext"), dict):
        return None
    http = event["requestContext"].get("http")
    version, method = ("2.0", http.get("method")) if isinstance(http, dict) else ("1.0", event.get("httpMethod"))
    headers, query = event.get("headers") or {}, event.get("queryStringParameters") or {}
    body = event.get("body") or ""
    if not isinstance(method, str) or not isinstance(body, str):
        return None
    if not isinstance(headers, dict) or not isinstance(query, dict):
        return None
    headers = {name.lower(): value for name, value in headers.items() if isinstance(value, str)}
    return _HttpEvent(version, method, headers, query, body, bool(event.get("isBase64Encoded")))


def _answer_http(
    http: _HttpEvent, respond: Callable[[Request], Reply], about: Mapping[str, str]
) -> tuple[int, dict[str, str], bytes]:
    headers: dict[str, str] = {}
    if http.method == "OPTIONS":
        return 204, headers, b""
    if http.method == "GET":
        reply = Reply(200, JSON, json.dumps({"alive": True, **about}).encode())
    elif http.method != "POST":
        headers["Allow"] = METHODS
        reply = error_reply(ErrorCode.METHOD_NOT_ALLOWED, f"found method {http.method}, expected one of {METHODS}")
    else:
        reply = _answer_post(http, respond)
        if reply.status in RETRY_AFTER:
            headers["Retry-After"] = RETRY_AFTER[reply.status]
    return reply.status, {"Content-Type": reply.content_type, **headers}, reply.body


def _answer_post(http: _HttpEvent, respond: Callable[[Request], Reply]) -> Reply:
    try:
        # surrogatepass: the model's server reports invalid Unicode
        text = http.body
        body = base64.b64decode(text, validate=True) if http.is_base64 else text.encode(errors="surrogatepass")
    except ValueError:  # binascii.Error, or a character outside ASCII
        return error_reply(ErrorCode.INVALID_BASE64, "isBase64Encoded is true, but the body is not base64", "body")
    # The query may hold options too, as in ?top_k=3; the model's server refuses unknown and repeated ones.
    options = [http.headers.get(ATTRIBUTES), *(f"{name}={value}" for name, value in http.query.items())]
    attributes = ",".join(option for option in options if option) or None
    return respond(Request(body, http.headers.get("content-type"), http.headers.get("accept"), attributes))


def _answer_direct(event: Any, respond: Callable[[Request], Reply], about: Mapping[str, str]) -> tuple[int, Any]:
    if isinstance(event, dict):
        # The existing web client probes with "default": with frames it expects glosses, without frames a status.
        # "video" is the name of a video that it stored in a bucket; the model's server has another key for it.
        if "default" in event and not event["default"]:
            return 200, {"alive": True, **about}
        server_keys = {"default": "keypoints", "video": "uniqueName"}
        event = {server_keys.get(key, key): value for key, value in event.items()}
    body = json.dumps(event, separators=(",", ":")).encode()
    status, _, content = respond(Request(body, JSON, JSON, None))
    try:
        document = json.loads(content)
    except ValueError:  # from an endpoint with another container
        return status, content.decode(errors="replace")
    if not isinstance(document, dict):
        return status, document
    error = document.get("error")
    if not isinstance(error, dict):  # the document for several clips has an error per clip
        return status, document.get("instances", document)
    message = f"{error['where']}: {error['message']}" if error["where"] else error["message"]
    return status, {"errorMessage": message, "errorType": error["code"], "statusCode": status, "error": error}


def _cors_headers(origin: str | None) -> dict[str, str]:
    """Return the CORS headers for a page whose origin is in SPOTER_ORIGINS (comma-separated, or *)."""
    allowed = {part.strip() for part in os.environ.get("SPOTER_ORIGINS", "").split(",") if part.strip()}
    if not origin or not allowed & {origin, "*"}:
        return {"Vary": "Origin"} if allowed else {}
    return {
        "Access-Control-Allow-Origin": "*" if "*" in allowed else origin,
        "Access-Control-Allow-Methods": METHODS,
        "Access-Control-Allow-Headers": REQUEST_HEADERS,
        "Access-Control-Expose-Headers": "retry-after",
        "Access-Control-Max-Age": str(PREFLIGHT_SECONDS),
        "Vary": "Origin",
    }
