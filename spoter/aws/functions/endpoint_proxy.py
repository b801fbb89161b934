"""Lambda's door to a SageMaker endpoint: ``lambda_function.handler``.

Zipped by `spoter.aws.functions.build_proxy` with `lambda_events` and kept_points.json beside it; Lambda's Python runtimes have the
rest (boto3 and the standard library). Its environment:

SPOTER_ENDPOINT
    Name of the endpoint that is asked.
SPOTER_PAYLOAD_LIMIT
    Bytes the endpoint takes, 6291456 unless said; 4194304 for a serverless one.
SPOTER_ORIGINS
    Origins of pages that may ask from a browser, with commas between, or *; none unless said.

Lambda itself takes events of at most 6 MB (Lambda quotas, "Invocation payload"), base64 and all; API Gateway takes 10.
What is larger never gets here.
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
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    ConnectionError,
    HTTPClientError,
    ReadTimeoutError,
)

from spoter.aws.functions.events import JSON, answer, error_body

logger = logging.getLogger("lambda_function")

KEPT_POINTS = "kept_points.json"
# SageMaker Runtime's API model, BodyBlob: what a real-time endpoint takes.
REAL_TIME_LIMIT = 6_291_456
# The same model: longest of the headers ContentType, Accept and CustomAttributes.
HEADER_LIMIT = 1024
# Characters that are quoted of what the container or AWS says.
REASON = 400
# What AWS answers where the same request may be answered a little later; ModelNotReadyException is a serverless
# endpoint's that is being started.
THROTTLED = {"ThrottlingException", "TooManyRequestsException"}
UNAVAILABLE = {"ServiceUnavailable", "ModelNotReadyException", "InternalFailure", "InternalDependencyException"}
# Seconds: for trying again; for connecting; for writing the answer; of the first pause, which doubles.
RETRYING, CONNECTING, RESERVE, FIRST_PAUSE = 6.0, 2.0, 1.0, 0.2


def handler(event: object, context: Any) -> dict | list | str:
    """Answer an event; see `lambda_events.answer`."""
    left = context.get_remaining_time_in_millis() / 1e3
    # Rounded up it is the function's timeout, whatever the event, so that all of them share a client.
    patience = max(1.0, math.ceil(left) - RETRYING - CONNECTING - RESERVE)
    last_start = time.monotonic() + left - RESERVE - patience - min(CONNECTING, patience)
    endpoint = os.environ.get("SPOTER_ENDPOINT", "")
    notes: dict[str, object] = {}

    def respond(
        body: bytes, content_type: str | None, accept: str | None, attributes: str | None
    ) -> tuple[int, str, bytes]:
        if not endpoint:
            logger.error("found no SPOTER_ENDPOINT in the environment, expected the endpoint's name")
            return 500, JSON, error_body("internal", "the function is not set up; its log says what it lacks")
        headers = {"ContentType": content_type, "Accept": accept, "CustomAttributes": attributes}
        headers = {name: value for name, value in headers.items() if value}
        unfit = _unfit(headers)
        if unfit is not None:
            return unfit
        limit = int(os.environ.get("SPOTER_PAYLOAD_LIMIT", REAL_TIME_LIMIT))
        if len(body) > limit:
            found, body = len(body), reduced(body, attributes)
            if body is None or len(body) > limit:
                return 413, JSON, _too_large(found, body, limit)
            notes["reduced"] = len(body)
        return ask(_client(patience), endpoint, body, headers, last_start, notes)

    return answer(event, respond, {"endpoint": endpoint}, notes)


def ask(
    client: Any, endpoint: str, body: bytes, headers: dict[str, str], last_start: float, notes: dict[str, object]
) -> tuple[int, str, bytes]:
    """Invoke the endpoint, again where it is throttled or not reached, as long as there is time.

    The loop is our own because botocore's retries do not know how long the function may still run, and because they
    send a request again whose answer takes too long, to an endpoint that is busy with it already.

    Parameters
    ----------
    client : botocore.client.BaseClient
        Of sagemaker-runtime, without retries of its own.
    endpoint : str
    body : bytes
    headers : dict
        ``ContentType``, ``Accept`` and ``CustomAttributes``, those that there are.
    last_start : float
        Of `time.monotonic`: what is sent later cannot be waited for any more.
    notes : dict
        Is told the number of ``attempts``.

    Returns
    -------
    int, str, bytes
        Status, content type and body of the answer.
    """
    notes["attempts"], pause = 1, FIRST_PAUSE
    while True:
        try:
            response = client.invoke_endpoint(EndpointName=endpoint, Body=body, **headers)
            return 200, response["ContentType"], response["Body"].read()
        except (ClientError, BotoCoreError) as error:
            # Jitter: those that were throttled together shall not come back together.
            wait = pause * random.uniform(0.5, 1.5)
            if not _passing(error) or time.monotonic() + wait > last_start:
                return _refusal(error)
        time.sleep(wait)
        notes["attempts"], pause = notes["attempts"] + 1, 2 * pause


def reduced(body: bytes, attributes: str | None = None) -> bytes | None:
    """Leave out of MediaPipe Holistic's frames what the model is not fed; None where the body is no such JSON.

    x and y of the model's landmarks stay as they are, and so does whatever the server would refuse: the answer is the
    same. (But not where a key comes twice in an object, of which only the last is looked at.)

    Parameters
    ----------
    body : bytes
    attributes : str, optional
        The custom attributes. Where they or the body say how large the picture is, all points of a part stay, because
        the server tells by all of them whether they are in pixels.
    """
    try:
        document = json.loads(body.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    several = document.get("clips")
    clips = [document, *(several if isinstance(several, list) else [])]
    sized = "width" in document or "width" in (attributes or "")
    changed = [_reduce(clip, sized or "width" in clip) for clip in clips if isinstance(clip, dict)]
    if not any(changed):
        return None
    try:
        return json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
    except ValueError:  # NaN and Infinity are not JSON
        return None


def _reduce(clip: dict, sized: bool) -> bool:
    """Reduce a clip's frames in place; tell whether there were any."""
    forms, others, kept = _kept()
    changed = False
    for form in forms:
        frames = clip.get(form)
        for i, frame in enumerate(frames if isinstance(frames, list) else []):
            if isinstance(frame, dict) and frame.keys() & kept.keys() and not frame.keys() & others:
                frames[i] = {
                    part: _points(frame[part], used, sized)
                    for part, used in kept.items()
                    if used is not None and part in frame
                }
                changed = True
    return changed


