"""The running server agrees with docs/openapi.yaml: examples, error codes, and requests that schemathesis generates."""

from __future__ import annotations

import json
import re

import httpx
import pytest
import schemathesis
import yaml
from hypothesis import HealthCheck, Phase, seed, settings
from schemathesis.checks import CHECKS

from spoter.error_codes import ErrorCode, Source
from spoter.formats import request as wire
from tests import ROOT

PATH = ROOT / "docs" / "openapi.yaml"
SPEC = yaml.safe_load(PATH.read_text(encoding="utf-8"))
BODY = SPEC["components"]["requestBodies"]["Request"]["content"]
ANSWERS = {
    str(status): SPEC["components"]["responses"][reply["$ref"].rpartition("/")[2]]["content"]
    for status, reply in SPEC["paths"]["/predictions/{model}"]["post"]["responses"].items()
}
EXAMPLES = [(kind, name) for kind, media in BODY.items() for name in media.get("examples", {})]
# Its prototype has hundreds of numbers; the schema describes them.
WITHOUT_ANSWER = {"enroll"}
# Keys of the description that depend on whether the machine reads videos.
VIDEO = ("content_types", "video", "max_video_seconds", "max_video_pixels")

schema = schemathesis.openapi.from_path(PATH)
schema.config.phases.coverage.enabled = False  # thousands of requests; the generated ones come from the same schemas
checks = CHECKS.get_by_names(
    ["not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance"]
)


def few(examples: int) -> settings:
    return settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


@schemathesis.serializer(wire.JSONLINES, wire.NPY, *wire.VIDEOS)
def serialize_unchanged(ctx, value):
    """Serialize content types that schemathesis does not know: bytes, or the text of a generated value."""
    return value if isinstance(value, bytes) else str(value).encode()


def body_of(kind: str, name: str) -> bytes:
    example = BODY[kind]["examples"][name]
    if "externalValue" in example:
        return (PATH.parent / example["externalValue"]).read_bytes()
    return (json.dumps(example["value"]) if kind == wire.JSON else example["value"]).encode()


def answers_to(name: str) -> list[tuple[str, str, object]]:
    """Return status, content type and value of each answer that the document shows for an example."""
    return [
        (status, kind, media["examples"][name]["value"])
        for status, content in ANSWERS.items()
        for kind, media in content.items()
        if name in media.get("examples", {})
    ]


def approximate(value: object) -> object:
    """Return a value with approximate scores: their fourth decimal can differ between kinds of machines."""
    if isinstance(value, dict):
        return {key: approximate(item) for key, item in value.items() if key not in VIDEO}
    if isinstance(value, list):
        return [approximate(item) for item in value]
    return pytest.approx(value, abs=2e-3) if isinstance(value, float) else value


@pytest.mark.parametrize(("kind", "name"), EXAMPLES)
def test_every_example_gets_the_answer_in_the_document(server, kind, name):
    shown = answers_to(name)
    assert bool(shown) != (name in WITHOUT_ANSWER), f"{name}: no answer is shown"
    for status, accept, value in shown:
        reply = server.predict(body_of(kind, name), kind, Accept=accept)
        assert (str(reply.status), reply.headers["content-type"]) == (status, accept)
        if accept == wire.JSON:
            assert approximate(reply.json) == approximate(value)
        else:
            numbers = r"0\.\d+"
            assert re.sub(numbers, "", reply.body.decode()) == re.sub(numbers, "", value)
            actual, expected = (list(map(float, re.findall(numbers, text))) for text in (reply.body.decode(), value))
            assert actual == pytest.approx(expected, abs=2e-3)


def test_every_answer_belongs_to_an_example():
    shown = {name for content in ANSWERS.values() for media in content.values() for name in media.get("examples", {})}
    assert shown | WITHOUT_ANSWER == {name for _, name in EXAMPLES}


def test_an_enrolment_matches_the_schema(server):
    url = f"http://127.0.0.1:{server.port}/predictions/spoter"
    reply = httpx.post(url, content=body_of(wire.JSON, "enroll"), headers={"Content-Type": wire.JSON}, trust_env=False)
    schema["/predictions/{model}"]["POST"].validate_response(reply)
    assert reply.json()["enrolled"]["glosses"][0]["gloss"] == "GREETING"


def test_the_error_codes_are_those_of_the_server() -> None:
    documented = {code.value: str(code.status) for code in ErrorCode if code.source is Source.SERVER}
    assert set(SPEC["components"]["schemas"]["ErrorCode"]["enum"]) == set(documented)
    assert set(documented.values()) | {"200"} == set(ANSWERS)
    for code, status in documented.items():
        reply = SPEC["paths"]["/predictions/{model}"]["post"]["responses"][status]["$ref"].rpartition("/")[2]
        assert status == "400" or f"`{code}`" in SPEC["components"]["responses"][reply]["description"], code


def test_the_content_types_are_those_of_the_decoders():
    assert set(BODY) == {wire.JSON, wire.JSONLINES, wire.CSV, wire.NPY, *wire.VIDEOS}
    text = json.dumps(SPEC)
    assert [synonym for synonym in wire.SYNONYMS if synonym not in text] == []


def send(case, port: int) -> None:
    if "model" in (case.path_parameters or {}):
        case.path_parameters["model"] = "spoter"
    case.call_and_validate(base_url=f"http://127.0.0.1:{port}", checks=checks)


@seed(1)
@few(100)
@schema.include(path="/predictions/{model}").parametrize()
def test_generated_requests_are_answered_as_documented(case, server):
    send(case, server.port)


@seed(1)
@few(3)
@schema.include(path=["/invocations", "/ping"]).parametrize()
def test_the_paths_of_sagemaker(case, server):
    send(case, server.port)


@seed(1)
@few(3)
@schema.include(path="/models/{model}").parametrize()
def test_the_management_port(case, server):
    send(case, server.management)


@seed(1)
@few(3)
@schema.include(path="/metrics").parametrize()
def test_the_metrics_port(case, server):
    send(case, server.metrics)


def test_an_unknown_model_gets_404(server):
    case = schema["/predictions/{model}"]["POST"].Case(
        path_parameters={"model": "other"}, body={"describe": True}, media_type=wire.JSON
    )
    assert case.call_and_validate(base_url=f"http://127.0.0.1:{server.port}", checks=checks).status_code == 404
