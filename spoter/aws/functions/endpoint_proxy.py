"""A Lambda function that forwards requests to a SageMaker endpoint: ``spoter.aws.functions.endpoint_proxy.handler``.

`build_proxy` zips it with `events`, the error codes and kept_points.json. Its other imports, boto3 and the standard
library, are part of Lambda's Python runtimes. Environment variables:

SPOTER_ENDPOINT
    Name of the endpoint.
SPOTER_PAYLOAD_LIMIT
    Largest request in bytes that the endpoint accepts, by default 6291456; set 4194304 for a serverless endpoint.
SPOTER_ORIGINS
    Comma-separated origins of web pages that may send requests, or * for all; by default none.

Lambda accepts events of at most 6 MB (Lambda quotas, "Invocation payload"), base64 included; API Gateway accepts 10 MB.
Larger requests do not reach this function.
"""

import json
import logging
import math
import os
import random
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import boto3
from botocore import exceptions
from botocore.config import Config

from spoter.aws.functions.events import JSON, Reply, Request, error_reply, handle_event
from spoter.error_codes import ErrorCode

logger = logging.getLogger(__name__)

KEPT_POINTS = "kept_points.json"
# Largest body in bytes of a real-time endpoint (API model of SageMaker Runtime, BodyBlob).
REAL_TIME_LIMIT = 6_291_456
# Longest value in characters of ContentType, Accept and CustomAttributes (the same API model).
HEADER_LIMIT = 1024
# Largest number of characters quoted from a message of the container or of AWS.
MAX_QUOTE = 400
# Error codes of AWS after which a retry may succeed. A serverless endpoint answers with ModelNotReadyException while it
# starts.
THROTTLED = {"ThrottlingException", "TooManyRequestsException"}
UNAVAILABLE = {"ServiceUnavailable", "ModelNotReadyException", "InternalFailure", "InternalDependencyException"}
# Seconds for retries, for connecting and for returning the answer, and of the first pause, which doubles each time.
RETRYING, CONNECTING, RESERVE, FIRST_PAUSE = 6.0, 2.0, 1.0, 0.2


def handler(event: Any, context: Any) -> Any:
    """Answer an event of Lambda with `handle_event`."""
    remaining = context.get_remaining_time_in_millis() / 1e3
    # Rounded up, the remaining time is the function's timeout for every event, so that all events share one client.
    read_timeout = max(1.0, math.ceil(remaining) - RETRYING - CONNECTING - RESERVE)
    last_start = time.monotonic() + remaining - RESERVE - read_timeout - min(CONNECTING, read_timeout)
    endpoint = os.environ.get("SPOTER_ENDPOINT", "")
    log_fields: dict[str, object] = {}

    def respond(request: Request) -> Reply:
        if not endpoint:
            logger.error("SPOTER_ENDPOINT is not set: expected the endpoint's name")
            return error_reply(ErrorCode.INTERNAL, "the function is not configured; see its log")
        names = {"ContentType": request.content_type, "Accept": request.accept, "CustomAttributes": request.attributes}
        headers = {name: value for name, value in names.items() if value}
        refusal = _check_headers(headers)
        if refusal is not None:
            return refusal
        limit = int(os.environ.get("SPOTER_PAYLOAD_LIMIT", REAL_TIME_LIMIT))
        body = request.body
        if len(body) > limit:
            reduced = reduce_body(body, request.attributes)
            if reduced is None or len(reduced) > limit:
                return _too_large(body, reduced, limit)
            body, log_fields["reduced"] = reduced, len(reduced)
        return invoke(_client(read_timeout), endpoint, body, headers, last_start, log_fields)

    return handle_event(event, respond, {"endpoint": endpoint}, log_fields)


def invoke(
    client: Any, endpoint: str, body: bytes, headers: dict[str, str], last_start: float, log_fields: dict[str, object]
) -> Reply:
    """Invoke the endpoint; retry while it is throttled or unreachable and time remains.

    botocore's retries are off: they do not know the function's deadline, and after a timeout they repeat a request that
    the endpoint is still processing.

    `client` is a client of sagemaker-runtime without retries. `headers` holds those of ``ContentType``, ``Accept`` and
    ``CustomAttributes`` that the request has. No attempt starts after `last_start` (`time.monotonic`), because too
    little time would remain for its answer. `log_fields` gets the number of ``attempts``.
    """
    attempts = 1
    while True:
        log_fields["attempts"] = attempts
        try:
            response = client.invoke_endpoint(EndpointName=endpoint, Body=body, **headers)
            return Reply(200, response["ContentType"], response["Body"].read())
        except (exceptions.ClientError, exceptions.BotoCoreError) as error:
            # Jitter: requests that were throttled together should not be repeated together.
            pause = FIRST_PAUSE * 2 ** (attempts - 1) * random.uniform(0.5, 1.5)
            if not _is_temporary(error) or time.monotonic() + pause > last_start:
                return _failure_reply(error)
        time.sleep(pause)
        attempts += 1