def _points(points: object, used: frozenset[int], sized: bool) -> object:
    """Return a part's points with x and y only, and null for those that are right and that the model does not use."""
    if not isinstance(points, list):
        return points
    return [_point(point, sized or i in used) if isinstance(point, dict) else point for i, point in enumerate(points)]


def _point(point: dict, wanted: bool) -> dict | None:
    place = {axis: point[axis] for axis in ("x", "y") if axis in point}
    # Not isinstance: true and false are no numbers. 1e300: JSON's numbers can be larger than a float.
    right = all(value is None or (type(value) in (int, float) and abs(value) < 1e300) for value in place.values())
    return None if right and not wanted else place


@lru_cache(maxsize=1)
def _kept() -> tuple[list[str], set[str], dict[str, frozenset[int] | None]]:
    """Return what `spoter.aws.functions.build_proxy.kept_points` says: forms, keys of other estimators, and points."""
    told = json.loads(Path(__file__).with_name(KEPT_POINTS).read_text(encoding="utf-8"))
    points = {part: None if used is None else frozenset(used) for part, used in told["points"].items()}
    return told["forms"], set(told["others"]), points


@lru_cache(maxsize=2)
def _client(patience: float) -> Any:
    """Return a client of sagemaker-runtime that waits so many seconds for an answer, and does not try again."""
    connecting = min(CONNECTING, patience)
    config = Config(connect_timeout=connecting, read_timeout=patience, retries={"total_max_attempts": 1})
    return boto3.client("sagemaker-runtime", config=config)


