"""Enrollment by requests: a sign is learned from a request, stored by its client, and sent with later requests."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from spoter.fewshot.enrolled import ENROLLED, MAX_GLOSS_LENGTH
from spoter.fewshot.prototypes import Prototypes
from spoter.landmarks.estimators import ESTIMATORS
from spoter.landmarks.layouts import load_layout
from spoter.messages import RawRequest, Response
from spoter.model.folder import PROTOTYPES, load_model_folder
from spoter.runtime.torch_runtime import TorchRuntime
from spoter.serving.enroll import enroll
from spoter.serving.recognizer import Recognizer
from spoter.serving.service import respond, to_record
from spoter.sources.clip_files import read_clips
from tests.generate import figure, figure_clip

JSON = "application/json"


@pytest.fixture(scope="module")
def recognizer(dgs11) -> Recognizer:
    return Recognizer.load(dgs11)


@pytest.fixture(scope="module")
def hallo(samples) -> dict:
    return json.loads((samples / "hallo.json").read_bytes())


def points(seed: int = 0, frames: int = 24, **more) -> dict:
    array = figure(ESTIMATORS["mediapipe"], frames, seed).round(4)
    return {"estimator": "mediapipe", "points": array.tolist(), **more}


def ask(recognizer: Recognizer, request: object, **headers) -> Response:
    [response], _ = respond(recognizer, [RawRequest(json.dumps(request).encode(), JSON, **headers)])
    return response


def answer_of(recognizer: Recognizer, request: object) -> dict:
    """Return the JSON document of a successful response."""
    response = ask(recognizer, request)
    assert response.status == 200, response.body
    return json.loads(response.body)


def code(response: Response) -> tuple[int, str | None]:
    return response.status, response.error_code


def test_request_learns_the_same_as_spoter_enroll(dgs11, samples, tmp_path, recognizer):
    """The folder, and requests that carry the glosses, have the same enrolled.json and the same answers."""
    folder = Path(shutil.copytree(dgs11, tmp_path / "model"))
    files = [samples / "hallo.json", samples / "zeigen-compact.json"]
    bodies = [json.loads(file.read_bytes()) for file in files]
    options: dict = {}
    for gloss, part in (("GREETING", slice(0, 1)), ("BOTH", slice(0, 2)), (" GREETING ", slice(1, 2))):
        enrolment = enroll(folder, gloss, read_clips(files[part], load_layout("54")), replace=True)
        answer = answer_of(recognizer, {"enroll": gloss, "clips": bodies[part], **options})
        options = {"enrolled": answer["enrolled"]}
        assert msgspec.json.encode(options["enrolled"]) + b"\n" == (folder / ENROLLED).read_bytes()
        assert answer["agreement"] == pytest.approx(enrolment.agreement, abs=1e-4)
        assert answer["nearest"] == enrolment.nearest
        assert answer["similarity"] == pytest.approx(enrolment.similarity, abs=1e-4)
    assert [gloss["gloss"] for gloss in options["enrolled"]["glosses"]] == ["GREETING", "BOTH"]
    with_folder = Recognizer.load(folder)
    for body in (*bodies, points(), {"clips": [*bodies, points()]}):
        body |= {"top_k": 99}
        response = ask(recognizer, body | options)
        assert response == ask(with_folder, body) and b"GREETING" in response.body
        assert response != ask(recognizer, body)


def test_enrolled_glosses_of_an_answer_can_be_saved_in_a_model_folder(dgs11, tmp_path, recognizer, hallo):
    answer = answer_of(recognizer, {"enroll": "GREETING", "clips": [hallo]})
    folder = Path(shutil.copytree(dgs11, tmp_path / "model"))
    (folder / ENROLLED).write_text(json.dumps(answer["enrolled"], indent=2))
    assert ask(Recognizer.load(folder), hallo) == ask(recognizer, hallo | {"enrolled": answer["enrolled"]})


def test_server_stores_nothing_and_other_requests_get_the_same_answers(recognizer, hallo):
    before = ask(recognizer, hallo)
    enrolled = answer_of(recognizer, {"enroll": "GREETING", "clips": [hallo, hallo]})["enrolled"]
    assert answer_of(recognizer, hallo | {"enrolled": enrolled})["instances"][0]["gloss"] == "GREETING"
    assert ask(recognizer, hallo) == before and ask(recognizer, hallo | {"enrolled": None}) == before
    empty = {"enrolled": {"space": enrolled["space"], "glosses": []}}
    assert ask(recognizer, hallo | empty) == before


def test_requests_with_different_enrolled_glosses_share_a_forward_pass(recognizer, hallo, monkeypatch):
    enrolled = [
        answer_of(recognizer, {"enroll": name, "clips": [points(seed)]})["enrolled"] for seed, name in enumerate("AB")
    ]
    requests = [
        hallo,
        hallo | {"enrolled": enrolled[0]},
        points(),
        points(1, enrolled=enrolled[1]),
        points(enrolled=enrolled[0]),
    ]
    single = [answer_of(recognizer, request) for request in requests]
    calls = []
    run = recognizer.runtime.run
    monkeypatch.setattr(recognizer.runtime, "run", lambda *arguments: calls.append(1) or run(*arguments))
    responses, timings = respond(recognizer, [RawRequest(json.dumps(request).encode(), JSON) for request in requests])
    assert len(calls) == 1 and timings.clips == 5
    for response, expected in zip(responses, single, strict=True):
        instances = json.loads(response.body)["instances"]
        assert [item["gloss"] for item in instances] == [item["gloss"] for item in expected["instances"]]
        scores = [[item["score"] for item in items] for items in (instances, expected["instances"])]
        np.testing.assert_allclose(*scores, atol=2e-4)
    assert single[3]["instances"][0]["gloss"] == "B" and single[4]["instances"][0]["gloss"] == "A"


def test_timings_include_enrollment_and_predictions(recognizer, hallo):
    bodies = [{"enroll": "NEW", "clips": [points(1, 10), points(2, 12)]}, hallo, {"enroll": "", "points": []}]
    responses, timings = respond(recognizer, [RawRequest(json.dumps(body).encode(), JSON) for body in bodies])
    assert [response.status for response in responses] == [200, 200, 400]
    assert (timings.clips, timings.frames, timings.bad_inputs) == (3, 22 + len(hallo["keypoints"]), 1)
    assert timings.forward_ms > 0 and timings.normalize_ms > 0


def test_one_clip_may_be_sent_without_clips(recognizer, hallo):
    one, several = (answer_of(recognizer, {"enroll": "NEW"} | form) for form in (hallo, {"clips": [hallo]}))
    assert one == several and one["agreement"] == 1


def test_enrolled_glosses_of_the_folder_and_of_a_request_are_combined(dgs11, tmp_path, hallo):
    """All compete. A request's gloss replaces the folder's with the same name and keeps its label index."""
    folder = Path(shutil.copytree(dgs11, tmp_path / "model"))
    enroll(folder, "OWN", [figure_clip(seed=1)])
    enroll(folder, "LAST", [figure_clip(seed=2)])
    recognizer = Recognizer.load(folder)
    answer = answer_of(recognizer, {"enroll": "OWN", "clips": [hallo]})
    assert answer["nearest"] == "HALLO"  # not the folder's OWN, which is replaced
    enrolled = answer_of(recognizer, {"enroll": "NEW", "clips": [points(2)], "enrolled": answer["enrolled"]})[
        "enrolled"
    ]
    again = answer_of(recognizer, {"enroll": "NEW", "clips": [points(2)], "enrolled": enrolled})
    assert again["enrolled"] == enrolled and again["nearest"] in recognizer.glosses  # not the gloss that it replaces
    ranked = answer_of(recognizer, hallo | {"enrolled": enrolled, "top_k": 99})["instances"]
    assert {item["gloss"]: item["index"] for item in ranked if item["index"] >= 11} == {
        "OWN": 11,
        "LAST": 12,
        "NEW": 13,
    }
    assert ranked[0]["gloss"] == "OWN" and answer_of(recognizer, hallo)["instances"][0]["gloss"] == "HALLO"


def test_model_without_prototypes_cannot_enroll(dgs11, tmp_path, hallo, recognizer):
    enrolled = answer_of(recognizer, {"enroll": "NEW", "clips": [hallo]})["enrolled"]
    folder = Path(shutil.copytree(dgs11, tmp_path / "model"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"known_threshold": None}))
    (folder / PROTOTYPES).unlink()
    without = Recognizer.load(folder)
    for request in ({"enroll": "NEW", "clips": [hallo]}, hallo | {"enrolled": enrolled}):
        response = ask(without, request)
        assert code(response) == (400, "no_prototypes") and b"spoter calibrate" in response.body


def gloss_entry(**fields) -> dict:
    """Return a valid gloss of `enrolled`, except for the given fields."""
    return {"gloss": "NEW", "clips": 1, "prototype": [1.0] + [0.0] * 539} | fields


@pytest.mark.parametrize(
    ("glosses", "expected", "where"),
    [
        ([gloss_entry(gloss="HALLO")], "trained_gloss", "enrolled, glosses, item 0"),
        ([gloss_entry(), gloss_entry(gloss="OTHER"), gloss_entry()], "bad_enrolled", "enrolled, glosses, item 2"),
        ([gloss_entry(gloss=" NEW")], "bad_enrolled", "enrolled, glosses, item 0"),
        ([gloss_entry(gloss="")], "bad_gloss", "enrolled, glosses, item 0"),
        ([gloss_entry(gloss="TWO\nLINES")], "bad_gloss", "enrolled, glosses, item 0"),
        ([gloss_entry(gloss="X" * (MAX_GLOSS_LENGTH + 1))], "bad_gloss", "enrolled, glosses, item 0"),
        ([gloss_entry(prototype=[1.0])], "bad_enrolled", "enrolled, glosses, item 0"),
        ([gloss_entry(prototype=[])], "bad_enrolled", "enrolled, glosses, item 0"),
        ([gloss_entry(prototype=[5.0] + [0.0] * 539)], "bad_enrolled", "enrolled, glosses, item 0"),
        ([gloss_entry(prototype=[1.01] + [0.0] * 539)], "bad_enrolled", "enrolled, glosses, item 0"),
        ([gloss_entry(prototype=[0.99] + [0.0] * 539)], "bad_enrolled", "enrolled, glosses, item 0"),
        ([gloss_entry(prototype=[0.0] * 540)], "bad_enrolled", "enrolled, glosses, item 0"),
        ([gloss_entry(prototype=[1e308] * 540)], "bad_enrolled", "enrolled, glosses, item 0"),
        ([gloss_entry(prototype=["1"] * 540)], "wrong_type", "enrolled, glosses, item 0, prototype, item 0"),
        ([gloss_entry(prototype=None)], "wrong_type", "enrolled, glosses, item 0, prototype"),
        ([gloss_entry(clips=0)], "wrong_type", "enrolled, glosses, item 0, clips"),
        ([gloss_entry(clips=10**400)], "wrong_type", "enrolled, glosses, item 0, clips"),
        ([gloss_entry(more=1)], "wrong_type", "enrolled, glosses, item 0"),
        ([{"gloss": "NEW"}], "wrong_type", "enrolled, glosses, item 0"),
        ({}, "wrong_type", "enrolled, glosses"),
        ([gloss_entry(gloss=f"{i}") for i in range(101)], "too_many_enrolled", "enrolled"),
    ],
)  # fmt: skip
def test_invalid_enrolled_glosses_are_refused(recognizer, glosses, expected, where):
    enrolled = {"space": recognizer.prototypes.space, "glosses": glosses}
    response = ask(recognizer, points(enrolled=enrolled))
    assert code(response) == (400, expected), response.body
    assert json.loads(response.body)["error"]["where"] == where


def test_a_hundred_enrolled_glosses_are_accepted_and_one_more_is_refused(recognizer):
    enrolled = {"space": recognizer.prototypes.space, "glosses": [gloss_entry(gloss=f"{i}") for i in range(100)]}
    assert len(answer_of(recognizer, points(enrolled=enrolled, top_k=999))["instances"]) == 111
    assert code(ask(recognizer, points(enroll="NEW", enrolled=enrolled))) == (400, "too_many_enrolled")
    again = answer_of(recognizer, points(enroll="7", enrolled=enrolled))["enrolled"]["glosses"]
    assert [gloss["gloss"] for gloss in again] == [f"{i}" for i in range(100)] and again[7]["prototype"][0] != 1


def test_enrolled_glosses_of_another_model_are_refused(recognizer, dgs11):
    """Even if both spaces have the same size: distances between them would be meaningless."""
    folder = load_model_folder(dgs11)
    space = folder.prototypes
    other = Prototypes(space.centre + 1, space.whitening, space.trained, space.scale, space.typical)
    retrained = Recognizer(replace(folder, prototypes=other), TorchRuntime(folder.model))
    enrolled = answer_of(retrained, points(enroll="NEW"))["enrolled"]
    response = ask(recognizer, points(enrolled=enrolled))
    assert code(response) == (400, "enrolled_of_another_model")
    assert json.loads(response.body)["error"]["where"] == "enrolled"


@pytest.mark.parametrize(
    ("request_", "expected", "where"),
    [
        ({"enroll": "HALLO"} | points(), "trained_gloss", None),
        ({"enroll": " "} | points(), "bad_gloss", None),
        ({"enroll": 5} | points(), "wrong_type", "enroll"),
        ({"enroll": "NEW"}, "unknown_form", None),
        ({"enroll": "NEW", "clips": []}, "no_clips", None),
        ({"enroll": "NEW", "clips": [{"points": []}] * 65}, "too_many_clips", None),
        ({"enroll": "NEW", "clips": [points(), {"keypoints": []}]}, "no_frames", "clip 1"),
        ({"clips": [points(enroll="NEW")]}, "misplaced_option", "clip 0, enroll"),
        ({"clips": [points(enrolled={"space": "", "glosses": []})]}, "misplaced_option", "clip 0, enrolled"),
    ],
)
def test_invalid_enroll_request_is_refused(recognizer, request_, expected, where):
    response = ask(recognizer, request_)
    assert code(response) == (400, expected), response.body
    document = json.loads(response.body)
    assert (document["answers"][0] if "answers" in document else document)["error"]["where"] == where


def test_enroll_request_is_answered_in_json_only(recognizer):
    request = points(enroll="NEW")
    assert code(ask(recognizer, request, accept="text/csv")) == (406, "not_acceptable")
    assert ask(recognizer, request, accept="text/csv, */*;q=0.1") == ask(recognizer, request)


def test_line_of_json_lines_cannot_carry_enrolled_glosses(recognizer):
    line = json.dumps(points(enrolled={"space": "", "glosses": []})).encode()
    [response], _ = respond(recognizer, [RawRequest(line, "application/jsonlines")])
    assert code(response) == (400, "misplaced_option")
    assert json.loads(response.body)["error"]["where"] == "line 1, enrolled"


def test_enroll_request_as_a_record_of_a_batch_job(recognizer):
    good, bad = (to_record(ask(recognizer, points(enroll=gloss))) for gloss in ("NEW", "HALLO"))
    assert good.status == bad.status == 200 and good.body.count(b"\n") == bad.body.count(b"\n") == 1
    assert json.loads(bad.body)["error"]["code"] == "trained_gloss"
