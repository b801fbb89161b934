"""docs/errors.md, docs/formats.md and docs/http.md agree with the code."""

from __future__ import annotations

import re

from spoter.error_codes import ErrorCode
from spoter.formats import Limits, Options, request
from spoter.formats.csv_format import LONG_COLUMNS
from spoter.formats.estimator_frames import POINT_NAMES
from spoter.formats.json_format import FORMS, REQUEST_KEYS
from spoter.formats.response import CSV_COLUMNS
from spoter.landmarks.clip import COORDINATE_LIMIT
from spoter.landmarks.estimators import ESTIMATORS
from tests import ROOT


def test_every_error_code_is_used() -> None:
    """By its name, or by its value: the process that decodes videos sends values."""
    files = [file for folder in ("spoter", "handler") for file in (ROOT / folder).rglob("*.py")]
    source = "".join(file.read_text() for file in files if file.name != "error_codes.py")
    assert [code for code in ErrorCode if f"ErrorCode.{code.name}" not in source and f'"{code}"' not in source] == []


def test_every_name_of_the_wire_formats_is_documented() -> None:
    text = "".join((ROOT / "docs" / page).read_text(encoding="utf-8") for page in ("formats.md", "http.md"))
    content_types = (request.JSON, request.CSV, request.NPY, request.JSONLINES, *request.VIDEOS, *request.SYNONYMS)
    names = [*FORMS, *REQUEST_KEYS, *POINT_NAMES, *LONG_COLUMNS, *CSV_COLUMNS, *content_types]
    names += [*Options.__dataclass_fields__, *Limits.__dataclass_fields__, *ESTIMATORS]
    assert [name for name in names if not re.search(rf"\b{re.escape(name)}\b", text)] == []
    limits = Limits()
    sizes = (limits.max_frames, limits.max_clips, limits.max_bytes >> 20, limits.max_enrolled)
    video_sizes = (int(limits.max_video_seconds), limits.max_video_pixels)
    for number in (*sizes, *video_sizes, request.DEFAULT_TOP_K):
        assert re.search(rf"\b{number}\b", text), number
    assert f"beyond {COORDINATE_LIMIT:g} is an error" in text