def _unfit(headers: dict[str, str]) -> tuple[int, str, bytes] | None:
    """Answer a header that SageMaker does not take: it wants at most 1024 printable ASCII characters."""
    errors = {
        "ContentType": (415, "unsupported_content_type", "header Content-Type"),
        "Accept": (406, "not_acceptable", "header Accept"),
        "CustomAttributes": (400, "bad_attributes", "custom attributes"),
    }
    for name, value in headers.items():
        if len(value) > HEADER_LIMIT or not (value.isascii() and value.isprintable()):
            status, code, where = errors[name]
            message = f"found {len(value)} characters, expected at most {HEADER_LIMIT}, all of them printable ASCII"
            return status, JSON, error_body(code, message, where)
    return None


def _too_large(found: int, body: bytes | None, limit: int) -> bytes:
    tried = (
        "only JSON frames of MediaPipe Holistic can be reduced on the way"
        if body is None
        else f"{len(body)} are left without what the model is not fed"
    )
    message = f"found {found} bytes, expected at most {limit}; {tried}: send fewer frames or clips, or only `points`"
    return error_body("body_too_large", message)


def _passing(error: Exception) -> bool:
    """Tell whether the same request may succeed in a moment; one that took too long would only take so long again."""
    if isinstance(error, ClientError):
        # 503 is what TorchServe answers where its queue is full, or no worker is up.
        if error.response["Error"]["Code"] == "ModelError":
            return error.response.get("OriginalStatusCode") == 503
        return error.response["Error"]["Code"] in THROTTLED | UNAVAILABLE
    # ConnectionClosedError: a connection that died while Lambda had the function frozen.
    return isinstance(error, ConnectionError | ConnectionClosedError)


def _refusal(error: Exception) -> tuple[int, str, bytes]:
    """Return the answer for an invocation that failed for good."""
    if isinstance(error, ReadTimeoutError):
        return 504, JSON, error_body("endpoint_timeout", "the endpoint did not answer in time; send fewer frames")
    if isinstance(error, HTTPClientError | ConnectionError):
        logger.error("%s", type(error).__name__)
        return 503, JSON, error_body("endpoint_unavailable", "the endpoint cannot be reached; try again")
    if not isinstance(error, ClientError):
        raise error  # no region, no credentials: this function is not set up
    code = error.response["Error"]["Code"]
    if code == "ModelError":
        return _model_error(error.response)
    if code in THROTTLED:
        return 429, JSON, error_body("endpoint_busy", "the endpoint has too many requests; try again")
    if code in UNAVAILABLE:
        return 503, JSON, error_body("endpoint_unavailable", "the endpoint is not ready; try again")
    if error.response["ResponseMetadata"]["HTTPStatusCode"] == 413:
        return 413, JSON, error_body("body_too_large", "the endpoint takes fewer bytes; send fewer frames")
    # No such endpoint, or no permission to ask it. AWS's words name them, and nothing of the request.
    logger.error("%s: %s", code, error.response["Error"].get("Message", "")[:REASON])
    return 500, JSON, error_body("endpoint_refused", f"the endpoint cannot be asked: {code}; the log says more")


def _model_error(response: dict) -> tuple[int, str, bytes]:
    """Hand a client's error through as the model's server wrote it; its own failures are a bad gateway's, 502."""
    status, text = int(response.get("OriginalStatusCode", 500)), response.get("OriginalMessage", "")
    if status == 503:
        return 503, JSON, error_body("endpoint_unavailable", "the model's server has no worker free; try again")
    if status == 0:  # which stands for no answer within SageMaker's own 60 seconds
        return 504, JSON, error_body("endpoint_timeout", "the endpoint did not answer in time; send fewer frames")
    if not 400 <= status < 500:
        message = f"the model's server failed with {status}; its log in CloudWatch says where"
        return 502, JSON, error_body("endpoint_failed", message)
    if _ours(text):
        return status, JSON, text.encode()
    # The container's own words, or CSV or JSON Lines in which all clips are wrong.
    return status, JSON, error_body("endpoint_refused", text[:REASON] or f"the model's server answered {status}")


def _ours(text: str) -> bool:
    """Tell whether a container's words are our server's: an error, or the answers to several clips."""
    try:
        document = json.loads(text)
    except ValueError:
        return False
    if not isinstance(document, dict):
        return False
    error = document.get("error")
    return "answers" in document or (isinstance(error, dict) and {"code", "message", "where"} <= error.keys())
