"""What a client raises when a server does not answer as it should.

What is wrong with a clip is an `InputError`, whether it is found here, before anything is sent, or by the server
(`RequestError`): its code is one of docs/errors.md. The other codes are listed in docs/client.md.
"""

from __future__ import annotations

from spoter.errors import InputError, SpoterError


class ServerError(SpoterError):
    """Base of all errors that have to do with a server, and what is raised where the server itself failed.

    Attributes
    ----------
    code : str
        Stable word for programs.
    message : str
        For people.
    where : str or None
        Place in the request, where the server names one.
    status : int or None
        HTTP status of the answer; None where there was none.
    """

    exit_code = 1

    def __init__(self, code: str, message: str, where: str | None = None, status: int | None = None):
        SpoterError.__init__(self, f"{where}: {message}" if where else message)
        self.code = code
        self.message = message
        self.where = where
        self.status = status


class NoAnswerError(ServerError):
    """Nobody answers at the address (code ``no_server``), or not in time (``timeout``)."""

    exit_code = 2


class UnavailableError(ServerError):
    """The server has no worker free, or bids to wait: status 503 or 429, after all retries.

    Attributes
    ----------
    retry_after : float or None
        Seconds after which to come again, where the server says so.
    """

    def __init__(
        self,
        code: str,
        message: str,
        where: str | None = None,
        status: int | None = None,
        retry_after: float | None = None,
    ):
        super().__init__(code, message, where, status)
        self.retry_after = retry_after


class RequestError(ServerError, InputError):
    """The server refused the request, or one of its clips: any other status from 400 to 499."""

    exit_code = 2


class UnexpectedAnswerError(ServerError):
    """What came back is no answer of this server's (code ``unexpected_answer``): most often, the address is wrong."""

    exit_code = 2
