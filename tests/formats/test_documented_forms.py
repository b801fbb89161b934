"""docs/errors.md and docs/formats.md say what the code does."""

from __future__ import annotations

import ast
import re

from spoter.formats import Limits, Options, request
from spoter.formats.csv_format import _LONG
from spoter.formats.estimator_frames import _POINT_NAMES
from spoter.formats.json_format import _OF_THE_REQUEST, FORMS
from spoter.formats.response import _COLUMNS
from spoter.landmarks.clip import COORDINATE_LIMIT
from spoter.landmarks.estimators import ESTIMATORS
from tests import ROOT

ROW = re.compile(r"^\| `(\w+)` \| (\d{3}) \| (.+) \| (.+) \|$", re.MULTILINE)


def raised() -> dict[str, set[int]]:
    """Return the codes of all errors that the source makes, with their statuses."""
    codes: dict[str, set[int]] = {}
    for folder in ("spoter", "handler"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if not (isinstance(node, ast.Call) and getattr(node.func, "id", None) == "InputError" and node.args):
                    continue
                code = node.args[0]
                if isinstance(code, ast.Constant):
                    values = [keyword.value for keyword in node.keywords if keyword.arg == "status"] + node.args[3:4]
                    codes.setdefault(code.value, set()).add(values[0].value if values else 400)
                else:  # `InputError.within` copies an error: nothing else may make up a code
                    assert ast.unparse(code) == "self.code", f"{file}:{node.lineno}: {ast.unparse(code)}"
    return codes


def test_every_code_is_documented_with_its_status() -> None:
    text = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    rows = ROW.findall(text)
    documented = {code: {int(status)} for code, status, _, _ in rows}
    assert len(rows) == len(documented) > 30
    assert documented == raised()


def test_every_word_of_the_wire_is_documented() -> None:
    text = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    kinds = (request.JSON, request.CSV, request.NPY, request.JSONLINES, *request.VIDEOS, *request.SYNONYMS)
    words = [*FORMS, *_OF_THE_REQUEST, *_POINT_NAMES, *_LONG, *_COLUMNS, *kinds]
    words += [*Options.__dataclass_fields__, *ESTIMATORS]
    assert [word for word in words if not re.search(rf"\b{re.escape(word)}\b", text)] == []
    limits = Limits()
    sizes = (limits.max_frames, limits.max_clips, limits.max_bytes >> 20, limits.max_enrolled)
    videos = (int(limits.max_video_seconds), limits.max_video_pixels)
    for number in (*sizes, *videos, request.DEFAULT_TOP_K):
        assert re.search(rf"\b{number}\b", text), number
    assert f"beyond {COORDINATE_LIMIT:g} is an error" in text
