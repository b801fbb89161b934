"""Events of AWS Lambda as requests for a model, and the model's replies as what Lambda returns.

`endpoint_proxy` and `standalone` share this module. It needs nothing but the standard library and `spoter.error_codes`.

API Gateway's REST API sends events of payload format 1.0, its HTTP API and function URLs of 2.0 (Amazon API Gateway,
"Working with AWS Lambda proxy integrations for HTTP APIs"). Anything else is a direct invocation, whose event is the
request itself: the existing web client's ``{"keypoints": […]}``, answered ``[{"gloss": …}, …]``.
"""

from __future__ import annotations

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
# What a browser may send in addition to the simple headers; those of AWS belong to a signed request and an API key.
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
    """An event of API Gateway, whichever its version; the names of `headers` are in lower case."""

    version: str
    method: str
    headers: dict[str, str]
    query: dict[str, str]
    body: str
    is_base64: bool


def error_reply(code: ErrorCode, message: str, where: str | None = None, status: int | None = None) -> Reply:
    """Return an error as the server writes it (docs/errors.md), with the status of its code unless given."""
    document = {"error": {"code": code, "message": message, "where": where}}
    return Reply(status or code.status, JSON, json.dumps(document).encode())


def handle_event(
    event: Any,
    respond: Callable[[Request], Reply],
    about: Mapping[str, str] | None = None,
    log_fields: Mapping[str, object] | None = None,
) -> Any:
    """Answer an event of Lambda.

    `respond` is not called for preflights and probes. The answer to a probe holds `about` in addition to
    ``"alive": true``: the endpoint's or the model's name. The log line holds `log_fields`, read after `respond` has
    returned, in addition to status, milliseconds and bytes.

    Returns
    -------
    dict, list or str
        For API Gateway: ``statusCode``, ``headers``, ``body``. For a direct invocation: the glosses as a list, the
        whole document where the request may hold several clips, or an error: ``errorMessage``, which the existing
        web client looks for, ``errorType``, ``statusCode`` and our ``error``.
    """
    logger.setLevel(logging.INFO)  # Lambda's own is WARNING
    started = time.perf_counter()
    sizes: dict[str, int] = {}

    def respond_always(request: Request) -> Reply:
        sizes["bytes"] = len(request.body)
        try:
            return respond(request)
        except Exception as error:  # whatever it is, the client gets a reply and no traceback
            # Not the message: it may quote a landmark.
            frames = "".join(traceback.format_tb(error.__traceback__))
            logger.error("%s while answering a request; please report it\n%s", type(error).__name__, frames)
            return error_reply(ErrorCode.INTERNAL, "the function failed; its log says where")

    http = _parse_http(event)
    result: Any
    if http is None:
        status, result = _answer_direct(event, respond_always, about or {})
    else:
        status, headers, content = _answer_http(http, respond_always, about or {})
        headers |= _cors_headers(http.headers.get("origin"))
        # All that our servers answer is text: JSON, JSON Lines or CSV in UTF-8.
        text = content.decode(errors="replace")
        result = {"statusCode": status, "headers": headers, "body": text, "isBase64Encoded": False}
    line: dict[str, object] = {"event": http.version if http else "direct", "status": status}
    line |= {"ms": round(1e3 * (time.perf_counter() - started), 1), **sizes, **(log_fields or {})}
    logger.info("%s", json.dumps(line))
    return result


def _parse_http(event: Any) -> _HttpEvent | None:
    """Parse an event of API Gateway or a function URL; None for any other, and for one that only looks similar."""
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
        reply = error_reply(ErrorCode.METHOD_NOT_ALLOWED, f"found the method {http.method}, expected {METHODS}")
    else:
        reply = _answer_post(http, respond)
        if reply.status in RETRY_AFTER:
            headers["Retry-After"] = RETRY_AFTER[reply.status]
    return reply.status, {"Content-Type": reply.content_type, **headers}, reply.body


def _answer_post(http: _HttpEvent, respond: Callable[[Request], Reply]) -> Reply:
    try:
        # surrogatepass: the model's server reports what is not Unicode
        text = http.body
        body = base64.b64decode(text, validate=True) if http.is_base64 else text.encode(errors="surrogatepass")
    except ValueError:  # binascii.Error is one, and a character beyond ASCII raises another
        return error_reply(ErrorCode.INVALID_BASE64, "found a body that is not base64", "body")
    # Options may come in the query too, as ?top_k=3; the model's server refuses unknown and repeated ones.
    options = [http.headers.get(ATTRIBUTES), *(f"{name}={value}" for name, value in http.query.items())]
    attributes = ",".join(option for option in options if option) or None
    return respond(Request(body, http.headers.get("content-type"), http.headers.get("accept"), attributes))


def _answer_direct(event: Any, respond: Callable[[Request], Reply], about: Mapping[str, str]) -> tuple[int, Any]:
    if isinstance(event, dict):
        # The existing web client probes with "default": with frames it expects glosses, without it asks for a sign of
        # life. "video" names a video that it has put into a bucket; the model's server has another key for that.
        if "default" in event and not event["default"]:
            return 200, {"alive": True, **about}
        server_keys = {"default": "keypoints", "video": "uniqueName"}
        event = {server_keys.get(key, key): value for key, value in event.items()}
    body = json.dumps(event, separators=(",", ":")).encode()
    status, _, content = respond(Request(body, JSON, JSON, None))
    try:
        document = json.loads(content)
    except ValueError:  # from an endpoint with another container than ours
        return status, content.decode(errors="replace")
    if not isinstance(document, dict):
        return status, document
    error = document.get("error")
    if not isinstance(error, dict):  # several clips are answered by their document, in which each has its own errors
        return status, document.get("instances", document)
    text = f"{error['where']}: {error['message']}" if error["where"] else error["message"]
    return status, {"errorMessage": text, "errorType": error["code"], "statusCode": status, "error": error}


def _cors_headers(origin: str | None) -> dict[str, str]:
    """Return the headers that let a page of one of SPOTER_ORIGINS (with commas between, or *) read the answer."""
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
