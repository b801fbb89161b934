"""Rules for retries: when a client sends a request again, and how long it waits."""

import random
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import tenacity

from spoter.client.errors import NoAnswerError, ServerError, UnavailableError

INVALID_KEY = "InvalidKeyException"
"""TorchServe 0.12.0's error type for a wrong, missing or expired token."""
TIMEOUT = "timeout"

# The connection failed or broke. Repeating a request is safe, because a server stores nothing.
_BROKEN = (httpx.ConnectError, httpx.ConnectTimeout, httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)
_MAX_DOUBLINGS = 1000  # the largest power of 2 that a float holds is 1023


@dataclass(frozen=True)
class Retry:
    """How often to send a request again after a 503, a 429 or a broken connection, and once if a worker may have died.

    When a worker dies, TorchServe answers 507 or 500, or not at all: it loses a request that waited for a batch, and
    only the client's timeout ends the wait. The request may have killed the worker, or may take as long again, so it is
    sent again only after the first attempt.

    The client waits for a random time of up to `first` seconds; this bound doubles after each attempt, up to `longest`.
    The random time keeps many clients from returning at once. The client waits at least as long as ``Retry-After``
    states; if that is longer than `longest`, it gives up immediately.
    """

    attempts: int = 4  # maximum number, including the first attempt
    first: float = 0.5  # seconds
    longest: float = 10.0  # seconds

    def __post_init__(self) -> None:
        if self.attempts < 1 or not 0 <= self.first <= self.longest:
            raise ValueError(f"found {self}, expected attempts of at least 1 and 0 <= first <= longest")

    def wait_seconds(self, attempt: int, error: BaseException | None) -> float:
        """Return the seconds to wait after attempt number `attempt` (from 1), which ended in `error`."""
        doublings = min(attempt - 1, _MAX_DOUBLINGS)
        jitter = random.uniform(0, min(self.longest, self.first * 2.0**doublings))
        after = error.retry_after if isinstance(error, UnavailableError) else None
        return jitter if after is None else min(self.longest, after + jitter)

    def should_retry(self, error: BaseException | None, attempt: int = 1) -> bool:
        """Return whether to send again after attempt number `attempt` (from 1), which ended in `error`."""
        if isinstance(error, UnavailableError):
            return error.retry_after is None or error.retry_after <= self.longest
        if isinstance(error, NoAnswerError) and isinstance(error.__cause__, _BROKEN):
            return True
        return attempt == 1 and _may_have_lost_its_worker(error)

    def tenacity_options(self, token_is_renewed: bool) -> dict[str, Any]:
        """Return the arguments of tenacity's `Retrying`; with `token_is_renewed`, also retry if the token expired."""

        def should_retry(state: tenacity.RetryCallState) -> bool:
            error = _outcome(state)
            expired = token_is_renewed and isinstance(error, ServerError) and error.code == INVALID_KEY
            return expired or self.should_retry(error, state.attempt_number)

        return {
            "stop": tenacity.stop_after_attempt(self.attempts),
            "wait": lambda state: self.wait_seconds(state.attempt_number, _outcome(state)),
            "retry": should_retry,
            "reraise": True,
        }


def parse_retry_after(header: str | None) -> float | None:
    """Return the seconds of a header ``Retry-After``, which holds seconds or a date (RFC 9110, 10.2.3)."""
    if header is None:
        return None
    if header.strip().isascii() and header.strip().isdigit():
        return float(header)
    try:
        date = parsedate_to_datetime(header)
    except ValueError:
        return None
    return None if date.tzinfo is None else max(0.0, (date - datetime.now(UTC)).total_seconds())


def _outcome(state: tenacity.RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _may_have_lost_its_worker(error: BaseException | None) -> bool:
    """Return whether `error` is one that TorchServe 0.12.0 causes when a worker dies."""
    if isinstance(error, NoAnswerError):
        return error.code == TIMEOUT
    return isinstance(error, ServerError) and (
        error.status == 507 or (error.status == 500 and error.code == "InternalServerException")
    )
