"""Send requests to an endpoint: a user's file, or a sample whose answer is checked."""

import json
import os
import re
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tenacity import Retrying, retry_if_exception, retry_if_result, stop_after_attempt, stop_after_delay, wait_fixed

from spoter.aws.choices import Mode
from spoter.aws.deploy import limits, requests
from spoter.aws.deploy.account import Account, CallError, bucket_name, translate_errors
from spoter.aws.deploy.settings import DeployError, Settings
from spoter.files import naming_errors
from spoter.formats.request import JSON
from spoter.sources.clip_files import read_body

RUNTIME = "sagemaker-runtime"
SAMPLE = "hallo.json"
# If only invocations go to another address, such as `spoter deploy --local`, SageMaker does not know the endpoint.
_LOCAL = "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME"
# Largest difference between a score here and one of the endpoint: versions of torch and processors differ.
TOLERANCE = 1e-3
# Seconds between two queries for an asynchronous answer, and the longest wait: an endpoint without instances needs
# about ten minutes until its first instance answers.
ASYNC_POLL = 1.0
ASYNC_TIMEOUT = 30 * 60.0
# A serverless endpoint that is starting answers with this code for minutes. Seconds between attempts, and their number.
NOT_READY = "ModelNotReadyException"
READY_POLL, READY_ATTEMPTS = 5.0, 36


class RequestRefused(DeployError):
    """The endpoint answered a request with an error; `body` is the container's response."""

    exit_code = 1

    def __init__(self, name: str, http_status: int | None, body: str):
        super().__init__(f"endpoint {name} answers {http_status or 'with an error'}: {_summarize_error(body)}")
        self.body = body


def smoke_test(settings: Settings, account: Account, model_dir: Path, samples: Path) -> str:
    """Send a sample; return a line about the answer, which must be that of the same model folder on this machine.

    A model that refuses the sample, because it was trained on other landmarks, must refuse it with the same code.

    Raises
    ------
    DeployError
        If the answer differs or does not arrive.
    """
    from spoter.messages import RawRequest
    from spoter.serving.recognizer import Recognizer  # torch
    from spoter.serving.service import respond

    body, content_type = read_body(samples / SAMPLE)
    if account.dry_run:
        _send(settings, account, settings.mode, body, content_type, JSON, None)
        return f"{SAMPLE}: not sent in a dry run"
    local = respond(Recognizer.load(model_dir), [RawRequest(body, content_type, JSON)])[0][0]
    expected = json.loads(local.body)
    try:
        answer = json.loads(_send(settings, account, settings.mode, body, content_type, JSON, None))
    except RequestRefused as error:
        if local.error_code is None or f'"{local.error_code}"' not in error.body:
            raise
        return f"{SAMPLE}: refused as on this machine, {local.error_code}: {expected['error']['message']}"
    except ValueError:
        raise DeployError(f"endpoint {settings.name}, sample {SAMPLE}: the answer is not JSON") from None
    if local.error_code is not None:
        raise DeployError(f"endpoint {settings.name}: accepted {SAMPLE}, expected the refusal {local.error_code}")
    best = expected["instances"][0]
    try:
        gloss, score = answer["instances"][0]["gloss"], float(answer["instances"][0]["score"])
    except (KeyError, IndexError, TypeError, ValueError):
        gloss, score = "no gloss", 0.0
    if gloss != best["gloss"] or abs(score - best["score"]) > TOLERANCE:
        raise DeployError(
            f"endpoint {settings.name}, sample {SAMPLE}: found {gloss} {score}, expected {best['gloss']} "
            f"{best['score']} as on this machine: the endpoint serves another archive or a damaged one"
        )
    return f"{SAMPLE}: {gloss} {score}, as on this machine"


def invoke(
    settings: Settings, account: Account, file: Path, content_type: str | None, accept: str | None, top_k: int | None
) -> bytes:
    """Send a file to the deployed endpoint and return its answer.

    The deployed endpoint's mode is used, not that of the settings. Defaults: the content type of the file's extension
    for `content_type`, JSON for `accept`.

    Raises
    ------
    RequestRefused
        With the container's reason.
    DeployError
        If the file cannot be read or the endpoint cannot answer.
    """
    if content_type is None:
        body, content_type = read_body(file)
    else:
        with naming_errors(file, DeployError):
            body = file.read_bytes()
    mode = settings.mode if account.dry_run else _read_mode(settings, account)
    return _send(settings, account, mode, body, content_type, accept or JSON, top_k)


