"""application/jsonlines: a clip a line, each in any JSON form of one clip."""

from __future__ import annotations

import io
from itertools import islice

from spoter.clip import Clip
from spoter.errors import InputError
from spoter.formats import json_format
from spoter.formats.request import DEFAULT_TOP_K, JSONLINES, Limits, Options, Request
from spoter.layouts import Layout


def decode(body: bytes, layout: Layout, limits: Limits, options: Options) -> Request:
    """Read JSON Lines; as `spoter.formats.decode`. Blank lines are skipped."""
    lines = ((number, line) for number, line in enumerate(io.BytesIO(body), 1) if not line.isspace())
    lines = list(islice(lines, limits.max_clips + 1))  # and no more of a body of millions of lines
    limits.check_clips(len(lines))
    clips: list[Clip | InputError] = []
    for number, line in lines:
        try:
            clips.append(json_format.decode_clip(line, layout, limits, options))
        except InputError as error:
            clips.append(error.within(f"line {number}"))
    return Request(clips, True, options.top_k or DEFAULT_TOP_K, JSONLINES)
