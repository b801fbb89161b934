"""The errors that this package raises deliberately.

An `InputError` has three parts that a caller can use: a stable ``code`` for programs, a ``message`` for people that
states what was found and expected, and the place, ``where`` ("clip 2, frame 17, point pose_left_wrist").
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
"""Exceptions that readers of Python, NumPy and torch raise for a damaged, truncated or wrong kind of file."""


def one_line(value: object, max_length: int = 300) -> str:
    """Return `value` as text on one line, cut to `max_length`: errors of other libraries may quote a whole file."""
    printable = "".join(letter if letter.isprintable() else " " for letter in str(value))
    return " ".join(printable.split())[:max_length]


class SpoterError(Exception):
    """Base class of all errors that this package raises deliberately; the text of an error is meant for users.

    Attributes
    ----------
    exit_code : int
        Exit status of a command that ends with this error: 2 if the user can correct the cause, else 1.
    """

    exit_code = 2


class ModelFolderError(SpoterError):
    """A model folder, checkpoint, layout file or configuration cannot be used."""


class DataError(SpoterError):
    """A data set cannot be read, or does not fit its use."""


class InputError(SpoterError):
    """A request or a clip is wrong; the caller can correct it.

    Parameters
    ----------
    code : ErrorCode
        Stable code for programs, listed in docs/errors.md; it determines the HTTP status.
    message : str
        What was found and what was expected. It is sent to the client but never logged, because it may quote a value
        of the request.
    where : str, optional
        Place in the request: "clip 2, frame 17, point pose_left_wrist", "line 3", "column pose_nose_x"; None for the
        whole request.

    Attributes
    ----------
    status : int
        HTTP status of the code, such as 400.
    """

    def __init__(self, code: ErrorCode, message: str, where: str | None = None):
        super().__init__(f"{where}: {message}" if where else message)
        self.code: str = code
        self.message = message
        self.where = where
        self.status: int = code.status

    def within(self, outer: str) -> InputError:
        """Return a copy of the error with `outer` ("clip 2") before its place."""
        where = f"{outer}, {self.where}" if self.where else outer
        return InputError(ErrorCode[self.code.upper()], self.message, where)

    def to_dict(self) -> dict[str, dict[str, str | None]]:
        """Return the body of the response: ``{"error": {"code", "message", "where"}}``."""
        return {"error": {"code": self.code, "message": self.message, "where": self.where}}