def reduce_body(body: bytes, attributes: str | None = None) -> bytes | None:
    """Remove the data that the model does not use from MediaPipe Holistic's frames; None if there are no such frames.

    x and y of the model's landmarks stay unchanged, and so do all values that the server would refuse, so that the
    answer is the same. The exception is an object with a repeated key, of which only the last value is read.

    If the custom attributes or the body contain the size of the picture, all points of a part stay, because the server
    uses all of them to detect coordinates in pixels.
    """
    try:
        document = json.loads(body.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    nested = document.get("clips")
    clips = [document, *(nested if isinstance(nested, list) else [])]
    has_size = "width" in document or "width" in (attributes or "")
    changed = [_reduce_clip(clip, has_size or "width" in clip) for clip in clips if isinstance(clip, dict)]
    if not any(changed):
        return None
    try:
        return json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
    except ValueError:  # NaN and Infinity are not JSON
        return None


def _reduce_clip(clip: dict[str, Any], has_size: bool) -> bool:
    """Reduce the frames of a clip in place; return whether there were any."""
    forms, others, kept = _kept_points()
    changed = False
    for form in forms:
        frames = clip.get(form)
        for i, frame in enumerate(frames if isinstance(frames, list) else []):
            if isinstance(frame, dict) and frame.keys() & kept.keys() and not frame.keys() & others:
                frames[i] = {  # type: ignore[index]  # it is a list
                    part: _reduce_part(frame[part], used, has_size)
                    for part, used in kept.items()
                    if used is not None and part in frame
                }
                changed = True
    return changed


def _reduce_part(points: Any, used: frozenset[int], has_size: bool) -> Any:
    """Return the points of a part with x and y only; null replaces valid points that the model does not use."""
    if not isinstance(points, list):
        return points
    return [
        _reduce_point(point, has_size or i in used) if isinstance(point, dict) else point
        for i, point in enumerate(points)
    ]


def _reduce_point(point: dict[str, Any], keep: bool) -> dict[str, Any] | None:
    position: dict[str, Any] = {axis: point[axis] for axis in ("x", "y") if axis in point}
    # Not isinstance: true and false are not numbers. 1e300: JSON's numbers can exceed a float.
    valid = all(value is None or (type(value) in (int, float) and abs(value) < 1e300) for value in position.values())
    return None if valid and not keep else position


@lru_cache(maxsize=1)
def _kept_points() -> tuple[list[str], set[str], dict[str, frozenset[int] | None]]:
    """Return the content of kept_points.json: forms, keys of other estimators, points (`build_proxy.kept_points`)."""
    document = json.loads(Path(__file__).with_name(KEPT_POINTS).read_text(encoding="utf-8"))
    points = {part: None if used is None else frozenset(used) for part, used in document["points"].items()}
    return document["forms"], set(document["others"]), points


@lru_cache(maxsize=2)
def _client(read_timeout: float) -> Any:
    """Return a client of sagemaker-runtime that waits `read_timeout` seconds for an answer and does not retry."""
    connecting = min(CONNECTING, read_timeout)
    config = Config(connect_timeout=connecting, read_timeout=read_timeout, retries={"total_max_attempts": 1})
    return boto3.client("sagemaker-runtime", config=config)


def _check_headers(headers: dict[str, str]) -> Reply | None:
    """Refuse a header that SageMaker does not accept: more than 1024 characters, or not printable ASCII."""
    errors = {
        "ContentType": (ErrorCode.UNSUPPORTED_CONTENT_TYPE, "header Content-Type"),
        "Accept": (ErrorCode.NOT_ACCEPTABLE, "header Accept"),
        "CustomAttributes": (ErrorCode.BAD_ATTRIBUTES, "custom attributes"),
    }
    for name, value in headers.items():
        if len(value) > HEADER_LIMIT or not (value.isascii() and value.isprintable()):
            code, where = errors[name]
            message = f"found {len(value)} characters, expected at most {HEADER_LIMIT}, all of them printable ASCII"
            return error_reply(code, message, where)
    return None


def _too_large(body: bytes, reduced: bytes | None, limit: int) -> Reply:
    detail = "only JSON frames of MediaPipe Holistic can be reduced"
    if reduced is not None:
        detail = f"{len(reduced)} bytes remain after removing unused points"
    text = f"found {len(body)} bytes, expected at most {limit}; {detail}: send fewer frames or clips, or only `points`"
    return error_reply(ErrorCode.BODY_TOO_LARGE, text)


def _is_temporary(error: Exception) -> bool:
    """Return whether a retry may succeed soon; a timeout is not temporary, because it would only happen again."""
    if isinstance(error, exceptions.ClientError):
        # TorchServe answers 503 if its queue is full or no worker is ready.
        if error.response["Error"]["Code"] == "ModelError":
            return bool(error.response.get("OriginalStatusCode") == 503)
        return error.response["Error"]["Code"] in THROTTLED | UNAVAILABLE
    # ConnectionClosedError: the connection was closed while Lambda had frozen the function.
    return isinstance(error, exceptions.ConnectionError | exceptions.ConnectionClosedError)


def _failure_reply(error: Exception) -> Reply:
    """Return the reply for an invocation that failed and is not retried."""
    if isinstance(error, exceptions.ReadTimeoutError):
        return error_reply(ErrorCode.ENDPOINT_TIMEOUT, "the endpoint did not answer in time; send fewer frames")
    if isinstance(error, exceptions.HTTPClientError | exceptions.ConnectionError):
        logger.error("%s", type(error).__name__)
        return error_reply(ErrorCode.ENDPOINT_UNAVAILABLE, "the endpoint cannot be reached; try again")
    if not isinstance(error, exceptions.ClientError):
        raise error  # no region or no credentials: the function is not configured
    code = error.response["Error"]["Code"]
    if code == "ModelError":
        return _model_error_reply(error.response)
    if code in THROTTLED:
        return error_reply(ErrorCode.ENDPOINT_BUSY, "the endpoint has too many requests; try again")
    if code in UNAVAILABLE:
        return error_reply(ErrorCode.ENDPOINT_UNAVAILABLE, "the endpoint is not ready; try again")
    if error.response["ResponseMetadata"]["HTTPStatusCode"] == 413:
        return error_reply(ErrorCode.BODY_TOO_LARGE, "the request exceeds the endpoint's limit; send fewer frames")
    # No such endpoint, or no permission to invoke it. AWS's message names them and quotes nothing of the request.
    logger.error("%s: %s", code, error.response["Error"].get("Message", "")[:MAX_QUOTE])
    return error_reply(ErrorCode.ENDPOINT_REFUSED, f"the endpoint cannot be invoked: {code}; see the function's log")


def _model_error_reply(response: dict[str, Any]) -> Reply:
    """Forward a client error unchanged; turn failures of the model's server into 502, 503 or 504."""
    status, text = int(response.get("OriginalStatusCode", 500)), response.get("OriginalMessage", "")
    if status == 503:
        return error_reply(ErrorCode.ENDPOINT_UNAVAILABLE, "the model's server has no free worker; try again")
    if status == 0:  # SageMaker's code for no answer within its 60 seconds
        return error_reply(ErrorCode.ENDPOINT_TIMEOUT, "the endpoint did not answer in time; send fewer frames")
    if not 400 <= status < 500:
        message = f"the model's server failed with status {status}; see its log in CloudWatch"
        return error_reply(ErrorCode.ENDPOINT_FAILED, message)
    if _is_from_our_server(text):
        return Reply(status, JSON, text.encode())
    # Another container's message, or CSV or JSON Lines in which all clips are wrong.
    message = text[:MAX_QUOTE] or f"the model's server answered with status {status}"
    return error_reply(ErrorCode.ENDPOINT_REFUSED, message, status=status)


def _is_from_our_server(text: str) -> bool:
    """Return whether a body comes from our server: an error, or the answers to several clips."""
    try:
        document = json.loads(text)
    except ValueError:
        return False
    if not isinstance(document, dict):
        return False
    error = document.get("error")
    return "answers" in document or (isinstance(error, dict) and {"code", "message", "where"} <= error.keys())
