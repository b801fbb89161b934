"""Signs of one's own over the wire: learned from a request, kept by its sender, brought along by the next."""

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


def told(recognizer: Recognizer, request: object) -> dict:
    """Return what a request is answered, as a page has it that keeps it as JSON."""
    response = ask(recognizer, request)
    assert response.status == 200, response.body
    return json.loads(response.body)


def code(response: Response) -> tuple[int, str | None]:
    return response.status, response.error_code


def test_it_is_what_spoter_enroll_does(dgs11, samples, tmp_path, recognizer):
    """The same enrolled.json, and the same answers, of the folder and of requests that bring the glosses along."""
    folder = Path(shutil.copytree(dgs11, tmp_path / "model"))
    files = [samples / "hallo.json", samples / "zeigen-compact.json"]
    bodies = [json.loads(file.read_bytes()) for file in files]
    kept: dict = {}
    for gloss, some in (("GREETING", slice(0, 1)), ("BOTH", slice(0, 2)), (" GREETING ", slice(1, 2))):
        ours = enroll(folder, gloss, read_clips(files[some], load_layout("54")), replace=True)
        answer = told(recognizer, {"enroll": gloss, "clips": bodies[some], **kept})
        kept = {"enrolled": answer["enrolled"]}
        assert msgspec.json.encode(kept["enrolled"]) + b"\n" == (folder / ENROLLED).read_bytes()
        assert answer["agreement"] == pytest.approx(ours.agreement, abs=1e-4)
        assert (answer["nearest"], answer["similarity"]) == (ours.nearest, pytest.approx(ours.similarity, abs=1e-4))
    assert [gloss["gloss"] for gloss in kept["enrolled"]["glosses"]] == ["GREETING", "BOTH"]
    theirs = Recognizer.load(folder)
    for body in (*bodies, points(), {"clips": [*bodies, points()]}):
        body |= {"top_k": 99}
        response = ask(recognizer, body | kept)
        assert response == ask(theirs, body) and b"GREETING" in response.body
        assert response != ask(recognizer, body)


def test_the_download_is_a_model_folders_file(dgs11, tmp_path, recognizer, hallo):
    answer = told(recognizer, {"enroll": "GREETING", "clips": [hallo]})
    folder = Path(shutil.copytree(dgs11, tmp_path / "model"))
    (folder / ENROLLED).write_text(json.dumps(answer["enrolled"], indent=2))
    assert ask(Recognizer.load(folder), hallo) == ask(recognizer, hallo | {"enrolled": answer["enrolled"]})


def test_nothing_is_kept_and_other_requests_are_answered_as_before(recognizer, hallo):
    before = ask(recognizer, hallo)
    kept = told(recognizer, {"enroll": "GREETING", "clips": [hallo, hallo]})["enrolled"]
    assert told(recognizer, hallo | {"enrolled": kept})["instances"][0]["gloss"] == "GREETING"
    assert ask(recognizer, hallo) == before and ask(recognizer, hallo | {"enrolled": None}) == before
    empty = {"enrolled": {"space": kept["space"], "glosses": []}}
    assert ask(recognizer, hallo | empty) == before


def test_requests_with_glosses_of_their_own_share_a_forward(recognizer, hallo, monkeypatch):
    kept = [told(recognizer, {"enroll": name, "clips": [points(seed)]})["enrolled"] for seed, name in enumerate("AB")]
    requests = [hallo, hallo | {"enrolled": kept[0]}, points(), points(1, enrolled=kept[1]), points(enrolled=kept[0])]
    alone = [told(recognizer, request) for request in requests]
    calls = []
    run = recognizer.runtime.run
    monkeypatch.setattr(recognizer.runtime, "run", lambda *arguments: calls.append(1) or run(*arguments))
    responses, timings = respond(recognizer, [RawRequest(json.dumps(request).encode(), JSON) for request in requests])
    assert len(calls) == 1 and timings.clips == 5
    for response, expected in zip(responses, alone, strict=True):
        instances = json.loads(response.body)["instances"]
        assert [one["gloss"] for one in instances] == [one["gloss"] for one in expected["instances"]]
        scores = [[one["score"] for one in some] for some in (instances, expected["instances"])]
        np.testing.assert_allclose(*scores, atol=2e-4)
    assert alone[3]["instances"][0]["gloss"] == "B" and alone[4]["instances"][0]["gloss"] == "A"


