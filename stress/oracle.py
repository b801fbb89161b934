"""Judges every answer that the HTTP fuzzer gets: who sent it, and whether it is a documented one."""

from __future__ import annotations

import csv
import io
import json

from spoter.error_codes import ErrorCode, Source
from stress.raw_http import HttpAnswer

# TorchServe's own answers, which no worker has seen: to requests that are not HTTP, or not for its API. Those of 500
# are exceptions of Java while it parses a form or a content type; it works on as before.
TORCHSERVE_ERRORS = {
    400: ("BadRequestException", "InvalidPropertiesException"),
    403: ("IllegalArgumentException",),
    404: tuple(f"{kind}NotFoundException" for kind in ("Model", "ModelVersion", "Resource", "Workflow")),
    405: ("MethodNotAllowedException",),
    413: ("RequestEntityTooLargeException",),
    500: tuple(f"{kind}Exception" for kind in ("ArrayIndexOutOfBounds", "ErrorDataDecoder", "StringIndexOutOfBounds")),
    503: ("ServiceUnavailableException",),
}
# Netty's answers without a body: Expect with another value than 100-continue, and more than max_request_size.
EMPTY = {413, 417}
CONTENT_TYPES = ("application/json", "application/jsonlines", "text/csv")
DOCUMENTED = {code.value: code.status for code in ErrorCode if code.source is Source.SERVER}
"""Status of each error code of the model server."""


def judge(answer: HttpAnswer) -> tuple[str, str | None]:
    """Return whose answer it is and which, and what is wrong with it, or None."""
    status, content_type, body = answer.status, answer.content_type, answer.body
    if status in EMPTY and not body:
        return "TorchServe: no body", None
    try:
        document = json.loads(body) if content_type == "application/json" and body else {}
        codes = _error_codes(content_type, body, document)
    except ValueError as error:
        return "unreadable", f"found what is no {content_type}: {error}"
    if status == 200:
        return "answered", None if content_type in CONTENT_TYPES or not body else f"an answer of type {content_type}"
    if codes:
        unknown = [code for code in codes if code not in DOCUMENTED]
        if unknown or DOCUMENTED[codes[0]] != status:
            return f"ours: {codes[0]}", f"{unknown or codes[0]} with {status} is not in docs/errors.md"
        return f"ours: {codes[0]}", "a failure of ours" if status >= 500 else None
    kind = document.get("type") if isinstance(document, dict) else None
    if kind is None:
        return "unknown", f"{content_type} {body[:200]!r}"
    is_known = kind in TORCHSERVE_ERRORS.get(status, ())
    return f"TorchServe: {kind}", None if is_known else f"{document.get('message')!r:.200}"


def _error_codes(content_type: str, body: bytes, document: object) -> list[str]:
    """Return the codes of our errors in a body, in order; `ValueError` for a body that is not of its type."""
    if content_type == "application/jsonlines":
        documents = [json.loads(line) for line in body.splitlines()]
    elif content_type == "text/csv":
        header, *rows = csv.reader(io.StringIO(body.decode()))
        if any(len(row) != len(header) for row in rows):
            raise ValueError("rows of several lengths")
        return [row[-1].partition(":")[0] for row in rows if row[-1]]
    else:
        answers = document.get("answers") if isinstance(document, dict) else None
        documents = answers if isinstance(answers, list) else [document]
    errors = [item["error"] for item in documents if isinstance(item, dict) and isinstance(item.get("error"), dict)]
    return [error.get("code", "") for error in errors]
