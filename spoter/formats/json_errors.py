"""Translates errors of the JSON decoder: frames and landmark names instead of paths and Python types."""

import re
from collections.abc import Callable, Sequence

import msgspec

from spoter.error_codes import ErrorCode
from spoter.errors import InputError, one_line

_PATH = re.compile(r" - at `\$(.*)`$", re.DOTALL)
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+)\]")
_TYPES = re.compile(r"\b(float|int|str|bool)\b")
_WORDS = {"float": "number", "int": "integer", "str": "string", "bool": "boolean"}
_UNKNOWN_FIELD = re.compile(r"unknown field `(.*)`", re.DOTALL)
_MAX_KEY = 40  # the most characters of a key that an error quotes: a key may be as long as the body
_EXPECTED_GOT = re.compile(r"^Expected (?P<expected>.+), got (?P<found>.+)$", re.DOTALL)
_BYTE = re.compile(r" ?\(byte (\d+)\)")
_NOT_A_NUMBER = re.compile(rb".?-?(nan|inf)", re.DOTALL | re.IGNORECASE)

Path = Sequence[str | int]
"""The path of a value as keys and indices: ``("keypoints", 3, "pose_landmarks", 15, "x")``."""


def invalid_json(error: Exception, body: bytes) -> InputError:
    """Translate a syntax error of `body`."""
    if isinstance(error, RecursionError):
        return InputError(ErrorCode.INVALID_JSON, "found brackets nested too deep, expected at most a dozen levels")
    if isinstance(error, UnicodeDecodeError):
        return InputError(
            ErrorCode.INVALID_JSON, "found a byte that is not UTF-8, expected JSON in UTF-8", f"byte {error.start}"
        )
    message = str(error)
    if message == "Input data was truncated":
        return InputError(ErrorCode.INVALID_JSON, "the JSON ends early, expected a whole object", f"byte {len(body)}")
    position = _BYTE.search(message)
    if position is None:
        return InputError(ErrorCode.INVALID_JSON, "found invalid JSON, expected a JSON object")
    byte = int(position[1])
    hint = ""
    if _NOT_A_NUMBER.match(body, max(byte - 1, 0)):
        hint = "; JSON has no NaN or Infinity: null marks a missing point"
    problem = message.removeprefix("JSON is malformed: ").replace(position[0], "")
    return InputError(ErrorCode.INVALID_JSON, f"the JSON is malformed: {problem}{hint}", f"byte {byte}")


def unknown_field(error: msgspec.ValidationError) -> str:
    """Return the unknown key that `error` names, at full length."""
    match = _UNKNOWN_FIELD.search(str(error))
    return match[1] if match else ""


def wrong_type(error: msgspec.ValidationError, place: Callable[[Path], str | None], outer: Path = ()) -> InputError:
    """Translate a value of the wrong type.

    `place` describes a path. If the decoder got only a part of the body, `outer` is the path of that part.
    """
    message = str(error)
    path = _PATH.search(message)
    steps: list[str | int] = list(outer)
    if path:
        message = message[: path.start()]
        steps += [key or int(index) for key, index in _STEP.findall(path[1])]
    where = place(steps)
    if message in ("Number out of range", "Integer value out of range"):
        return InputError(ErrorCode.OUT_OF_RANGE, "found a number too large to represent", where)
    message = _UNKNOWN_FIELD.sub(lambda match: f"unknown field {one_line(match[1], _MAX_KEY)}", message)
    message = _TYPES.sub(lambda match: _WORDS[match[1]], message.replace("`", ""))
    message = message.replace("array of length 2", "a pair [x, y]")
    if match := _EXPECTED_GOT.match(message):
        message = f"found {match['found']}, expected {match['expected'].replace(' | ', ' or ')}"
    return InputError(ErrorCode.WRONG_TYPE, message[0].lower() + message[1:], where)
