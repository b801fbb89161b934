"""The client and `spoter predict --server` against the real TorchServe."""

from __future__ import annotations

import asyncio
import json
import sys

import numpy as np
import pytest

from spoter.cli import main
from spoter.client import AsyncClient, Client, InputError, Prediction, RequestError
from spoter.landmarks.layouts import load_layout
from tests import ROOT

TYPES = {
    ".json": "application/json",
    ".csv": "text/csv",
    ".npy": "application/x-npy",
    ".jsonl": "application/jsonlines",
}
FILES = sorted(path for path in (ROOT / "samples").iterdir() if path.suffix in TYPES)
SIGNS = {"deutschland": "DEUTSCHLAND", "hallo": "HALLO", "mainz-long": "MAINZ", "software": "SOFTWARE",
         "zeigen-compact": "ZEIGEN"}  # fmt: skip


@pytest.fixture
def url(server) -> str:
    return f"http://127.0.0.1:{server.port}"


@pytest.fixture
def client(url):
    with Client(url) as client:
        yield client


@pytest.mark.parametrize("name", SIGNS)
def test_a_file_gets_the_answer_of_its_bytes(server, client, name):
    (file,) = [path for path in FILES if path.stem == name]
    answer = client.predict(file)
    document = server.predict(file.read_bytes(), TYPES[file.suffix]).json
    assert answer.gloss == SIGNS[name] and answer.known is document["known"] is True
    assert (answer.frames, answer.model.name) == (document["frames"], "dgs11")
    assert [place.gloss for place in answer.glosses[:1]] == [document["instances"][0]["gloss"]]
    # The client rounds coordinates to a ten-thousandth of the picture.
    assert answer.score == pytest.approx(document["instances"][0]["score"], abs=1e-3)


def test_describe_returns_the_description_of_the_model(client, server):
    about = client.describe()
    assert len(about.glosses) == 11 and about.glosses[4] == "HALLO" and about.enrolled == ()
    assert about.layout.landmarks == load_layout("54").names and about.estimator == "mediapipe"
    assert (about.limits.max_frames, about.limits.max_clips) == (512, 64)
    assert about.tells_unknown and about.enrolment and "application/json" in about.content_types


def test_predict_many_answers_good_and_bad_clips(client, url):
    software = np.load(ROOT / "samples" / "software.npy")
    many = [software, ROOT / "samples" / "hallo.json", {"keypoints": []}, np.zeros((3, 7, 2)), software]
    results = client.predict_many(many, top_k=1)
    assert [one.gloss if isinstance(one, Prediction) else one.code for one in results] == [
        "SOFTWARE", "HALLO", "no_frames", "wrong_point_count", "SOFTWARE",
    ]  # fmt: skip
    assert isinstance(results[2], RequestError) and results[2].where == "clip 2"

    async def run() -> list[Prediction | InputError]:
        async with AsyncClient(url, max_clips=1) as other:
            return await other.predict_many(many, top_k=1)

    again = asyncio.run(run())
    assert [repr(one) for one in again] == [repr(one) for one in results]


def test_a_gloss_is_enrolled_and_recognized(client):
    learned = client.enroll("GREETING", [ROOT / "samples" / "hallo.json"])
    assert learned.nearest == "HALLO" and 0 < learned.similarity < 1 and learned.agreement == 1
    both = client.enroll("POINTING", [ROOT / "samples" / "zeigen-compact.json"], enrolled=learned)
    assert [gloss.gloss for gloss in both.enrolled.glosses] == ["GREETING", "POINTING"]
    answers = client.predict_many(
        [ROOT / "samples" / "hallo.json", ROOT / "samples" / "zeigen-compact.json"], enrolled=both
    )
    assert [(answer.gloss, answer.glosses[0].index) for answer in answers] == [("GREETING", 11), ("POINTING", 12)]
    assert client.predict(ROOT / "samples" / "hallo.json").gloss == "HALLO"
    with pytest.raises(RequestError) as caught:
        client.enroll("HALLO", [ROOT / "samples" / "hallo.json"])
    assert caught.value.code == "trained_gloss"


def test_an_unknown_model_is_an_error(url):
    with Client(url, model="other") as client, pytest.raises(RequestError, match="other"):
        client.predict(ROOT / "samples" / "hallo.json")


def run(monkeypatch, capsys, *arguments: object) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["spoter", "predict", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        main.main()
    return int(caught.value.code or 0), *capsys.readouterr()


def test_the_command_prints_the_bytes_of_the_answer(server, url, monkeypatch, capsys):
    bodies = [server.predict(path.read_bytes(), TYPES[path.suffix]).body.decode() for path in FILES]
    assert run(monkeypatch, capsys, "--server", url, *FILES) == (
        0, "".join(body.rstrip("\n") + "\n" for body in bodies), "",
    )  # fmt: skip


def test_the_command_with_options_and_a_bad_file(url, monkeypatch, capsys, tmp_path):
    bad = tmp_path / "bad.json"
    bad.write_text("{")
    options = ["--server", f"{url}/predictions/spoter", "--top-k", 2]
    code, out, err = run(monkeypatch, capsys, *options, bad, FILES[0])
    first, second = map(json.loads, out.splitlines())
    assert (code, err) == (2, f"error: {bad}: status 400\n")
    assert first["error"]["code"] == "invalid_json" and len(second["instances"]) == 2
    code, out, _ = run(monkeypatch, capsys, *options, "--accept", "text/csv", FILES[0])
    assert code == 0 and out.startswith("clip,rank,gloss") and len(out.splitlines()) == 3


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["{url}", FILES[0]], "--server"),
        (["models/dgs11"], "models/dgs11"),
        (["--server", "{url}/predictions/other", FILES[0]], "Model not found: other"),
        (["--server", "{url}/ping", FILES[0]], "/ping: "),
        (["--server", "localhost", FILES[0]], "expected one such as http://127.0.0.1:8080"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(url, monkeypatch, capsys, arguments, complaint):
    code, out, err = run(monkeypatch, capsys, *(str(word).replace("{url}", url) for word in arguments))
    assert (code, out, err.count("\n")) == (2, "", 1) and complaint in err
