"""Guards against bodies that are cheap to send and expensive to decode, and steps that make decoding faster."""

import codecs
import gc
import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice

import numpy as np

from spoter.error_codes import ErrorCode
from spoter.errors import InputError

_PIECE = 1 << 20
# The decoder takes 6 to 14 µs, instead of 0.03 µs, for a number near the smallest or largest float. Such a number has
# an exponent of three digits, such as 1e-310, or at least 200 digits in a row; coordinates do not. Up to _MAX_SLOW of
# them are accepted, so that bodies too short to hold more need no search.
_MAX_SLOW = 50_000
_SHORTEST_SLOW = len("1e-310,")
_SLOW_EXPONENT = re.compile(rb"[eE][+-]?0*[1-9][0-9]{2}")
_DIGIT_RUN = b"0" * 100
_AS_ZEROS = bytes.maketrans(b"123456789", b"0" * 9)
_FACE_KEY = b'"face_landmarks"'
_OPENING = re.compile(rb"[ \t\r\n]*:[ \t\r\n]*\[")
_ESCAPE = b"\\"
_QUOTE = ord('"')
# More than the frames of any request; it keeps a body of nothing but such keys from costing seconds.
MAX_FACES = 50_000


def check_utf8(body: bytes) -> None:
    """Raise `UnicodeDecodeError` if `body` is not UTF-8; its `start` is the byte's position in `body`.

    Decodes in pieces, because a body of 25 MB could take 100 MB as one string.
    """
    if body.isascii():
        return
    decoder = codecs.getincrementaldecoder("utf-8")()
    for start in range(0, len(body), _PIECE):
        pending = len(decoder.getstate()[0])  # bytes of a character cut at the end of the previous piece
        try:
            decoder.decode(body[start : start + _PIECE], final=start + _PIECE >= len(body))
        except UnicodeDecodeError as error:
            error.start += start - pending
            raise


def check_slow_numbers(body: bytes) -> None:
    """Raise ``out_of_range`` if a JSON body has too many numbers that are slow to parse."""
    if len(body) < _SHORTEST_SLOW * _MAX_SLOW:
        return
    slow = _count_digit_runs(body)
    exponents = body.count(b"e") + (body.count(b"E") if b"E" in body else 0)
    if slow + exponents > _MAX_SLOW:
        slow += sum(1 for _ in islice(_SLOW_EXPONENT.finditer(body), _MAX_SLOW + 1))
    if slow > _MAX_SLOW:
        raise InputError(
            ErrorCode.OUT_OF_RANGE,
            f"found more than {_MAX_SLOW} numbers with a three-digit exponent or {len(_DIGIT_RUN)} digits in a row, "
            "expected coordinates",
        )


def _count_digit_runs(body: bytes) -> int:
    """Count most runs of 100 digits, not those across pieces; 0 for a body too short to exceed `_MAX_SLOW`."""
    if len(body) < len(_DIGIT_RUN) * _MAX_SLOW:
        return 0
    pieces = (body[start : start + _PIECE] for start in range(0, len(body), _PIECE))
    return sum(piece.translate(_AS_ZEROS).count(_DIGIT_RUN) for piece in pieces)


@contextmanager
def paused_gc() -> Iterator[None]:
    """Disable Python's garbage collector inside the ``with`` block.

    A decoder makes no reference cycles; searching a million lists for cycles takes 20 times as long as making them.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def remove_face_meshes(body: bytes) -> bytes:
    """Return a JSON body with each array of points under the key ``face_landmarks`` replaced by an empty array.

    Face meshes are nine tenths of a browser's request. Finding an array's end is several times faster than decoding it.
    Removed arrays are not checked to be JSON: no format checks values that a model does not use.

    An array ends at its first ``]``, unless it contains an array or a string with a bracket. If it may contain one, or
    does not end, the rest of the body stays unchanged, so that no bytes are searched twice.
    """
    pieces: list[bytes] = []
    start, key_start, count = 0, body.find(_FACE_KEY), 0
    while key_start >= 0 and count < MAX_FACES:
        count += 1
        opening = _OPENING.match(body, key_start + len(_FACE_KEY))
        # After a backslash, the key's first quote is a character inside a string.
        if opening and body[key_start - 1 : key_start] != _ESCAPE:
            end = body.find(b"]", opening.end())
            if end < 0 or not _is_flat(body, opening.end(), end):
                break
            pieces.append(body[start : opening.end()])
            start = end
        key_start = body.find(_FACE_KEY, max(start, key_start + len(_FACE_KEY)))
    if not pieces:
        return body
    pieces.append(body[start:])
    return b"".join(pieces)


def _is_flat(body: bytes, start: int, end: int) -> bool:
    """Return whether no array begins in these bytes, and no string extends beyond them."""
    if body.find(b"[", start, end) >= 0 or body.find(_ESCAPE, start, end) >= 0:
        return False
    quotes = np.count_nonzero(np.frombuffer(body, np.uint8, end - start, start) == _QUOTE)
    return bool(quotes % 2 == 0)
