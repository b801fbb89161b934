"""From a request to an answer's bytes: addresses, retries, and what an answer that is none of ours is called.

Nothing here sends: `spoter.client.client` does, once in each of its two ways.
"""

from __future__ import annotations

import os
import random
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx
import msgspec
import tenacity
from msgspec import UNSET, Raw, UnsetType

from spoter.client.errors import (
    NoAnswerError,
    RequestError,
    ServerError,
    UnavailableError,
    UnexpectedAnswerError,
)
from spoter.client.results import SEVERAL
from spoter.error_codes import ErrorCode
from spoter.errors import InputError, SpoterError
from spoter.formats.request import CSV, JSON, JSONLINES, short
from spoter.messages import RawRequest, Response, error_response

# Statuses of a server that may well answer a moment later; 429 is API Gateway's way of saying 503.
_COME_AGAIN = (429, 503)
# No answer was begun, or it broke off. Asking twice does no harm: a server keeps nothing of a request.
_BROKEN = (httpx.ConnectError, httpx.ConnectTimeout, httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)
# A server that is there answers in milliseconds, one at the other end of the world in one second.
_CONNECT_SECONDS = 5.0
# The largest power of 2 that a float holds is 1023.
_MOST_DOUBLINGS = 1000
# What TorchServe (0.12.0) calls a token that is wrong, missing or expired.
INVALID_KEY = "InvalidKeyException"
# No answer in time.
TIMEOUT = "timeout"
# What TorchServe answers for itself where a worker died over a request: 507, or 500 of this type.
_DIED, _DIED_TYPE = 507, "InternalServerException"


@dataclass(frozen=True)
class Retry:
    """How often to ask again after a 503, a 429 or a broken connection; and once where a worker may have died.

    A worker's death is answered 507 or 500 by TorchServe, or not at all: a request that it held for a batch is then
    lost, and comes to nothing but the client's own timeout. Since the request may have been the cause, or take as long
    again, it is asked again only after a first attempt.

    Between two attempts lies a random time of up to `first` seconds, twice as much each time, at most `longest`: so
    that many clients do not come back together. Where the server says ``Retry-After``, it is at least that long; where
    that is longer than `longest`, the client gives up at once.

    Attributes
    ----------
    attempts : int
        At most, the first one included; 1 for none but it.
    first, longest : float
        Seconds.
    """

    attempts: int = 4
    first: float = 0.5
    longest: float = 10.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or not 0 <= self.first <= self.longest:
            raise ValueError(f"found {self}, expected attempts of at least 1 and 0 <= first <= longest")

    def seconds(self, attempt: int, error: BaseException) -> float:
        """Return how long to wait after the `attempt`-th attempt, counted from 1, which ended in `error`."""
        doublings = min(attempt - 1, _MOST_DOUBLINGS)
        jitter = random.uniform(0, min(self.longest, self.first * 2.0**doublings))
        after = getattr(error, "retry_after", None)
        return jitter if after is None else min(self.longest, after + jitter)

    def worthwhile(self, error: BaseException, attempt: int = 1) -> bool:
        """Tell whether asking again may help after the `attempt`-th attempt, counted from 1, ended in `error`."""
        if isinstance(error, UnavailableError):
            return error.retry_after is None or error.retry_after <= self.longest
        if isinstance(error, NoAnswerError) and isinstance(error.__cause__, _BROKEN):
            return True
        return attempt == 1 and _may_have_lost_its_worker(error)

    def policy(self, renewed: bool = False) -> dict:
        """Return this as arguments of tenacity's `Retrying` and `AsyncRetrying`.

        Parameters
        ----------
        renewed : bool
            Whether the token is read anew for each attempt, so that a refused one may be followed by one that holds.
        """

        def again(state: tenacity.RetryCallState) -> bool:
            error = state.outcome.exception()
            if error is None:
                return False
            renewable = renewed and getattr(error, "code", None) == INVALID_KEY
            return renewable or self.worthwhile(error, state.attempt_number)

        return {
            "stop": tenacity.stop_after_attempt(self.attempts),
            "wait": lambda state: self.seconds(state.attempt_number, state.outcome.exception()),
            "retry": again,
            "reraise": True,
        }


def _may_have_lost_its_worker(error: BaseException) -> bool:
    if isinstance(error, NoAnswerError):
        return error.code == TIMEOUT
    status, code = getattr(error, "status", None), getattr(error, "code", None)
    return status == _DIED or (status == 500 and code == _DIED_TYPE)


def address(url: str, model: str) -> str:
    """Return where predictions are asked for.

    Parameters
    ----------
    url : str
        A server's root (``http://127.0.0.1:8080``), to which TorchServe's path for `model` is added; or, with a path,
        the whole address, such as API Gateway's.

    Raises
    ------
    SpoterError
        For what is no address of HTTP.
    """
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError) as error:
        raise SpoterError(f"found the address {url!r}: {error}") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise SpoterError(f"found the address {url!r}, expected one such as http://127.0.0.1:8080")
    return str(parsed if parsed.path != "/" else parsed.copy_with(path=f"/predictions/{model}"))


