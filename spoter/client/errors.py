"""Errors that a client raises if a server does not answer as expected.

An unusable clip raises an `InputError`, whether the client detects it before sending or the server refuses it
(`RequestError`); docs/errors.md lists its codes. docs/client.md lists the other codes.
"""

from spoter.errors import InputError, SpoterError


class ServerError(SpoterError):
    """The server failed; also the base class of the other errors of a server.

    `code` is a stable string for programs; `message` is for people; `where` is the place in the request, if the server
    names one.
    """

    exit_code = 1
    code: str
    status: int | None  # HTTP status; None without an answer

    def __init__(self, code: str, message: str, where: str | None = None, status: int | None = None):
        SpoterError.__init__(self, f"{where}: {message}" if where else message)
        self.code, self.message, self.where, self.status = code, message, where, status


class NoAnswerError(ServerError):
    """No server answers at the address (code ``no_server``), or it does not answer in time (``timeout``)."""

    exit_code = 2


class UnavailableError(ServerError):
    """Status 503 or 429 after all attempts: the server has no free worker, or limits the rate of requests."""

    retry_after: float | None = None  # seconds to wait before a retry, if the server states them


class RequestError(ServerError, InputError):
    """The server refused the request, or one of its clips: any other status from 400 to 499."""

    exit_code = 2
    code: str
    status: int


class UnexpectedAnswerError(ServerError):
    """The answer is not one of SPOTER's (code ``unexpected_answer``): the address is probably wrong."""

    exit_code = 2
