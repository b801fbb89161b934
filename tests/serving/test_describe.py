"""The description of a model, in responses of every entry point and in TorchServe's description."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import pytest
from spoter_handler import to_raw_request

import spoter
from spoter.formats import content_types, video_format
from spoter.landmarks.estimators import MEDIAPIPE, NECK
from spoter.landmarks.layouts import BUILT_IN, load_layout
from spoter.messages import RawRequest
from spoter.model.folder import PROTOTYPES
from spoter.serving.enroll import enroll
from spoter.serving.recognizer import Recognizer
from spoter.serving.service import respond, to_record
from tests.generate import figure_clip


@pytest.fixture(scope="module")
def recognizer(dgs11) -> Recognizer:
    return Recognizer.load(dgs11)


def ask(recognizer: Recognizer, body: object, **headers):
    [response], timings = respond(recognizer, [RawRequest(body, "application/json", **headers)])
    assert (timings.clips, timings.frames) == (0, 0)
    return response


def describe(recognizer: Recognizer) -> dict:
    response = ask(recognizer, b'{"describe": true}')
    assert (response.status, response.content_type, response.error_code) == (200, "application/json", None)
    return json.loads(response.body)


def test_description_matches_the_model_folder(recognizer, dgs11, monkeypatch):
    monkeypatch.setattr(video_format, "videos_supported", lambda: False)
    config = json.loads((dgs11 / "config.json").read_text())
    meaning = json.loads((dgs11 / "meaning.json").read_text())
    description = describe(recognizer)
    landmarks = description.pop("layout")
    assert description == {
        "name": config["name"],
        "version": config["version"],
        "glosses": [meaning[str(index)] for index in range(len(meaning))],
        "enrolled": [],
        "estimator": "mediapipe",
        "tells_unknown": True,
        "enrolment": True,
        "limits": {name: config[name] for name in ("max_frames", "max_clips", "max_bytes")} | {"max_enrolled": 100},
        "content_types": ["application/json", "text/csv", "application/x-npy", "application/jsonlines"],
        "video": False,
        "spoter": spoter.__version__,
    }
    assert landmarks["name"] == "54" and tuple(landmarks["landmarks"]) == load_layout("54").names


@pytest.mark.parametrize("layout", BUILT_IN)
def test_mediapipe_indices_select_the_landmarks_of_the_layout(recognizer, monkeypatch, layout):
    """A client that selects points by these indices sends the layout's landmarks in order."""
    monkeypatch.setattr(recognizer, "layout", load_layout(layout))
    description = describe(recognizer)["layout"]
    names = (*MEDIAPIPE.names, NECK)
    assert (
        [names[index] for index in description["mediapipe"]]
        == description["landmarks"]
        == list(load_layout(layout).names)
    )


def test_description_with_an_enrolled_gloss_and_with_fewer_abilities(dgs11, tmp_path):
    folder = Path(shutil.copytree(dgs11, tmp_path / "model"))
    enroll(folder, "NEW", [figure_clip()])
    description = describe(Recognizer.load(folder))
    assert description["glosses"][-2:] == ["ZEIGEN", "NEW"] and description["enrolled"] == ["NEW"]
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"known_threshold": None, "max_enrolled": 7}))
    description = describe(Recognizer.load(folder))
    assert (description["tells_unknown"], description["enrolment"], description["limits"]["max_enrolled"]) == (
        False,
        True,
        7,
    )
    for name in ("enrolled.json", PROTOTYPES):
        (folder / name).unlink()
    assert describe(Recognizer.load(folder))["enrolment"] is False


def test_content_types_depend_on_the_installation(recognizer, monkeypatch):
    monkeypatch.setattr(video_format, "videos_supported", lambda: True)
    description = describe(recognizer)
    assert description["video"] and "video/mp4" in description["content_types"]
    assert description["limits"]["max_video_seconds"] == recognizer.limits.max_video_seconds
    find_spec = importlib.util.find_spec
    monkeypatch.setattr("spoter.formats.find_spec", lambda name: None if name == "pandas" else find_spec(name))
    assert "text/csv" not in content_types() and "application/json" in content_types()


@pytest.mark.parametrize(
    ("body", "code", "where"),
    [
        (b'{"describe": false}', "wrong_type", "describe"),
        (b'{"describe": 1}', "wrong_type", "describe"),
        (b'{"describe": null}', "unknown_form", None),
        (b'{"describe": true, "keypoints": []}', "ambiguous_form", None),
        (b'{"describe": true, "top_k": 3}', "ambiguous_form", None),
        (b'{"describe": true, "nonsense": 3}', "ambiguous_form", None),
    ],
)
def test_describe_must_be_true_and_the_only_key(recognizer, body, code, where):
    response = ask(recognizer, body)
    assert (response.status, response.error_code) == (400, code)
    assert json.loads(response.body)["error"]["where"] == where


def test_describe_in_one_of_several_clips_is_refused(recognizer):
    [response], _ = respond(recognizer, [RawRequest(b'{"clips": [{"describe": true}]}', "application/json")])
    assert response.error_code == "misplaced_option"
    [response], _ = respond(recognizer, [RawRequest(b'{"describe": true}\n', "application/jsonlines")])
    assert response.error_code == "misplaced_option"


def test_description_is_available_in_json_only(recognizer):
    assert ask(recognizer, b'{"describe": true}', accept="text/csv").status == 406
    assert ask(recognizer, b'{"describe": true}', accept="*/*").status == 200


def test_description_as_a_record_of_a_batch_job_ends_with_a_newline(recognizer):
    response = ask(recognizer, b'{"describe": true}')
    assert to_record(response).body == response.body + b"\n"


def test_other_requests_in_the_batch_are_answered(recognizer, samples):
    hallo = (samples / "hallo.json").read_bytes()
    bodies = [hallo, b'{"describe": true}', b"{", hallo]
    responses, timings = respond(recognizer, [RawRequest(body, "application/json") for body in bodies])
    assert [response.status for response in responses] == [200, 200, 400, 200]
    assert responses[0] == responses[3] and timings.clips == 2 and timings.bad_inputs == 1


@pytest.mark.parametrize(
    ("item", "headers", "is_describe"),
    [
        ({}, {"describe": "True"}, True),  # TorchServe 0.12.0's request for a description
        ({}, {"describe": "False"}, False),
        ({}, {}, False),
        ({"body": b""}, {"describe": "True"}, False),  # a header of a client
        ({}, {"describe": {"content-type": ""}}, False),  # a part of a form
    ],
)
def test_torchserves_describe_request_differs_from_a_clients_header(item, headers, is_describe):
    assert (to_raw_request(item, headers).body == b'{"describe":true}') is is_describe