def test_enrolling_beside_predictions_costs_what_it_takes(recognizer, hallo):
    bodies = [{"enroll": "NEW", "clips": [points(1, 10), points(2, 12)]}, hallo, {"enroll": "", "points": []}]
    responses, timings = respond(recognizer, [RawRequest(json.dumps(body).encode(), JSON) for body in bodies])
    assert [response.status for response in responses] == [200, 200, 400]
    assert (timings.clips, timings.frames, timings.bad_inputs) == (3, 22 + len(hallo["keypoints"]), 1)
    assert timings.forward_ms > 0 and timings.normalize_ms > 0


def test_one_clip_may_stand_alone(recognizer, hallo):
    one, several = (told(recognizer, {"enroll": "NEW"} | form) for form in (hallo, {"clips": [hallo]}))
    assert one == several and one["agreement"] == 1


def test_the_folders_own_enrolled_glosses_count_too(dgs11, tmp_path, hallo):
    """They are rivals; of the same name, the request's goes before the folder's and has its label index."""
    folder = Path(shutil.copytree(dgs11, tmp_path / "model"))
    enroll(folder, "OWN", [figure_clip(seed=1)])
    enroll(folder, "LAST", [figure_clip(seed=2)])
    recognizer = Recognizer.load(folder)
    answer = told(recognizer, {"enroll": "OWN", "clips": [hallo]})
    assert answer["nearest"] == "HALLO"  # and not the folder's OWN, which gives way
    kept = told(recognizer, {"enroll": "NEW", "clips": [points(2)], "enrolled": answer["enrolled"]})["enrolled"]
    again = told(recognizer, {"enroll": "NEW", "clips": [points(2)], "enrolled": kept})
    assert again["enrolled"] == kept and again["nearest"] in recognizer.glosses  # not what it takes the place of
    ranked = told(recognizer, hallo | {"enrolled": kept, "top_k": 99})["instances"]
    assert {one["gloss"]: one["index"] for one in ranked if one["index"] >= 11} == {"OWN": 11, "LAST": 12, "NEW": 13}
    assert ranked[0]["gloss"] == "OWN" and told(recognizer, hallo)["instances"][0]["gloss"] == "HALLO"


def test_a_model_without_prototypes(dgs11, tmp_path, hallo, recognizer):
    kept = told(recognizer, {"enroll": "NEW", "clips": [hallo]})["enrolled"]
    folder = Path(shutil.copytree(dgs11, tmp_path / "model"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"known_threshold": None}))
    (folder / PROTOTYPES).unlink()
    bare = Recognizer.load(folder)
    for request in ({"enroll": "NEW", "clips": [hallo]}, hallo | {"enrolled": kept}):
        response = ask(bare, request)
        assert code(response) == (400, "no_prototypes") and b"spoter calibrate" in response.body


def one(**fields) -> dict:
    """A gloss of `enrolled` that is right but for what is given."""
    return {"gloss": "NEW", "clips": 1, "prototype": [1.0] + [0.0] * 539} | fields


