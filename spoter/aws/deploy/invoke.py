"""Asking an endpoint: a file of one's own, or a sample whose gloss must come back."""

from __future__ import annotations

import json
import os
import re
import time
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from spoter.aws.deploy import limits, requests
from spoter.aws.deploy.account import Account, CallError, translated
from spoter.aws.deploy.preflight import bucket_name
from spoter.aws.deploy.settings import DeployError, Settings
from spoter.formats.request import JSON
from spoter.sources.clip_files import read_body

RUNTIME = "sagemaker-runtime"
SAMPLE = "hallo.json"
# Where only requests go elsewhere, as to `deploy.py --local`, SageMaker knows nothing of the endpoint.
_LOCAL = "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME"
# How much a score may differ between this machine and the endpoint's: other versions of torch, other processors.
TOLERANCE = 1e-3
# Seconds between two looks for an asynchronous answer, and for how long: the first instance of an endpoint that was
# scaled to none takes some ten minutes until it answers.
ASYNC_POLL = 1.0
ASYNC_LONGEST = 30 * 60.0
# A serverless endpoint that is being started says so, and may for minutes: seconds between two tries, and how many.
NOT_READY = "ModelNotReadyException"
READY_POLL, READY_LOOKS = 5.0, 36


class Refused(DeployError):
    """The endpoint answered a request with an error.

    Parameters
    ----------
    name : str
        The endpoint's.
    answered : int or None
        HTTP status of the container; None where SageMaker does not tell it.
    body : str
        What the container said.
    """

    status = 1

    def __init__(self, name: str, answered: int | None, body: str):
        super().__init__(f"endpoint {name} answers {answered or 'with an error'}: {_reason(body)}")
        self.body = body


class _Body(bytes):
    """A request that is shown by its size: nothing of a person's landmarks in a line of text."""

    def __str__(self) -> str:
        return f"{len(self)} bytes"


def smoke_test(settings: Settings, account: Account, model_dir: Path, samples: Path) -> str:
    """Send a sample; return what came back, which must be what the same model folder answers here.

    A model that refuses the sample, because it was trained on other landmarks, must refuse it there with the same word.

    Raises
    ------
    DeployError
        Where another answer comes, or none.
    """
    from spoter.messages import RawRequest
    from spoter.serving.recognizer import Recognizer  # torch
    from spoter.serving.service import respond

    body, content_type = read_body(samples / SAMPLE)
    if account.dry_run:
        _ask(settings, account, settings.mode, body, content_type, JSON, None)
        return f"{SAMPLE}: not sent in a dry run"
    here = respond(Recognizer.load(model_dir), [RawRequest(body, content_type, JSON)])[0][0]
    expected = json.loads(here.body)
    try:
        found = json.loads(_ask(settings, account, settings.mode, body, content_type, JSON, None))
    except Refused as error:
        if here.error_code is None or f'"{here.error_code}"' not in error.body:
            raise
        return f"{SAMPLE}: refused as here, {here.error_code}: {expected['error']['message']}"
    except ValueError:
        raise DeployError(f"endpoint {settings.name} answers {SAMPLE} with something that is not JSON") from None
    if here.error_code is not None:
        raise DeployError(f"endpoint {settings.name} answers {SAMPLE}, which this model refuses here: another model?")
    best, there = expected["instances"][0], _best(found)
    if there is None or there["gloss"] != best["gloss"] or abs(there["score"] - best["score"]) > TOLERANCE:
        told = f"{there['gloss']} {there['score']}" if there else "no gloss"
        raise DeployError(
            f"endpoint {settings.name} answers {SAMPLE} with {told}, expected {best['gloss']} {best['score']} as the "
            "same model answers here: another archive, or a broken one"
        )
    return f"{SAMPLE}: {there['gloss']} {there['score']}, as here"


def invoke(
    settings: Settings, account: Account, file: Path, content_type: str | None, accept: str | None, top_k: int | None
) -> bytes:
    """Send a file to the deployed endpoint and return its answer.

    Parameters
    ----------
    settings : Settings
        Name, bucket and prefix count; the mode is the endpoint's own.
    account : Account
    file : Path
    content_type, accept : str or None
        None takes what the file's ending says, and JSON.
    top_k : int or None
        Glosses of an answer.

    Raises
    ------
    Refused
        With the container's reason.
    DeployError
        Where the file or the endpoint cannot be used.
    """
    if content_type is None:
        body, content_type = read_body(file)
    else:
        try:
            body = file.read_bytes()
        except OSError as error:
            raise DeployError(f"{file}: {error.strerror or error}") from None
    mode = settings.mode if account.dry_run else _deployed_mode(settings, account)
    return _ask(settings, account, mode, body, content_type, accept or JSON, top_k)