class FileToken(httpx.Auth):
    """Sends the token that stands in a file at the moment of each attempt; `spoter token` writes such files."""

    def __init__(self, path: os.PathLike):
        self.path = Path(path)

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Put the token into a request; `SpoterError` where the file cannot be read or holds none."""
        try:
            token = self.path.read_text(encoding="utf-8-sig").strip()
        except OSError as error:
            raise SpoterError(f"{self.path}: {error.strerror or error}; expected a file that holds a token") from None
        except UnicodeDecodeError:
            token = ""
        if not token:
            raise SpoterError(f"{self.path}: found no token in it, expected one line of text")
        request.headers.update(_sendable({"Authorization": f"Bearer {token}"}))
        yield request


def settings(token: str | os.PathLike | None, headers: Mapping[str, str] | None, timeout: float) -> dict:
    """Return the arguments of httpx's `Client` and `AsyncClient`."""
    if not timeout > 0:
        raise ValueError(f"found a timeout of {timeout} seconds, expected one above 0")
    own = {"Authorization": f"Bearer {token}"} if token and isinstance(token, str) else {}
    return {
        "auth": FileToken(token) if isinstance(token, os.PathLike) else None,
        "headers": _sendable(own | dict(headers or {})),
        "timeout": httpx.Timeout(timeout, connect=min(timeout, _CONNECT_SECONDS)),
        # No proxy that the environment names leads to this machine itself.
        "mounts": {f"all://{host}": None for host in ("127.0.0.1", "localhost", "[::1]")},
    }


def headers_of(call: RawRequest) -> dict[str, str]:
    """Return the headers of a request."""
    named = {
        "Content-Type": call.content_type,
        "Accept": call.accept,
        "X-Amzn-SageMaker-Custom-Attributes": call.attributes,
    }
    return _sendable({name: value for name, value in named.items() if value})


def _sendable(headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers that HTTP can hold; `SpoterError` for others, without the value: it may be a secret."""
    for name, value in headers.items():
        if not (isinstance(value, str) and value.isascii() and value.isprintable()):
            raise SpoterError(f"found a header {name} with line breaks or letters beyond ASCII, expected none of them")
    return dict(headers)


def no_answer(error: httpx.TransportError, url: str) -> NoAnswerError:
    """Return the error for a request that got no answer; raise it from `error`, which tells whether to try again."""
    if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
        return NoAnswerError(TIMEOUT, f"{url}: no answer in time; send less, or allow a longer timeout")
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return NoAnswerError("no_server", f"nothing answers at {url} ({error}): is the server up? make serve")
    return NoAnswerError("no_server", f"{url}: the connection broke off ({error or type(error).__name__})")


class _Document(msgspec.Struct):
    """What tells an answer of ours: one of these keys; `type` and `message` are TorchServe's and API Gateway's."""

    instances: Raw | UnsetType = UNSET
    answers: Raw | UnsetType = UNSET
    enrolled: Raw | UnsetType = UNSET
    error: Raw | UnsetType = UNSET
    type: str | None = None
    message: str | None = None


class _Error(msgspec.Struct):
    code: str
    message: str
    where: str | None = None


_DOCUMENT = msgspec.json.Decoder(_Document)
_ERROR = msgspec.json.Decoder(_Error)


def take(answer: httpx.Response) -> Response:
    """Return an answer as it came, where it is one of ours.

    Raises
    ------
    UnavailableError, RequestError, ServerError
        Where TorchServe or API Gateway answers for itself, and for every 503, 429 and 5xx.
    UnexpectedAnswerError
        For what another server answers.
    """
    status, url = answer.status_code, str(answer.request.url)
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    document, error = _Document(), None
    if kind == JSON:
        try:
            document = _DOCUMENT.decode(answer.content)
            error = None if document.error is UNSET else _ERROR.decode(document.error)
        except msgspec.MsgspecError:
            document = _Document()
    ours = kind in (CSV, JSONLINES) or any(
        part is not UNSET for part in (document.instances, document.answers, document.enrolled)
    )
    if status == 200 and ours:
        return Response(status, kind, answer.content)
    if 400 <= status < 500 and status not in _COME_AGAIN and (ours or error):
        return Response(status, kind, answer.content, error.code if error else SEVERAL)
    if status == 413:  # TorchServe's own has no body
        refused = InputError(ErrorCode.BODY_TOO_LARGE, "found more bytes than the server reads")
        return error_response(refused)
    raise _refusal(status, url, document, error, answer)


def _refusal(status: int, url: str, document: _Document, error: _Error | None, answer: httpx.Response) -> ServerError:
    if status < 400:
        kind = answer.headers.get("content-type", "no type")
        return UnexpectedAnswerError(
            "unexpected_answer",
            f"{url}: found status {status} and {short(kind)} that is no answer of SPOTER's: is the address right?",
            status=status,
        )
    code, where = f"status_{status}", None
    if error is not None:
        code, message, where = error.code, error.message, error.where
    elif document.message is not None:
        code, message = document.type or code, f"{url}: {document.message}"
    else:
        message = f"{url}: found status {status} {answer.reason_phrase}, without a reason"
    if status in _COME_AGAIN:
        return UnavailableError(code, message, where, status, retry_after(answer.headers.get("retry-after")))
    if status >= 500:
        return ServerError(code, message, where, status)
    if status in (401, 403) or document.type == INVALID_KEY:
        message += " (pass a token that holds)"
    return RequestError(code, message, where, status)


def retry_after(header: str | None) -> float | None:
    """Return the seconds of a header ``Retry-After``, which is a number of them or a date (RFC 9110, 10.2.3)."""
    if header is None:
        return None
    if header.strip().isascii() and header.strip().isdigit():
        return float(header)
    try:
        date = parsedate_to_datetime(header)
    except ValueError:
        return None
    if date.tzinfo is None:
        return None
    return max(0.0, (date - datetime.now(UTC)).total_seconds())