@pytest.mark.parametrize(
    ("glosses", "expected", "where"),
    [
        ([one(gloss="HALLO")], "trained_gloss", "enrolled, glosses, item 0"),
        ([one(), one(gloss="OTHER"), one()], "bad_enrolled", "enrolled, glosses, item 2"),
        ([one(gloss=" NEW")], "bad_enrolled", "enrolled, glosses, item 0"),
        ([one(gloss="")], "bad_gloss", "enrolled, glosses, item 0"),
        ([one(gloss="TWO\nLINES")], "bad_gloss", "enrolled, glosses, item 0"),
        ([one(gloss="X" * (MAX_GLOSS_LENGTH + 1))], "bad_gloss", "enrolled, glosses, item 0"),
        ([one(prototype=[1.0])], "bad_enrolled", "enrolled, glosses, item 0"),
        ([one(prototype=[])], "bad_enrolled", "enrolled, glosses, item 0"),
        ([one(prototype=[5.0] + [0.0] * 539)], "bad_enrolled", "enrolled, glosses, item 0"),
        ([one(prototype=[1.01] + [0.0] * 539)], "bad_enrolled", "enrolled, glosses, item 0"),
        ([one(prototype=[0.99] + [0.0] * 539)], "bad_enrolled", "enrolled, glosses, item 0"),
        ([one(prototype=[0.0] * 540)], "bad_enrolled", "enrolled, glosses, item 0"),
        ([one(prototype=[1e308] * 540)], "bad_enrolled", "enrolled, glosses, item 0"),
        ([one(prototype=["1"] * 540)], "wrong_type", "enrolled, glosses, item 0, prototype, item 0"),
        ([one(prototype=None)], "wrong_type", "enrolled, glosses, item 0, prototype"),
        ([one(clips=0)], "wrong_type", "enrolled, glosses, item 0, clips"),
        ([one(clips=10**400)], "wrong_type", "enrolled, glosses, item 0, clips"),
        ([one(more=1)], "wrong_type", "enrolled, glosses, item 0"),
        ([{"gloss": "NEW"}], "wrong_type", "enrolled, glosses, item 0"),
        ({}, "wrong_type", "enrolled, glosses"),
        ([one(gloss=f"{i}") for i in range(101)], "too_many_enrolled", "enrolled"),
    ],
)  # fmt: skip
def test_glosses_that_cannot_be_compared_with(recognizer, glosses, expected, where):
    enrolled = {"space": recognizer.prototypes.space, "glosses": glosses}
    response = ask(recognizer, points(enrolled=enrolled))
    assert code(response) == (400, expected), response.body
    assert json.loads(response.body)["error"]["where"] == where


def test_a_hundred_glosses_are_not_too_many(recognizer):
    """They are exactly as many as may be: one more cannot be learned beside them."""
    enrolled = {"space": recognizer.prototypes.space, "glosses": [one(gloss=f"{i}") for i in range(100)]}
    assert len(told(recognizer, points(enrolled=enrolled, top_k=999))["instances"]) == 111
    assert code(ask(recognizer, points(enroll="NEW", enrolled=enrolled))) == (400, "too_many_enrolled")
    again = told(recognizer, points(enroll="7", enrolled=enrolled))["enrolled"]["glosses"]
    assert [gloss["gloss"] for gloss in again] == [f"{i}" for i in range(100)] and again[7]["prototype"][0] != 1


def test_glosses_of_another_model(recognizer, dgs11):
    """Of one whose space has the same size: what is nearer to what would mean nothing."""
    folder = load_model_folder(dgs11)
    space = folder.prototypes
    other = Prototypes(space.centre + 1, space.whitening, space.trained, space.scale, space.typical)
    trained_anew = Recognizer(replace(folder, prototypes=other), TorchRuntime(folder.model))
    kept = told(trained_anew, points(enroll="NEW"))["enrolled"]
    response = ask(recognizer, points(enrolled=kept))
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
def test_what_cannot_be_enrolled(recognizer, request_, expected, where):
    response = ask(recognizer, request_)
    assert code(response) == (400, expected), response.body
    document = json.loads(response.body)
    assert (document["answers"][0] if "answers" in document else document)["error"]["where"] == where


def test_it_is_answered_in_json_only(recognizer):
    request = points(enroll="NEW")
    assert code(ask(recognizer, request, accept="text/csv")) == (406, "not_acceptable")
    assert ask(recognizer, request, accept="text/csv, */*;q=0.1") == ask(recognizer, request)


def test_a_line_of_json_lines_brings_no_glosses(recognizer):
    line = json.dumps(points(enrolled={"space": "", "glosses": []})).encode()
    [response], _ = respond(recognizer, [RawRequest(line, "application/jsonlines")])
    assert code(response) == (400, "misplaced_option")
    assert json.loads(response.body)["error"]["where"] == "line 1, enrolled"


def test_a_record_of_a_batch_job(recognizer):
    good, bad = (to_record(ask(recognizer, points(enroll=gloss))) for gloss in ("NEW", "HALLO"))
    assert good.status == bad.status == 200 and good.body.count(b"\n") == bad.body.count(b"\n") == 1
    assert json.loads(bad.body)["error"]["code"] == "trained_gloss"
