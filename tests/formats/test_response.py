"""Content types, headers, limits, and encoded answers."""

from __future__ import annotations

import io
import json

import numpy as np
import pandas as pd
import pytest

from spoter.error_codes import ErrorCode
from spoter.errors import InputError
from spoter.formats import Limits, Options, Request, decode
from spoter.formats.request import is_in_pixels, parse_attributes, quote
from spoter.formats.response import ModelName, Prediction, Ranked, choose_accept, encode
from spoter.landmarks.layouts import load_layout
from tests.generate import figure_clip
from tests.wire import LIMITS, dumps, holistic

LAYOUT = load_layout("54")
BODY = dumps(holistic(figure_clip("mediapipe", 3)))
KINDS = ("application/json", "application/jsonlines", "text/csv")


def refuse(body, content_type: str | None, limits: Limits = LIMITS) -> InputError:
    with pytest.raises(InputError) as caught:
        decode(body, content_type, LAYOUT, limits)
    return caught.value


@pytest.mark.parametrize(
    "kind", ["application/json", "Application/JSON ; charset=utf-8", "application/json;charset=UTF-8", None, "", " "]
)
def test_json_is_detected_by_content_type_or_content(kind: str | None) -> None:
    for body in (BODY, b" \r\n\t" + BODY, b"\xef\xbb\xbf" + BODY):
        request = decode(body, kind, LAYOUT, LIMITS)
        assert len(request.clips[0]) == 3 and request.content_type == "application/json"


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("image/png", "'image/png', expected one of application/json, text/csv, application/x-npy"),
        ("application/x-www-form-urlencoded", "curl -d"),
        ("text/plain; charset=utf-8", "'text/plain'"),
        ("json", "'json'"),
        ("x" * 500, "…"),
    ],
)
def test_an_unknown_content_type_is_refused(kind: str, words: str) -> None:
    error = refuse(BODY, kind)
    assert (error.code, error.status, error.where) == ("unsupported_content_type", 415, "header Content-Type")
    assert words in error.message and len(error.message) < 300


def test_a_body_that_is_not_json_needs_a_content_type() -> None:
    error = refuse(b"a,b\n1,2\n", None)
    assert (error.code, error.status) == ("unsupported_content_type", 415)


@pytest.mark.parametrize("kind", [*KINDS, "application/x-npy", None])
@pytest.mark.parametrize("body", [b"", b" \r\n", b"\xef\xbb\xbf"])
def test_empty_body(kind: str | None, body: bytes) -> None:
    error = refuse(body, kind)
    assert (error.code, error.status) == ("empty_body", 400)


def test_the_size_of_a_body_is_checked_first() -> None:
    error = refuse(b"x" * 101, "image/png", Limits(max_bytes=100))
    assert (error.code, error.status) == ("body_too_large", 413)
    assert "101 bytes, expected at most 100" in error.message


def test_a_surrogate_is_invalid_json() -> None:
    assert refuse('{"layout":"\ud800"}'.encode(errors="surrogatepass"), None).code == "invalid_json"


@pytest.mark.parametrize(
    ("text", "options"),
    [
        (None, Options()),
        ("", Options()),
        ("top_k=3", Options(top_k=3)),
        (" top_k = 3 , width=640,height=480.5,", Options(top_k=3, width=640, height=480.5)),
        ("estimator=openpose,fps=29.97", Options(estimator="openpose", fps=29.97)),
    ],
)
def test_attributes(text: str | None, options: Options) -> None:
    assert parse_attributes(text) == options


@pytest.mark.parametrize(
    "text",
    ["top_k", "top_k=", "top_k=0", "top_k=-1", "top_k=1.5", "top_k=three", "top_k=null", "top_k=1_0", "topk=3", "=3",
     "top_k=3;width=5", "top_k=3,top_k=4", "width=nan", "width=inf", "width=0", "height=-1", "width=1e400", "fps=0",
     "fps=2000", "estimator=alphapose", "estimator=None", "estimator=null", "trace-id", "top_k=" + "9" * 5000],
)  # fmt: skip
def test_bad_attributes(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_attributes(text)
    assert (caught.value.code, caught.value.status) == ("bad_attributes", 400)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, "application/json"),
        ("  ", "application/json"),
        ("*/*", "application/json"),
        ("application/*", "application/json"),
        ("text/*", "text/csv"),
        ("text/csv", "text/csv"),
        ("TEXT/CSV; charset=utf-8", "text/csv"),
        ("application/x-ndjson", "application/jsonlines"),
        ("application/json;q=0.5, text/csv", "text/csv"),
        ("application/json, text/csv;q=0.9", "application/json"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "application/json"),
        ("application/json;q=0, */*", "application/jsonlines"),
        ("text/csv;q=high", "text/csv"),
    ],
)
def test_accept(accept: str | None, expected: str) -> None:
    assert choose_accept(accept, Request([])) == expected


