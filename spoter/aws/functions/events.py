"""What Lambda hands a function and what it wants back: API Gateway's events, function URLs and direct invocations.

Shared by `lambda_function` (asks a SageMaker endpoint) and `lambda_serve` (has the model inside), and zipped beside
them: it knows neither of them, and needs nothing but the standard library.

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

logger = logging.getLogger(__name__)

JSON = "application/json"
ATTRIBUTES = "x-amzn-sagemaker-custom-attributes"
METHODS = "GET, POST, OPTIONS"
# What a browser may send beside the simple headers; those of AWS are a signed request's and an API key's.
REQUEST_HEADERS = f"accept, authorization, content-type, x-amz-date, x-amz-security-token, x-api-key, {ATTRIBUTES}"
PREFLIGHT_SECONDS = 3600
# Seconds after which to come again, by status (RFC 9110, 10.2.3).
RETRY_AFTER = {429: "1", 503: "2"}

Respond = Callable[[bytes, str | None, str | None, str | None], tuple[int, str, bytes]]
"""Body, Content-Type, Accept and custom attributes of a request -> status, Content-Type and body of its answer."""


@dataclass(frozen=True)
class _Http:
    """An event of API Gateway, whichever its version; the names of `headers` are in lower case."""

    version: str
    method: str
    headers: dict[str, str]
    query: dict[str, str]
    body: str
    encoded: bool


def answer(
    event: object, respond: Respond, about: Mapping[str, str] | None = None, notes: Mapping[str, object] | None = None
) -> dict | list | str:
    """Answer an event of Lambda.

    Parameters
    ----------
    event : dict, or whatever JSON holds
        As Lambda hands it over.
    respond : callable
        Answers a request; an error's body is that of `error_body`. It is not called for preflights and probes.
    about : mapping, optional
        What a probe is told beside ``"alive": true``: the endpoint's name, or the model's.
    notes : mapping, optional
        What the log line says beside status, milliseconds and bytes; read once `respond` is through.

    Returns
    -------
    dict, list or str
        API Gateway's answer: ``statusCode``, ``headers``, ``body``. To a direct invocation, the glosses as a list, the
        whole document where the request may hold several clips, or an error: ``errorMessage``, which the existing
        web client looks for, ``errorType``, ``statusCode`` and our ``error``.
    """
    logger.setLevel(logging.INFO)  # Lambda's own is WARNING
    started = time.perf_counter()
    seen: dict[str, object] = {}

    def guarded(body: bytes, content_type: str | None, accept: str | None, attributes: str | None):
        seen["bytes"] = len(body)
        try:
            status, kind, content = respond(body, content_type, accept, attributes)
        except Exception as error:  # whatever it is, the client gets an answer and no traceback
            # Not the message: it may quote a landmark.
            frames = "".join(traceback.format_tb(error.__traceback__))
            logger.error("%s while answering a request; please report it\n%s", type(error).__name__, frames)
            message = "the function failed; its log says where"
            status, kind, content = 500, JSON, error_body("internal", message)
        return status, kind, content

    http = _http(event)
    if http is None:
        status, reply = _direct(event, guarded, about or {})
    else:
        status, headers, content = _over_http(http, guarded, about or {})
        headers |= _cors(http.headers.get("origin"))
        # All that our servers answer is text: JSON, JSON Lines or CSV in UTF-8.
        text = content.decode(errors="replace")
        reply = {"statusCode": status, "headers": headers, "body": text, "isBase64Encoded": False}
    line = {"event": http.version if http else "direct", "status": status}
    line |= {"ms": round(1e3 * (time.perf_counter() - started), 1), **seen, **(notes or {})}
    logger.info("%s", json.dumps(line))
    return reply


def error_body(code: str, message: str, where: str | None = None) -> bytes:
    """Return the body of an error as the server writes it (docs/errors.md)."""
    return json.dumps({"error": {"code": code, "message": message, "where": where}}).encode()


def _http(event: object) -> _Http | None:
    """Take up an event of API Gateway or a function URL; None for any other, and for what somebody made look alike."""
    if not isinstance(event, dict) or not isinstance(event.get("requestContext"), dict):
        return None
    http = event["requestContext"].get("http")
    if isinstance(http, dict):
        version, method = "2.0", http.get("method")
    else:
        version, method = "1.0", event.get("httpMethod")
    headers, query = event.get("headers") or {}, event.get("queryStringParameters") or {}
    body = event.get("body") or ""
    if not all(isinstance(text, str) for text in (method, body)) or not isinstance(headers, dict):
        return None
    if not isinstance(query, dict):
        return None
    headers = {name.lower(): value for name, value in headers.items() if isinstance(value, str)}
    return _Http(version, method, headers, query, body, bool(event.get("isBase64Encoded")))


def _over_http(http: _Http, respond: Respond, about: Mapping[str, str]) -> tuple[int, dict[str, str], bytes]:
    if http.method == "OPTIONS":
        return 204, {}, b""
    if http.method == "GET":
        return 200, {"Content-Type": JSON}, json.dumps({"alive": True, **about}).encode()
    if http.method != "POST":
        message = f"found the method {http.method}, expected {METHODS}"
        return 405, {"Content-Type": JSON, "Allow": METHODS}, error_body("method_not_allowed", message)
    try:
        # surrogatepass: what is no Unicode is reported as such by the model's server
        body = base64.b64decode(http.body, validate=True) if http.encoded else http.body.encode(errors="surrogatepass")
    except ValueError:  # binascii.Error is one, and what is beyond ASCII another
        return 400, {"Content-Type": JSON}, error_body("invalid_base64", "found a body that is no base64", "body")
    # Options may stand in the query too, as ?top_k=3; an unknown or repeated one is the model's server's to refuse.
    said = [http.headers.get(ATTRIBUTES), *(f"{name}={value}" for name, value in http.query.items())]
    attributes = ",".join(part for part in said if part) or None
    status, kind, content = respond(body, http.headers.get("content-type"), http.headers.get("accept"), attributes)
    headers = {"Content-Type": kind}
    if status in RETRY_AFTER:
        headers["Retry-After"] = RETRY_AFTER[status]
    return status, headers, content


def _direct(event: object, respond: Respond, about: Mapping[str, str]) -> tuple[int, dict | list | str]:
    if isinstance(event, dict) and "default" in event:
        # The probe of the existing web client. With frames it gets glosses, as it expects, and real ones; without, it
        # is told that the function is alive.
        if not event["default"]:
            return 200, {"alive": True, **about}
        event = {("keypoints" if key == "default" else key): value for key, value in event.items()}
    if isinstance(event, dict) and "video" in event:
        # The web client names a video that it has put into a bucket; the model's server knows the key by another name.
        event = {("uniqueName" if key == "video" else key): value for key, value in event.items()}
    body = json.dumps(event, separators=(",", ":")).encode()
    status, _, content = respond(body, JSON, JSON, None)
    try:
        document = json.loads(content)
    except ValueError:  # of an endpoint with another container than ours
        return status, content.decode(errors="replace")
    if not isinstance(document, dict):
        return status, document
    error = document.get("error")
    if not isinstance(error, dict):  # several clips are answered by their document, in which each has its own errors
        return status, document.get("instances", document)
    text = f"{error['where']}: {error['message']}" if error["where"] else error["message"]
    return status, {"errorMessage": text, "errorType": error["code"], "statusCode": status, "error": error}


def _cors(origin: str | None) -> dict[str, str]:
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
