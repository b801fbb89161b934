"""A Lambda function that forwards requests to a SageMaker endpoint: ``spoter.aws.functions.endpoint_proxy.handler``.

`build_proxy` zips it with `events`, the error codes and kept_points.json; Lambda's Python runtimes have the rest (boto3
and the standard library). Its environment:

SPOTER_ENDPOINT
    Name of the endpoint.
SPOTER_PAYLOAD_LIMIT
    Bytes that the endpoint takes, by default 6291456; 4194304 for a serverless one.
SPOTER_ORIGINS
    Origins of pages that may send requests from a browser, with commas between, or *; none by default.

Lambda itself takes events of at most 6 MB (Lambda quotas, "Invocation payload"), base64 included; API Gateway takes 10.
Larger requests never get here.
"""

from __future__ import annotations

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
# SageMaker Runtime's API model, BodyBlob: what a real-time endpoint takes.
REAL_TIME_LIMIT = 6_291_456
# The same model: longest of the headers ContentType, Accept and CustomAttributes.
HEADER_LIMIT = 1024
# Characters quoted from a message of the container or AWS.
LONGEST_QUOTE = 400
# Codes of AWS after which the same request may succeed a little later; a serverless endpoint that is starting answers
# with ModelNotReadyException.
THROTTLED = {"ThrottlingException", "TooManyRequestsException"}
UNAVAILABLE = {"ServiceUnavailable", "ModelNotReadyException", "InternalFailure", "InternalDependencyException"}
# Seconds: for retries; for connecting; for writing the answer; of the first pause, which doubles.
RETRYING, CONNECTING, RESERVE, FIRST_PAUSE = 6.0, 2.0, 1.0, 0.2


def handler(event: Any, context: Any) -> Any:
    """Answer an event; see `handle_event`."""
    remaining = context.get_remaining_time_in_millis() / 1e3
    # Rounded up it is the function's timeout, whatever the event, so that all of them share a client.
    read_timeout = max(1.0, math.ceil(remaining) - RETRYING - CONNECTING - RESERVE)
    last_start = time.monotonic() + remaining - RESERVE - read_timeout - min(CONNECTING, read_timeout)
    endpoint = os.environ.get("SPOTER_ENDPOINT", "")
    log_fields: dict[str, object] = {}

    def respond(request: Request) -> Reply:
        if not endpoint:
            logger.error("found no SPOTER_ENDPOINT in the environment, expected the endpoint's name")
            return error_reply(ErrorCode.INTERNAL, "the function is not set up; its log says what is missing")
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
    """Invoke the endpoint; retry while it is throttled or unreachable and there is time.

    The loop is our own because botocore's retries do not know how long the function may still run, and because they
    send a request again whose answer takes too long, to an endpoint that is busy with it already.

    `client` is one of sagemaker-runtime, without retries. `headers` holds ``ContentType``, ``Accept`` and
    ``CustomAttributes``, those that are present. After `last_start` (`time.monotonic`) there is no time to wait for the
    answer to another request. `log_fields` gets the number of ``attempts``.
    """
    attempts = 1
    while True:
        log_fields["attempts"] = attempts
        try:
            response = client.invoke_endpoint(EndpointName=endpoint, Body=body, **headers)
            return Reply(200, response["ContentType"], response["Body"].read())
        except (exceptions.ClientError, exceptions.BotoCoreError) as error:
            # Jitter: requests that were throttled together must not come back together.
            pause = FIRST_PAUSE * 2 ** (attempts - 1) * random.uniform(0.5, 1.5)
            if not _is_temporary(error) or time.monotonic() + pause > last_start:
                return _failure_reply(error)
        time.sleep(pause)
        attempts += 1


