"""application/jsonlines: a clip a line, each in any JSON form of one clip."""

from __future__ import annotations

import re
from itertools import islice

from spoter.errors import InputError
from spoter.formats import json_format
from spoter.formats.body_guards import check_numbers
from spoter.formats.request import DEFAULT_TOP_K, JSONLINES, Options, Request
from spoter.landmarks.clip import Clip
from spoter.landmarks.layouts import Layout
from spoter.limits import Limits

_LINE = re.compile(rb"\S[^\n]*")  # and not the blank ones before it, of which there may be millions


def decode(body: bytes, layout: Layout, limits: Limits, options: Options) -> Request:
    """Read JSON Lines; as `spoter.formats.decode`. Blank lines are skipped."""
    check_numbers(body)
    lines = list(islice(_LINE.finditer(body), limits.max_clips + 1))  # and no more of a body of millions of lines
    limits.check_clips(len(lines))
    clips: list[Clip | InputError] = []
    number, counted = 1, 0
    for line in lines:
        number += body.count(b"\n", counted, line.start())
        counted = line.start()
        try:
            clips.append(json_format.decode_clip(line[0], layout, limits, options))
        except InputError as error:
            clips.append(error.within(f"line {number}"))
    return Request(clips, True, options.top_k or DEFAULT_TOP_K, JSONLINES)
