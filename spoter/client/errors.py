"""What a client raises when a server does not answer as it should.

A wrong clip is an `InputError`, whether the client finds it before it sends anything or the server refuses it
(`RequestError`): its code is one of docs/errors.md. docs/client.md lists the other codes.
"""

from spoter.errors import InputError, SpoterError


class ServerError(SpoterError):
    """The server failed; also the base of all other errors about a server.

    `code` is stable, for programs; `message` is for people; `where` is the place in the request, if the server names
    one.
    """

    exit_code = 1
    code: str
    status: int | None  # of HTTP; None without an answer

    def __init__(self, code: str, message: str, where: str | None = None, status: int | None = None):
        SpoterError.__init__(self, f"{where}: {message}" if where else message)
        self.code, self.message, self.where, self.status = code, message, where, status


class NoAnswerError(ServerError):
    """No server answers at the address (code ``no_server``), or not in time (``timeout``)."""

    exit_code = 2


class UnavailableError(ServerError):
    """Status 503 or 429 after all attempts: the server has no free worker, or limits the rate of requests."""

    retry_after: float | None = None  # seconds after which to retry, if the server names them


class RequestError(ServerError, InputError):
    """The server refused the request, or one of its clips: any other status from 400 to 499."""

    exit_code = 2
    code: str
    status: int


class UnexpectedAnswerError(ServerError):
    """The answer is not one of SPOTER's (code ``unexpected_answer``): the address is probably wrong."""

    exit_code = 2
