"""application/jsonlines: a clip a line, each in any JSON form of one clip."""

from __future__ import annotations

import re
from itertools import accumulate, islice, pairwise

from spoter.formats import json_format
from spoter.formats.body_guards import check_slow_numbers
from spoter.formats.request import DEFAULT_TOP_K, JSONLINES, Options, Request, decode_each
from spoter.landmarks.layouts import Layout
from spoter.limits import Limits

_LINE = re.compile(rb"\S[^\n]*")  # without the blank lines before it, of which there may be millions


def decode(body: bytes, layout: Layout, limits: Limits, options: Options) -> Request:
    """Decode JSON Lines; as `spoter.formats.decode`. Blank lines are skipped."""
    check_slow_numbers(body)
    lines = list(islice(_LINE.finditer(body), limits.max_clips + 1))  # the body may have millions
    limits.check_clips(len(lines))
    starts = [0, *(line.start() for line in lines)]
    numbers = list(accumulate((body.count(b"\n", *span) for span in pairwise(starts)), initial=1))[1:]
    clips = decode_each(
        lines,
        lambda line: json_format.decode_clip(line[0], layout, limits, options),
        lambda i: f"line {numbers[i]}",
    )
    return Request(clips, True, options.top_k or DEFAULT_TOP_K, JSONLINES)
