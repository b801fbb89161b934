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
# Numbers near the least or the greatest float take the decoder 6 to 14 µs each instead of 0.03. No coordinate is one.
# They are written with an exponent of three digits, such as 1e-310, or with 200 digits in a row and more. Some are
# accepted, so that a body without room for more need not be searched.
_MAX_SLOW = 50_000
_SHORTEST_SLOW = len("1e-310,")
_SLOW_EXPONENT = re.compile(rb"[eE][+-]?0*[1-9][0-9]{2}")
_DIGIT_ROW = b"0" * 100
_AS_ZEROS = bytes.maketrans(b"123456789", b"0" * 9)
_FACE_KEY = b'"face_landmarks"'
_OPENING = re.compile(rb"[ \t\r\n]*:[ \t\r\n]*\[")
_ESCAPE = b"\\"
_QUOTE = ord('"')
# More than the frames of any request, so that a body of nothing else does not cost seconds.
MAX_FACES = 50_000


def check_utf8(body: bytes) -> None:
    """Raise `UnicodeDecodeError`, whose `start` is the place in `body`, where it is not UTF-8.

    It is decoded in pieces, since 25 MB could take 100 as one text.
    """
    if body.isascii():
        return
    decoder = codecs.getincrementaldecoder("utf-8")()
    for start in range(0, len(body), _PIECE):
        pending = len(decoder.getstate()[0])  # bytes of a letter that the last piece cut
        try:
            decoder.decode(body[start : start + _PIECE], final=start + _PIECE >= len(body))
        except UnicodeDecodeError as error:
            error.start += start - pending
            raise


def check_slow_numbers(body: bytes) -> None:
    """Raise ``out_of_range`` where a body of JSON has very many numbers that are slow to parse."""
    if len(body) < _SHORTEST_SLOW * _MAX_SLOW:
        return
    slow = _count_digit_rows(body)
    exponents = body.count(b"e") + (body.count(b"E") if b"E" in body else 0)
    if slow + exponents > _MAX_SLOW:
        slow += sum(1 for _ in islice(_SLOW_EXPONENT.finditer(body), _MAX_SLOW + 1))
    if slow > _MAX_SLOW:
        raise InputError(
            ErrorCode.OUT_OF_RANGE,
            f"found more than {_MAX_SLOW} exponents of three digits and rows of {len(_DIGIT_ROW)} digits, "
            "expected coordinates",
        )


def _count_digit_rows(body: bytes) -> int:
    """Count the rows of a hundred digits, except for a few; 0 in a body without room for too many."""
    if len(body) < len(_DIGIT_ROW) * _MAX_SLOW:
        return 0
    pieces = (body[start : start + _PIECE] for start in range(0, len(body), _PIECE))
    return sum(piece.translate(_AS_ZEROS).count(_DIGIT_ROW) for piece in pieces)


@contextmanager
def paused_gc() -> Iterator[None]:
    """Disable Python's garbage collector meanwhile.

    A decoder makes no cycles, and looking for them among a million lists takes twenty times as long as making them.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def remove_face_meshes(body: bytes) -> bytes:
    """Return a JSON body with an empty array in the place of each array of points under the key ``face_landmarks``.

    Face meshes are nine tenths of what a browser sends, and finding the end of one is several times faster than
    decoding it. So the inside of one is not checked to be JSON, as no format checks what a model does not use.

    The array's end is its first ``]``, unless an array or a text with a bracket is inside. Where one may be, and where
    an array does not end, the rest of the body stays as it is, so that no bytes are searched twice.
    """
    kept: list[bytes] = []
    start, at, count = 0, body.find(_FACE_KEY), 0
    while at >= 0 and count < MAX_FACES:
        count += 1
        opening = _OPENING.match(body, at + len(_FACE_KEY))
        # After a backslash the first quote is one inside a text.
        if opening and body[at - 1 : at] != _ESCAPE:
            end = body.find(b"]", opening.end())
            if end < 0 or not _is_flat(body, opening.end(), end):
                break
            kept.append(body[start : opening.end()])
            start = end
        at = body.find(_FACE_KEY, max(start, at + len(_FACE_KEY)))
    if not kept:
        return body
    kept.append(body[start:])
    return b"".join(kept)


def _is_flat(body: bytes, start: int, end: int) -> bool:
    """Tell whether no array begins in these bytes, and no text reaches beyond them."""
    if body.find(b"[", start, end) >= 0 or body.find(_ESCAPE, start, end) >= 0:
        return False
    quotes = np.count_nonzero(np.frombuffer(body, np.uint8, end - start, start) == _QUOTE)
    return bool(quotes % 2 == 0)
