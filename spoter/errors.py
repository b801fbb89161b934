"""The errors that this package raises on purpose.

An error has three parts that a caller can act on: a stable ``code`` for programs, a ``message`` for people with what
was found and what was expected, and ``where`` it was found ("clip 2, frame 17, point pose_left_wrist").
"""

from __future__ import annotations

import pickle
import struct
import zipfile
import zlib

from spoter.error_codes import ErrorCode

DAMAGED_FILE_ERRORS = (
    AssertionError, AttributeError, EOFError, IndexError, KeyError, MemoryError, OverflowError, RuntimeError, TypeError,
    ValueError, pickle.UnpicklingError, struct.error, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""The readers of Python, NumPy and torch raise these for a file that is damaged, cut off or of another kind."""


def one_line(value: object, max_length: int = 300) -> str:
    """Return `value` as text on one line, cut to `max_length`: errors of other libraries may quote a whole file."""
    printable = "".join(letter if letter.isprintable() else " " for letter in str(value))
    return " ".join(printable.split())[:max_length]


class SpoterError(Exception):
    """Base of every error this package raises on purpose; its text is fit to be shown to a user.

    Attributes
    ----------
    exit_code : int
        What a command ends with: 2 for what its user can put right, 1 for what failed.
    """

    exit_code = 2


class ModelFolderError(SpoterError):
    """A model folder, checkpoint, layout file or configuration cannot be used."""


class DataError(SpoterError):
    """A data set cannot be read, or does not fit what it is used for."""


class InputError(SpoterError):
    """A request is wrong; the client can mend it.

    Parameters
    ----------
    code : ErrorCode
        Stable code for programs; it decides the HTTP status.
    message : str
        What was found and what was expected. It goes to the client and is never written to a log, because it may quote
        a value of the request.
    where : str, optional
        Place in the request: "clip 2, frame 17, point pose_left_wrist", "line 3", "column pose_nose_x".
    """

    def __init__(self, code: ErrorCode, message: str, where: str | None = None):
        super().__init__(f"{where}: {message}" if where else message)
        self.code: str = code
        self.message = message
        self.where = where
        self.status: int = code.status

    def within(self, outer: str) -> InputError:
        """Return the same error with `outer` ("clip 2") put before its place."""
        where = f"{outer}, {self.where}" if self.where else outer
        return InputError(ErrorCode[self.code.upper()], self.message, where)

    def to_dict(self) -> dict[str, dict[str, str | None]]:
        """Return ``{"error": {"code", "message", "where"}}``, the body a client gets."""
        return {"error": {"code": self.code, "message": self.message, "where": self.where}}
