"""Wire formats: bytes into Clips, ranked glosses into bytes.

One module a format: `json_format` (with `frames` and `points_form` for its forms), `csv_format`, `npy_format`,
`jsonlines_format` and `video_format`; `answers` writes. docs/formats.md shows each with an example. Only CSV needs
pandas, and only reading CSV imports it: a function without pandas reads the other formats.
"""

from __future__ import annotations

import codecs
from functools import partial
from importlib.util import find_spec

from spoter.error_codes import ErrorCode
from spoter.errors import InputError
from spoter.formats import json_format, jsonlines_format, npy_format, video_format
from spoter.formats.request import (
    CSV,
    JSON,
    JSONLINES,
    NPY,
    SYNONYMS,
    VIDEOS,
    Options,
    Request,
    parse_attributes,
    short,
)
from spoter.formats.response import Answer, Ranked, choose_accept, encode
from spoter.landmarks.layouts import Layout
from spoter.limits import Limits

__all__ = [
    "Answer",
    "Limits",
    "Options",
    "Ranked",
    "Request",
    "choose_accept",
    "decode",
    "encode",
    "parse_attributes",
]


def _decode_csv(body: bytes, layout: Layout, limits: Limits, options: Options) -> Request:
    try:
        from spoter.formats import csv_format
    except ModuleNotFoundError as error:
        if error.name != "pandas":
            raise
        others = ", ".join(content_types())
        raise InputError(
            ErrorCode.UNSUPPORTED_CONTENT_TYPE,
            f"found {CSV!r}, which needs pandas, and it is not installed here, expected one of {others}",
            "header Content-Type",
        ) from None
    return csv_format.decode(body, layout, limits, options)


_DECODERS = {
    JSON: json_format.decode,
    CSV: _decode_csv,
    NPY: npy_format.decode,
    JSONLINES: jsonlines_format.decode,
    **{kind: partial(video_format.take_up, content_type=kind) for kind in VIDEOS},
}


def content_types() -> list[str]:
    """Return the types of content that are read here: CSV only where pandas is, videos only where MediaPipe is."""
    absent = (CSV,) if find_spec("pandas") is None else ()
    absent += () if video_format.readable() else VIDEOS
    return [kind for kind in _DECODERS if kind not in absent]


def decode(
    body: bytes | bytearray | memoryview | str | dict | list | float | None,
    content_type: str | None,
    layout: Layout,
    limits: Limits,
    options: Options = Options(),  # noqa: B008  frozen
) -> Request:
    """Read a request.

    Parameters
    ----------
    body : bytes-like, str, dict, list, int, float, bool or None
        The body as it came, or a JSON body that somebody parsed already.
    content_type : str or None
        The header, parameters and all. Without one a body that begins with ``{`` or ``[`` is JSON.
    layout : Layout
        The model's: what it does not use need not be there, and its values are not checked.
    limits : Limits
    options : Options
        What the headers say; the body's own words go before them.

    Returns
    -------
    Request
        A video in it is only taken up; `video_format.read_videos` reads it.

    Raises
    ------
    InputError
        Where the request as a whole is wrong; docs/errors.md lists the codes. A wrong clip among several does not
        raise: its error stands in its place in `Request.clips`.
    """
    if isinstance(body, str):
        body = body.encode(errors="surrogatepass")  # what is no Unicode is reported as such by the format
    elif isinstance(body, bytearray | memoryview):
        body = bytes(body)
    elif not isinstance(body, bytes):  # what somebody made of JSON: an object, but also null or a number
        body, content_type = json_format.to_bytes(body), JSON
    if len(body) > limits.max_bytes:
        raise InputError(ErrorCode.BODY_TOO_LARGE, f"found {len(body)} bytes, expected at most {limits.max_bytes}")
    body = body.removeprefix(codecs.BOM_UTF8)
    if not body or body.isspace():
        raise InputError(ErrorCode.EMPTY_BODY, "found an empty body, expected a clip")
    kind = _content_type(content_type, body)
    return _DECODERS[kind](body, layout, limits, options)


def _content_type(header: str | None, body: bytes) -> str:
    kind = (header or "").partition(";")[0].strip().lower()
    kind = SYNONYMS.get(kind, kind)
    if kind in _DECODERS:
        return kind
    if not kind and body.lstrip()[:1] in (b"{", b"["):
        return JSON
    hint = ""
    if kind == "application/x-www-form-urlencoded":
        hint = " (curl -d sends this type unless told otherwise: add -H 'Content-Type: application/json')"
    raise InputError(
        ErrorCode.UNSUPPORTED_CONTENT_TYPE,
        f"found {short(kind) if kind else 'no content type'}{hint}, expected one of {', '.join(content_types())}",
        "header Content-Type",
    )