def reduce_body(body: bytes, attributes: str | None = None) -> bytes | None:
    """Leave out of MediaPipe Holistic's frames what the model does not use; None where the body is no such JSON.

    x and y of the model's landmarks stay as they are, and so does whatever the server would refuse: the answer is the
    same. (But not where a key comes twice in an object, of which only the last is looked at.)

    Where the custom attributes or the body hold the picture's size, all points of a part stay, because the server tells
    by all of them whether they are in pixels.
    """
    try:
        document = json.loads(body.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    several = document.get("clips")
    clips = [document, *(several if isinstance(several, list) else [])]
    has_size = "width" in document or "width" in (attributes or "")
    changed = [_reduce_clip(clip, has_size or "width" in clip) for clip in clips if isinstance(clip, dict)]
    if not any(changed):
        return None
    try:
        return json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
    except ValueError:  # NaN and Infinity are not JSON
        return None


def _reduce_clip(clip: dict[str, Any], has_size: bool) -> bool:
    """Reduce a clip's frames in place; tell whether there were any."""
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
    """Return a part's points with x and y only, and null for those that are valid and that the model does not use."""
    if not isinstance(points, list):
        return points
    return [
        _reduce_point(point, has_size or i in used) if isinstance(point, dict) else point
        for i, point in enumerate(points)
    ]


def _reduce_point(point: dict[str, Any], wanted: bool) -> dict[str, Any] | None:
    place: dict[str, Any] = {axis: point[axis] for axis in ("x", "y") if axis in point}
    # Not isinstance: true and false are no numbers. 1e300: JSON's numbers can be larger than a float.
    valid = all(value is None or (type(value) in (int, float) and abs(value) < 1e300) for value in place.values())
    return None if valid and not wanted else place


@lru_cache(maxsize=1)
def _kept_points() -> tuple[list[str], set[str], dict[str, frozenset[int] | None]]:
    """Return what `spoter.aws.functions.build_proxy.kept_points` wrote: forms, keys of other estimators, and points."""
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
    """Refuse a header that SageMaker does not take: it wants at most 1024 printable ASCII characters."""
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
    tried = "only JSON frames of MediaPipe Holistic can be reduced on the way"
    if reduced is not None:
        tried = f"{len(reduced)} are left without what the model does not use"
    text = f"found {len(body)} bytes, expected at most {limit}; {tried}: send fewer frames or clips, or only `points`"
    return error_reply(ErrorCode.BODY_TOO_LARGE, text)


def _is_temporary(error: Exception) -> bool:
    """Tell whether the same request may succeed in a moment; one that took too long would only take too long again."""
    if isinstance(error, exceptions.ClientError):
        # 503 is what TorchServe answers where its queue is full, or no worker is up.
        if error.response["Error"]["Code"] == "ModelError":
            return bool(error.response.get("OriginalStatusCode") == 503)
        return error.response["Error"]["Code"] in THROTTLED | UNAVAILABLE
    # ConnectionClosedError: a connection that died while Lambda had the function frozen.
    return isinstance(error, exceptions.ConnectionError | exceptions.ConnectionClosedError)


def _failure_reply(error: Exception) -> Reply:
    """Return the reply to an invocation that failed for good."""
    if isinstance(error, exceptions.ReadTimeoutError):
        return error_reply(ErrorCode.ENDPOINT_TIMEOUT, "the endpoint did not answer in time; send fewer frames")
    if isinstance(error, exceptions.HTTPClientError | exceptions.ConnectionError):
        logger.error("%s", type(error).__name__)
        return error_reply(ErrorCode.ENDPOINT_UNAVAILABLE, "the endpoint cannot be reached; try again")
    if not isinstance(error, exceptions.ClientError):
        raise error  # no region, no credentials: this function is not set up
    code = error.response["Error"]["Code"]
    if code == "ModelError":
        return _model_error_reply(error.response)
    if code in THROTTLED:
        return error_reply(ErrorCode.ENDPOINT_BUSY, "the endpoint has too many requests; try again")
    if code in UNAVAILABLE:
        return error_reply(ErrorCode.ENDPOINT_UNAVAILABLE, "the endpoint is not ready; try again")
    if error.response["ResponseMetadata"]["HTTPStatusCode"] == 413:
        return error_reply(ErrorCode.BODY_TOO_LARGE, "the endpoint takes fewer bytes; send fewer frames")
    # No such endpoint, or no permission to invoke it. AWS's words name them, and nothing of the request.
    logger.error("%s: %s", code, error.response["Error"].get("Message", "")[:LONGEST_QUOTE])
    return error_reply(ErrorCode.ENDPOINT_REFUSED, f"the endpoint cannot be invoked: {code}; the log says more")


def _model_error_reply(response: dict[str, Any]) -> Reply:
    """Forward a client's error as the model's server wrote it; the server's own failures are a bad gateway's, 502."""
    status, text = int(response.get("OriginalStatusCode", 500)), response.get("OriginalMessage", "")
    if status == 503:
        return error_reply(ErrorCode.ENDPOINT_UNAVAILABLE, "the model's server has no worker free; try again")
    if status == 0:  # which stands for no answer within SageMaker's own 60 seconds
        return error_reply(ErrorCode.ENDPOINT_TIMEOUT, "the endpoint did not answer in time; send fewer frames")
    if not 400 <= status < 500:
        message = f"the model's server failed with {status}; its log in CloudWatch says where"
        return error_reply(ErrorCode.ENDPOINT_FAILED, message)
    if _is_from_our_server(text):
        return Reply(status, JSON, text.encode())
    # The container's own words, or CSV or JSON Lines in which all clips are wrong.
    message = text[:LONGEST_QUOTE] or f"the model's server answered {status}"
    return error_reply(ErrorCode.ENDPOINT_REFUSED, message, status=status)


def _is_from_our_server(text: str) -> bool:
    """Tell whether a container's body is one of our server: an error, or the answers to several clips."""
    try:
        document = json.loads(text)
    except ValueError:
        return False
    if not isinstance(document, dict):
        return False
    error = document.get("error")
    return "answers" in document or (isinstance(error, dict) and {"code", "message", "where"} <= error.keys())
