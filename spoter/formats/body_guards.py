"""What keeps a body from costing far more than its bytes: checks before it is decoded, and a decoder left in peace."""

from __future__ import annotations

import codecs
import gc
import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice

from spoter.error_codes import ErrorCode
from spoter.errors import InputError

_PIECE = 1 << 20
# Numbers near the least or the greatest that there is take the decoder 6 to 14 µs each instead of 0.03. No coordinate
# is one. They are written with an exponent of three digits, such as 1e-310, or with 200 digits in a row and more. A few
# are let through, so that a body that has no room for many need not be searched.
_MOST_SLOW = 50_000
_SHORTEST_SLOW = len("1e-310,")
_SLOW = re.compile(rb"[eE][+-]?0*[1-9][0-9]{2}")
_ROW = b"0" * 100
_AS_ZEROS = bytes.maketrans(b"123456789", b"0" * 9)


def check_utf8(body: bytes) -> None:
    """Raise `UnicodeDecodeError`, whose `start` is the place in `body`, where it is not UTF-8.

    As one piece of text, 25 MB could take 100.
    """
    if body.isascii():
        return
    decoder = codecs.getincrementaldecoder("utf-8")()
    for start in range(0, len(body), _PIECE):
        waiting = len(decoder.getstate()[0])  # bytes of a letter that the last piece cut
        try:
            decoder.decode(body[start : start + _PIECE], final=start + _PIECE >= len(body))
        except UnicodeDecodeError as error:
            error.start += start - waiting
            raise


def check_numbers(body: bytes) -> None:
    """Raise ``out_of_range`` where a body of JSON has very many numbers that take long to read.

    Raises
    ------
    InputError
    """
    if len(body) < _SHORTEST_SLOW * _MOST_SLOW:
        return
    slow = _rows_of_digits(body)
    exponents = body.count(b"e") + (body.count(b"E") if b"E" in body else 0)
    if slow + exponents > _MOST_SLOW:
        slow += sum(1 for _ in islice(_SLOW.finditer(body), _MOST_SLOW + 1))
    if slow > _MOST_SLOW:
        raise InputError(
            ErrorCode.OUT_OF_RANGE,
            f"found more than {_MOST_SLOW} exponents of three digits and rows of {len(_ROW)} digits, "
            "expected coordinates",
        )


def _rows_of_digits(body: bytes) -> int:
    """Count how often a hundred digits stand in a row, but for a few; none in a body that has no room for too many."""
    if len(body) < len(_ROW) * _MOST_SLOW:
        return 0
    pieces = (body[start : start + _PIECE] for start in range(0, len(body), _PIECE))
    return sum(piece.translate(_AS_ZEROS).count(_ROW) for piece in pieces)


@contextmanager
def without_collector() -> Iterator[None]:
    """Leave Python's garbage collector off meanwhile.

    What a decoder makes has no cycles, and looking for them among a million lists takes twenty times as long as making
    them.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
