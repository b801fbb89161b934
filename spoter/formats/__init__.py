"""Wire formats: decode request bodies into clips, encode predictions into bytes.

`json_format` (also for JSON Lines), `csv_format`, `npy_format` and `video_format` decode; `response` encodes.
docs/formats.md has an example of each format. Only `csv_format` imports pandas: a Lambda function reads the other
formats without it.
"""

import codecs
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

from spoter.error_codes import ErrorCode
from spoter.errors import InputError
from spoter.formats import json_format, npy_format, video_format
from spoter.formats.request import CSV, JSON, JSONLINES, NPY, SYNONYMS, VIDEOS, Options, Request, quote
from spoter.landmarks.layouts import Layout
from spoter.limits import Limits

__all__ = ["Limits", "Options", "Request", "content_types", "decode"]


def _decode_csv(body: bytes, layout: Layout, limits: Limits, options: Options) -> Request:
    from spoter.formats import csv_format

    return csv_format.decode(body, layout, limits, options)


_DECODERS: dict[str, Callable[[bytes, Layout, Limits, Options], Request]] = {
    JSON: json_format.decode,
    CSV: _decode_csv,
    NPY: npy_format.decode,
    JSONLINES: json_format.decode_lines,
    **{kind: partial(video_format.decode, content_type=kind) for kind in VIDEOS},
}


def content_types() -> list[str]:
    """Return the content types that this process can read: CSV needs pandas, videos need MediaPipe."""
    absent = (*(() if _csv_supported() else (CSV,)), *(() if video_format.videos_supported() else VIDEOS))
    return [kind for kind in _DECODERS if kind not in absent]


def _csv_supported() -> bool:
    return find_spec("pandas") is not None


def decode(
    body: bytes,
    content_type: str | None,
    layout: Layout,
    limits: Limits,
    options: Options = Options(),  # noqa: B008  frozen
) -> Request:
    """Decode a request.

    Parameters
    ----------
    body, limits
    content_type : str or None
        The header, with parameters. Without a header, a body that begins with ``{`` or ``[`` is JSON.
    layout : Layout
        The model's layout. Landmarks that it does not use may be absent, and their values are not checked.
    options : Options
        Options from the headers; options in the body override them.

    Returns
    -------
    Request
        A video in it is still undecoded; `video_format.read_videos` decodes it.

    Raises
    ------
    InputError
        The whole request is wrong; docs/errors.md lists the codes. A wrong clip among several does not raise:
        `Request.clips` holds its error in place of the clip.
    """
    if len(body) > limits.max_bytes:
        raise InputError(ErrorCode.BODY_TOO_LARGE, f"found {len(body)} bytes, expected at most {limits.max_bytes}")
    body = body.removeprefix(codecs.BOM_UTF8)
    if not body or body.isspace():
        raise InputError(ErrorCode.EMPTY_BODY, "found an empty body, expected a clip")
    return _DECODERS[_content_type(content_type, body)](body, layout, limits, options)


def _content_type(header: str | None, body: bytes) -> str:
    kind = (header or "").partition(";")[0].strip().lower()
    kind = SYNONYMS.get(kind, kind)
    hint = ""
    if kind == CSV and not _csv_supported():
        hint = ", which needs pandas, but pandas is not installed"
    elif kind in _DECODERS:
        return kind
    elif not kind and body.lstrip()[:1] in (b"{", b"["):
        return JSON
    elif kind == "application/x-www-form-urlencoded":
        hint = " (curl -d sends this type by default: add -H 'Content-Type: application/json')"
    raise InputError(
        ErrorCode.UNSUPPORTED_CONTENT_TYPE,
        f"found {quote(kind) if kind else 'no content type'}{hint}, expected one of {', '.join(content_types())}",
        "header Content-Type",
    )