@pytest.mark.parametrize("accept", [None, "*/*", "application/*"])
def test_json_lines_requests_get_json_lines_by_default(accept: str | None) -> None:
    request = Request([], many=True, content_type="application/jsonlines")
    assert choose_accept(accept, request) == "application/jsonlines"
    assert choose_accept("application/json", request) == "application/json"


@pytest.mark.parametrize("accept", ["image/png", "text/html", "application/json;q=0", ",", "image/*;q=0.5"])
def test_not_acceptable(accept: str) -> None:
    with pytest.raises(InputError) as caught:
        choose_accept(accept, Request([]))
    assert (caught.value.code, caught.value.status) == ("not_acceptable", 406)


MODEL = ModelName("dgs11", "1.0")
ANSWER = Prediction(
    (Ranked('GRÜẞE, "x"', 0.97123449, 3), Ranked("HALLO", float(np.float32(0.02)), 0)), True, 64, MODEL, 0.8
)
DOCUMENT = {
    "instances": [
        {"gloss": 'GRÜẞE, "x"', "score": 0.9712, "index": 3},
        {"gloss": "HALLO", "score": 0.02, "index": 0},
    ],
    "known": True,
    "frames": 64,
    "model": {"name": "dgs11", "version": "1.0"},
}
ERROR = InputError(ErrorCode.NO_FRAMES, "found 0 frames, expected at least 1", "clip 1")
ERROR_DOCUMENT = {"error": {"code": "no_frames", "message": "found 0 frames, expected at least 1", "where": "clip 1"}}


def test_one_answer() -> None:
    request = Request([None])
    assert json.loads(encode(request, [ANSWER], "application/json")) == DOCUMENT
    assert encode(request, [ANSWER], "application/json").startswith('{"instances":[{"gloss":"GRÜẞE'.encode())
    line = encode(request, [ANSWER], "application/jsonlines")
    assert line.endswith(b"\n") and json.loads(line) == DOCUMENT


@pytest.mark.parametrize(("known", "in_json", "in_csv"), [(False, b"false", b"false"), (None, b"null", b"")])
def test_encoding_of_known_false_and_none(known, in_json, in_csv) -> None:
    answer = Prediction(ANSWER.glosses[1:], known, 64, MODEL)
    assert b'"known":' + in_json + b"," in encode(Request([None]), [answer], "application/json")
    assert b",0.02,0," + in_csv + b",\n" in encode(Request([None]), [answer], "text/csv")


def test_several_answers_with_an_error_among_them() -> None:
    request = Request([None, ERROR, None], many=True)
    answers = [ANSWER, ERROR, ANSWER]
    documents = [DOCUMENT, ERROR_DOCUMENT, DOCUMENT]
    assert json.loads(encode(request, answers, "application/json")) == {"answers": documents}
    lines = encode(request, answers, "application/jsonlines").decode().splitlines()
    assert [json.loads(line) for line in lines] == documents
    one = Request([None], many=True)
    assert json.loads(encode(one, [ANSWER], "application/json")) == {"answers": [DOCUMENT]}


def test_answers_as_csv() -> None:
    body = encode(Request([None, ERROR], many=True), [ANSWER, ERROR], "text/csv")
    assert body.startswith(b"clip,rank,gloss,score,index,known,error\n0,1,")
    table = pd.read_csv(io.BytesIO(body))
    assert table["clip"].tolist() == [0, 0, 1]
    assert table["rank"].tolist()[:2] == [1, 2]
    assert table["gloss"].tolist()[:2] == ['GRÜẞE, "x"', "HALLO"]
    assert table["score"].tolist()[:2] == [0.9712, 0.02]
    assert table["index"].tolist()[:2] == [3, 0]
    assert table["known"].tolist()[:2] == [True, True] and pd.isna(table["known"].iloc[2])
    assert table["error"].isna().tolist() == [True, True, False]
    assert table["error"].iloc[2] == "no_frames: clip 1: found 0 frames, expected at least 1"


def test_pixels_are_detected_by_the_majority_of_points() -> None:
    points = np.full((2, 10, 2), 0.5)
    assert not is_in_pixels(points)
    points[0, 0] = 900  # an outlier
    assert not is_in_pixels(points)
    assert is_in_pixels(points * 640)
    assert not is_in_pixels(points * np.nan)


def test_quotes_are_short() -> None:
    assert quote("abc") == "'abc'"
    assert len(quote("x" * 1000)) == 40
