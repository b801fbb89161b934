"""Whose answer is it, and is it one that is documented? What the HTTP fuzzer asks of everything that comes back."""

from __future__ import annotations

import csv
import io
import json

from spoter.error_codes import ErrorCode, Source

# TorchServe's own answers, none of which a worker has seen: to what is not HTTP, no form, or not of its API. Those of
# 500 are Java's exceptions while it takes a form or a content type apart; it goes on as before.
THEIRS = {
    ("BadRequestException", 400),
    ("InvalidPropertiesException", 400),
    ("IllegalArgumentException", 403),
    ("ModelNotFoundException", 404),
    ("ModelVersionNotFoundException", 404),
    ("ResourceNotFoundException", 404),
    ("WorkflowNotFoundException", 404),
    ("MethodNotAllowedException", 405),
    ("RequestEntityTooLargeException", 413),
    ("ArrayIndexOutOfBoundsException", 500),
    ("ErrorDataDecoderException", 500),
    ("StringIndexOutOfBoundsException", 500),
    ("ServiceUnavailableException", 503),
}
# Netty's, whose bodies are empty: Expect in other words than 100-continue, and more than max_request_size.
EMPTY = {413, 417}
ANSWERS = ("application/json", "application/jsonlines", "text/csv")


def documented() -> dict[str, int]:
    """Return the codes that the model server answers with, with their status."""
    return {code.value: code.status for code in ErrorCode if code.source is Source.SERVER}


def judge(status: int, content_type: str, body: bytes, codes: dict[str, int]) -> tuple[str, str | None]:
    """Tell whose answer it is and which, and what is wrong with it if anything is.

    Parameters
    ----------
    status, content_type, body
        Of the answer.
    codes : dict of str to int
        As `documented`.
    """
    if status in EMPTY and not body:
        return "TorchServe: no body", None
    try:
        document = json.loads(body) if content_type == "application/json" and body else {}
        ours = _codes(content_type, body, document)
    except ValueError as error:
        return "unreadable", f"found what is no {content_type}: {error}"
    if status == 200:
        return "answered", None if content_type in ANSWERS or not body else f"an answer of type {content_type}"
    if ours:
        unknown = [code for code in ours if code not in codes]
        if unknown or codes[ours[0]] != status:
            return f"ours: {ours[0]}", f"{unknown or ours[0]} with {status} is not in docs/errors.md"
        return f"ours: {ours[0]}", "a failure of ours" if status >= 500 else None
    kind = document.get("type") if isinstance(document, dict) else None
    if kind is None:
        return "unknown", f"{content_type} {body[:200]!r}"
    return f"TorchServe: {kind}", None if (kind, status) in THEIRS else f"{document.get('message')!r:.200}"


def _codes(content_type: str, body: bytes, document: object) -> list[str]:
    """Return the codes of our errors in a body, in order; `ValueError` where it is not of its type."""
    if content_type == "application/jsonlines":
        documents = [json.loads(line) for line in body.splitlines()]
    elif content_type == "text/csv":
        header, *rows = csv.reader(io.StringIO(body.decode()))
        if any(len(row) != len(header) for row in rows):
            raise ValueError("rows of several lengths")
        return [row[-1].partition(":")[0] for row in rows if row[-1]]
    else:
        several = document.get("answers") if isinstance(document, dict) else None
        documents = several if isinstance(several, list) else [document]
    errors = [item["error"] for item in documents if isinstance(item, dict) and isinstance(item.get("error"), dict)]
    return [error.get("code", "") for error in errors]
