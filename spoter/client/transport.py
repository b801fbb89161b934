"""HTTP details of a client: addresses, headers, and errors for answers that are not SPOTER's."""

import os
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import httpx
import msgspec
from msgspec import UNSET, Raw, UnsetType

from spoter.client.errors import NoAnswerError, RequestError, ServerError, UnavailableError, UnexpectedAnswerError
from spoter.client.results import SEVERAL_ERRORS, ErrorBody
from spoter.client.retry import INVALID_KEY, TIMEOUT, parse_retry_after
from spoter.error_codes import ErrorCode
from spoter.errors import InputError, SpoterError
from spoter.formats.request import CSV, JSON, JSONLINES, quote
from spoter.messages import RawRequest, Response, error_response

_UNAVAILABLE = (429, 503)  # API Gateway's 429 corresponds to TorchServe's 503
_CONNECT_TIMEOUT_S = 5.0  # a running server accepts in milliseconds, in a second from the other side of the world


def prediction_url(url: str, model: str) -> str:
    """Return the address for predictions; raise `SpoterError` if `url` is not an HTTP address.

    TorchServe's path for `model` is added to a server's root (``http://127.0.0.1:8080``). An address with a path, such
    as API Gateway's, is returned unchanged.
    """
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError) as error:
        raise SpoterError(f"found the address {url!r}: {error}") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise SpoterError(f"found the address {url!r}, expected one such as http://127.0.0.1:8080")
    return str(parsed if parsed.path != "/" else parsed.copy_with(path=f"/predictions/{model}"))


class FileToken(httpx.Auth):
    """Sends the current token in a file, read for each attempt; `spoter token` writes such files."""

    def __init__(self, path: os.PathLike[str]):
        self.path = Path(path)

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add the token to a request; raise `SpoterError` if the file is unreadable or empty."""
        try:
            token = self.path.read_text(encoding="utf-8-sig").strip()
        except OSError as error:
            raise SpoterError(f"{self.path}: {error.strerror or error}; expected a file with a token") from None
        except UnicodeDecodeError:
            token = ""
        if not token:
            raise SpoterError(f"{self.path}: found no token, expected one line of text")
        request.headers.update(_check_headers({"Authorization": f"Bearer {token}"}))
        yield request


def httpx_options(
    token: str | os.PathLike[str] | None, headers: Mapping[str, str] | None, timeout: float
) -> dict[str, Any]:
    """Return the arguments of httpx's clients; raise `ValueError` for a timeout that is not above 0."""
    if not timeout > 0:
        raise ValueError(f"found a timeout of {timeout} seconds, expected one above 0")
    authorization = {"Authorization": f"Bearer {token}"} if token and isinstance(token, str) else {}
    return {
        "auth": FileToken(token) if isinstance(token, os.PathLike) else None,
        "headers": _check_headers(authorization | dict(headers or {})),
        "timeout": httpx.Timeout(timeout, connect=min(timeout, _CONNECT_TIMEOUT_S)),
        # Requests to this machine bypass proxies set in the environment.
        "mounts": {f"all://{host}": None for host in ("127.0.0.1", "localhost", "[::1]")},
    }


def request_headers(request: RawRequest) -> dict[str, str]:
    """Return the headers of a request."""
    headers = {
        "Content-Type": request.content_type,
        "Accept": request.accept,
        "X-Amzn-SageMaker-Custom-Attributes": request.attributes,
    }
    return _check_headers({name: value for name, value in headers.items() if value})


def _check_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers if HTTP allows them, else raise `SpoterError` without the value, which may be secret."""
    for name, value in headers.items():
        if not (isinstance(value, str) and value.isascii() and value.isprintable()):
            raise SpoterError(f"found a header {name} with line breaks or non-ASCII letters, expected printable ASCII")
    return dict(headers)


def connection_error(error: httpx.RequestError, url: str) -> NoAnswerError:
    """Return the error for a request without an answer; raise it from `error`, which `Retry` inspects."""
    if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
        return NoAnswerError(TIMEOUT, f"{url}: no answer in time; send fewer clips or set a longer timeout")
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return NoAnswerError("no_server", f"no server answers at {url} ({error}); start one with `spoter serve`")
    return NoAnswerError("no_server", f"{url}: the connection was lost ({error or type(error).__name__})")


class _AnswerBody(msgspec.Struct):
    """The keys of SPOTER's answers, and the keys of errors from TorchServe and API Gateway: `type` and `message`."""

    instances: Raw | UnsetType = UNSET
    answers: Raw | UnsetType = UNSET
    enrolled: Raw | UnsetType = UNSET
    error: Raw | UnsetType = UNSET
    type: str | None = None
    message: str | None = None


_BODY = msgspec.json.Decoder(_AnswerBody)
_ERROR = msgspec.json.Decoder(ErrorBody)


def parse_answer(answer: httpx.Response) -> Response:
    """Return an answer of SPOTER, including errors of the request.

    Raise `UnavailableError`, `RequestError` or `ServerError` for an answer of TorchServe or API Gateway itself, and for
    each 503, 429 and 5xx; `UnexpectedAnswerError` for the answer of another server.
    """
    status = answer.status_code
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    body, error = _AnswerBody(), None
    if kind == JSON:
        try:
            body = _BODY.decode(answer.content)
            error = None if body.error is UNSET else _ERROR.decode(body.error)
        except msgspec.MsgspecError:
            body = _AnswerBody()
    keys = (body.instances, body.answers, body.enrolled)
    is_ours = kind in (CSV, JSONLINES) or any(key is not UNSET for key in keys)
    if status == 200 and is_ours:
        return Response(status, kind, answer.content)
    if 400 <= status < 500 and status not in _UNAVAILABLE and (is_ours or error):
        return Response(status, kind, answer.content, error.code if error else SEVERAL_ERRORS)
    if status == 413:  # TorchServe's 413 has no body
        return error_response(InputError(ErrorCode.BODY_TOO_LARGE, "found more bytes than the server accepts"))
    raise _to_exception(answer, body, error)


def _to_exception(answer: httpx.Response, body: _AnswerBody, error: ErrorBody | None) -> ServerError:
    status, url = answer.status_code, answer.request.url
    if status < 400:
        return UnexpectedAnswerError(
            "unexpected_answer",
            f"{url}: found status {status} and {quote(answer.headers.get('content-type', 'no type'))}, expected an "
            "answer of SPOTER; check the server's address",
            status=status,
        )
    if error is None and body.message is not None:
        error = ErrorBody(body.type or f"status_{status}", f"{url}: {body.message}")
    elif error is None:
        error = ErrorBody(f"status_{status}", f"{url}: found status {status} {answer.reason_phrase} without a message")
    if status in _UNAVAILABLE:
        unavailable = UnavailableError(error.code, error.message, error.where, status)
        unavailable.retry_after = parse_retry_after(answer.headers.get("retry-after"))
        return unavailable
    if status >= 500:
        return ServerError(error.code, error.message, error.where, status)
    hint = " (pass a valid token)" if status in (401, 403) or body.type == INVALID_KEY else ""
    return RequestError(error.code, error.message + hint, error.where, status)
