"""Any bytes and headers get 200 or a documented 4xx; any model file loads or raises an error of `spoter.errors`."""

from __future__ import annotations

import io
import json
import zipfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from spoter_handler import to_raw_request

from spoter.formats import video_format
from spoter.messages import RawRequest, Response
from spoter.serving.recognizer import Recognizer
from spoter.serving.service import respond
from stress.decoder_targets import TARGETS, ContractViolation, check_errors, check_response
from stress.mutations import TOKENS, make_request, seed_requests
from stress.raw_http import DOCUMENTED

FUZZ = settings(
    max_examples=60, deadline=None, database=None, derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)  # fmt: skip
FILES = ("checkpoint", "safetensors", "onnx", "prototypes", "meaning", "config", "archive", "enrolled")
KINDS = sorted({kind for _, kind in seed_requests("")} | {"application/x-ndjson", "text/plain", ""})


@pytest.fixture(scope="module")
def recognizer(dgs11):
    return Recognizer.load(dgs11)


@pytest.fixture(scope="module", autouse=True)
def no_videos():
    """Disable video decoding, so that the results do not depend on the machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(video_format, "videos_supported", lambda: False)
        yield


def joined(*words: str) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(words)).map("".join)


def answer(recognizer, *requests: RawRequest) -> list[Response]:
    responses, _ = respond(recognizer, requests)
    for response, request in zip(responses, requests, strict=True):
        check_response(response, request.body)
    return responses


def test_seed_requests_are_answered(recognizer):
    responses = answer(recognizer, *(RawRequest(*seed) for seed in seed_requests("")))
    codes = [response.error_code for response in responses if response.status != 200]
    assert codes == ["enrolled_of_another_model", "unsupported_content_type", "unsupported_content_type"]


@FUZZ
@given(
    body=st.binary(max_size=300) | st.text(max_size=100).map(lambda text: text.encode(errors="surrogatepass")),
    kind=st.sampled_from(KINDS) | st.none() | st.text(max_size=30),
    accept=st.none() | st.text(max_size=40) | joined("text/csv", ";q=", "nan", "*/*", ",", "0"),
    attributes=st.none() | st.text(max_size=40) | joined("top_k", "=", ",", "1e9", "fps", "3"),
)  # fmt: skip
def test_any_bytes_and_headers(recognizer, body, kind, accept, attributes):
    answer(recognizer, RawRequest(body, kind, accept, attributes))
    for first, _ in seed_requests("")[:1]:
        answer(recognizer, RawRequest(first, "application/json", accept, attributes))


@pytest.mark.parametrize("number", range(0, 600, 20))
def test_mutated_requests_in_a_batch(recognizer, number):
    """Each of the HTTP fuzzer's requests gets an answer when they share a batch."""
    space = recognizer.prototypes.space
    requests = [make_request(7, number + i, space) for i in range(20)]
    headers = [{name.lower(): value for name, value in request.headers} for request in requests]
    answer(recognizer, *(
        RawRequest(one.body, one.content_type, by_name.get("accept"), by_name.get("x-amzn-sagemaker-custom-attributes"))
        for one, by_name in zip(requests, headers, strict=True)
    ))  # fmt: skip


@FUZZ
@given(data=st.data())
def test_mutated_enrollment(recognizer, data):
    """The enrolled glosses belong to this model, so that the server reads their content."""
    clip = json.loads(seed_requests("")[1][0])
    [response] = answer(recognizer, RawRequest(json.dumps(clip | {"enroll": "NEW"}).encode(), "application/json"))
    enrolled = json.loads(response.body)["enrolled"]
    body = json.dumps(clip | {"enrolled": enrolled, "enroll": "OTHER"}).encode()
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(body)))
        end = min(len(body), start + data.draw(st.integers(0, 12)))
        body = body[:start] + data.draw(st.sampled_from(TOKENS) | st.binary(max_size=4)) + body[end:]
    answer(recognizer, RawRequest(body, "application/json"))


def test_bodies_parsed_by_torchserve(recognizer):
    deep = []
    for _ in range(5_000):
        deep = [deep]
    parsed = (None, 1, 1e308, [], {}, {"points": [[[1e400]]]}, {"a": [None] * 100}, "\ud800", float("nan"), deep)
    for body in parsed:
        [response], _ = respond(recognizer, [to_raw_request({"body": body}, {})])
        assert 400 <= response.status < 500 and DOCUMENTED[response.error_code] == response.status


@pytest.mark.parametrize("name", FILES)
def test_valid_files_load(name):
    for content in TARGETS[name].seeds():
        TARGETS[name].read(content)


@pytest.mark.parametrize("name", FILES)
@FUZZ
@given(data=st.data())
def test_mutated_files(name, data, targets, valid_files):
    content = data.draw(st.sampled_from(valid_files[name]))
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(content)))
        end = min(len(content), start + data.draw(st.integers(0, 40)))
        content = content[:start] + data.draw(st.binary(max_size=8) | st.sampled_from(TOKENS)) + content[end:]
    targets[name](content)


@pytest.fixture(scope="module")
def targets():
    return {name: TARGETS[name].read for name in FILES}


@pytest.fixture(scope="module")
def valid_files():
    return {name: TARGETS[name].seeds() for name in FILES}


def test_checkpoint_with_wrong_sizes_of_entries(targets):
    content = TARGETS["checkpoint"].seeds()[0]
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        sizes = {entry.file_size for entry in archive.infolist()}
    for size in sizes - {0}:
        for wrong_size in (0, 1, 2**31, 2**32 - 1):
            targets["checkpoint"](content.replace(size.to_bytes(4, "little"), wrong_size.to_bytes(4, "little")))


@pytest.mark.parametrize(
    ("document", "number"),
    [
        ({"error": {"message": "m" * 1001, "where": None}}, "1000"),
        ({"answers": [{}, {"error": {"message": "found " + "a" * 200, "where": "clip 1"}}]}, "110"),
    ],
)
def test_errors_that_are_too_long_or_quote_too_much_are_violations(document, number):
    with pytest.raises(ContractViolation, match=number):
        check_errors(document, b'{"layout":"' + b"a" * 300 + b'"}')


@pytest.mark.parametrize(("status", "code"), [(500, "internal"), (400, "no_such_code"), (413, "invalid_json")])
def test_undocumented_responses_are_violations(status, code):
    with pytest.raises(ContractViolation, match=code):
        check_response(Response(status, "application/json", b"{}", code), b"")