def _read_mode(settings: Settings, account: Account) -> Mode:
    """Return the deployed endpoint's mode."""
    if _LOCAL in os.environ:
        return Mode.realtime
    description = account.read("sagemaker", "describe_endpoint", EndpointName=settings.name)
    if description is None:
        raise DeployError(f"found no endpoint {settings.name} in {account.region}: create it with `spoter deploy`")
    status = description["EndpointStatus"]
    if status in ("Creating", "Deleting", "Failed", "OutOfService"):
        raise DeployError(f"endpoint {settings.name} is {status}: see `spoter deploy status`")
    config_name = description["EndpointConfigName"]
    config = account.read("sagemaker", "describe_endpoint_config", EndpointConfigName=config_name)
    return requests.mode_of(config) if config else settings.mode


def _send(
    settings: Settings, account: Account, mode: Mode, body: bytes, content_type: str, accept: str, top_k: int | None
) -> bytes:
    limit = limits.PAYLOAD[mode]
    if len(body) > limit:
        hint = "; mode async accepts more" if mode != Mode.asynchronous else ""
        raise DeployError(f"found a request of {len(body):,} bytes, expected at most {limit:,} in mode {mode}{hint}")
    headers = {"EndpointName": settings.name, "ContentType": content_type, "Accept": accept}
    if top_k is not None:
        headers["CustomAttributes"] = f"top_k={top_k}"
    if mode == Mode.asynchronous:
        return _send_async(settings, account, body, headers)
    retrying = Retrying(
        retry=retry_if_exception(lambda error: isinstance(error, CallError) and error.code == NOT_READY),
        wait=wait_fixed(READY_POLL),
        stop=stop_after_attempt(READY_ATTEMPTS),
        reraise=True,
    )
    try:
        response = retrying(account.call, RUNTIME, "invoke_endpoint", **headers, Body=body)
    except CallError as error:
        if error.code != "ModelError":
            raise
        status, message = error.response.get("OriginalStatusCode"), error.response.get("OriginalMessage")
        raise RequestRefused(settings.name, status, message or error.reason) from None
    return _read_stream(RUNTIME, "invoke_endpoint", response)


def _read_stream(service: str, operation: str, response: dict[str, Any] | None) -> bytes:
    """Read a response's body, which comes after the call has returned, and may break off; empty in a dry run."""
    if response is None:
        return b""
    with translate_errors(service, operation):
        content: bytes = response["Body"].read()
        return content


def _send_async(settings: Settings, account: Account, body: bytes, headers: dict[str, str]) -> bytes:
    """Send through the bucket, and delete request and answer there: they hold people's landmarks."""
    bucket = bucket_name(settings, account)
    key = f"{settings.prefix}/{settings.name}/requests/{uuid.uuid4()}"
    tagging = urlencode(requests.tags(settings))
    account.call("s3", "put_object", Bucket=bucket, Key=key, Body=body, Tagging=tagging)
    try:
        response = account.call(RUNTIME, "invoke_endpoint_async", **headers, InputLocation=f"s3://{bucket}/{key}")
        if response is None:  # in a dry run
            response = {"OutputLocation": requests.folder(settings, bucket, "answers", "ID.out")}
        retrying = Retrying(
            retry=retry_if_result(lambda answer: answer is None),
            wait=wait_fixed(ASYNC_POLL),
            stop=stop_after_delay(ASYNC_TIMEOUT),
            retry_error_callback=lambda state: None,
        )
        answer = retrying(_fetch_answer, settings, account, response)
    finally:
        account.call("s3", "delete_object", Bucket=bucket, Key=key)
    if answer is None:
        raise DeployError(
            f"endpoint {settings.name} did not answer within {ASYNC_TIMEOUT / 60:.0f} minutes: check with "
            "`spoter deploy status` whether it has an instance"
        )
    return answer


def _fetch_answer(settings: Settings, account: Account, response: dict[str, Any]) -> bytes | None:
    """Return an asynchronous answer and delete it in the bucket; return None while it does not exist."""
    for name in ("OutputLocation", "FailureLocation"):
        location = limits.split_s3_url(response.get(name, ""))
        if location is None:
            continue
        bucket, key = location
        answer = account.read("s3", "get_object", Bucket=bucket, Key=key)
        if answer is None and not account.dry_run:
            continue
        content = _read_stream("s3", "get_object", answer)
        account.call("s3", "delete_object", Bucket=bucket, Key=key)
        if name == "FailureLocation":
            message = content.decode(errors="replace")
            status = re.search(r"error \((\d{3})\)", message)
            raise RequestRefused(settings.name, int(status[1]) if status else None, message)
        return content
    return None


def _summarize_error(message: str) -> str:
    """Return code, place and message of the server's error in a response, or else the first 500 characters."""
    start = max(message.find('{"error"'), 0)
    try:
        error = json.JSONDecoder().raw_decode(message[start:])[0]["error"]
        where = f"{error['where']}: " if error.get("where") else ""
        return f"{error['code']}: {where}{error['message']}"
    except (ValueError, KeyError, TypeError):
        return " ".join(message.split())[:500] or "an empty response"