def _deployed_mode(settings: Settings, account: Account) -> str:
    if _LOCAL in os.environ:
        return "realtime"
    found = account.read("sagemaker", "describe_endpoint", EndpointName=settings.name)
    if found is None:
        raise DeployError(f"found no endpoint {settings.name} in {account.region}: `python deploy.py` makes it")
    if found["EndpointStatus"] in ("Creating", "Deleting", "Failed", "OutOfService"):
        raise DeployError(
            f"endpoint {settings.name} is {found['EndpointStatus']}: `python deploy.py status` tells more"
        )
    config = account.read("sagemaker", "describe_endpoint_config", EndpointConfigName=found["EndpointConfigName"])
    return requests.mode_of(config) if config else settings.mode


def _ask(
    settings: Settings,
    account: Account,
    mode: str,
    body: bytes,
    content_type: str,
    accept: str,
    top_k: int | None,
) -> bytes:
    most = limits.PAYLOAD[mode]
    if len(body) > most:
        other = "; mode async takes more" if mode != "async" else ""
        raise DeployError(f"found a request of {len(body):,} bytes, expected at most {most:,} in mode {mode}{other}")
    told: dict[str, Any] = {"EndpointName": settings.name, "ContentType": content_type, "Accept": accept}
    if top_k is not None:
        told["CustomAttributes"] = f"top_k={top_k}"
    if mode == "async":
        return _ask_async(settings, account, body, told)
    try:
        answer = _invoke(account, told, body)
    except CallError as error:
        if error.code != "ModelError":
            raise
        status, said = error.answer.get("OriginalStatusCode"), error.answer.get("OriginalMessage")
        raise Refused(settings.name, status, said or error.reason) from None
    return _read(RUNTIME, "invoke_endpoint", answer) if answer else b""


def _invoke(account: Account, told: dict[str, Any], body: bytes) -> dict | None:
    for attempt in range(READY_LOOKS):
        try:
            return account.call(RUNTIME, "invoke_endpoint", **told, Body=_Body(body))
        except CallError as error:
            if error.code != NOT_READY or attempt + 1 == READY_LOOKS:
                raise
        time.sleep(READY_POLL)
    return None


def _read(service: str, operation: str, answer: dict[str, Any]) -> bytes:
    """Read an answer's body, which comes after the call has returned, and may break off."""
    with translated(service, operation):
        return answer["Body"].read()


def _ask_async(settings: Settings, account: Account, body: bytes, told: dict[str, Any]) -> bytes:
    """Send by way of the bucket, and leave nothing there: requests and answers are of persons."""
    bucket = bucket_name(settings, account)
    key = f"{settings.prefix}/{settings.name}/requests/{uuid.uuid4()}"
    tagging = urlencode(requests.tags(settings))
    account.call("s3", "put_object", Bucket=bucket, Key=key, Body=_Body(body), Tagging=tagging)
    try:
        answer = account.call(RUNTIME, "invoke_endpoint_async", **told, InputLocation=f"s3://{bucket}/{key}")
        if answer is None:  # in a dry run
            answer = {"OutputLocation": requests.folder(settings, bucket, "answers", "ID.out")}
        return _await(settings, account, answer)
    finally:
        account.call("s3", "delete_object", Bucket=bucket, Key=key)


def _await(settings: Settings, account: Account, answer: dict[str, Any]) -> bytes:
    places = {name: limits.split(answer[name]) for name in ("OutputLocation", "FailureLocation") if answer.get(name)}
    end = time.monotonic() + ASYNC_LONGEST
    while time.monotonic() < end:
        for name, (bucket, key) in places.items():
            found = account.read("s3", "get_object", Bucket=bucket, Key=key)
            if found is None and not account.dry_run:
                continue
            content = _read("s3", "get_object", found) if found else b""
            account.call("s3", "delete_object", Bucket=bucket, Key=key)
            if name == "FailureLocation":
                said = content.decode(errors="replace")
                status = re.search(r"error \((\d{3})\)", said)
                raise Refused(settings.name, int(status[1]) if status else None, said)
            return content
        time.sleep(ASYNC_POLL)
    raise DeployError(
        f"endpoint {settings.name} has not answered after {ASYNC_LONGEST / 60:.0f} minutes: `python deploy.py status` "
        "shows whether it has an instance"
    )


def _best(answer: Any) -> dict[str, Any] | None:
    try:
        first = answer["instances"][0]
        return {"gloss": str(first["gloss"]), "score": float(first["score"])}
    except (KeyError, IndexError, TypeError, ValueError):
        return None


def _reason(said: str) -> str:
    """Return our own words where the container said them: code, message and place of `spoter.errors.InputError`."""
    start = said.find('{"error"')
    try:
        error, _ = json.JSONDecoder().raw_decode(said[start:] if start >= 0 else said)
        error = error["error"]
        where = f"{error['where']}: " if error.get("where") else ""
        return f"{error['code']}: {where}{error['message']}"
    except (ValueError, KeyError, TypeError):
        return " ".join(said.split())[:500] or "nothing"
