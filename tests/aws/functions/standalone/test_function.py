"""The function without SageMaker: what is in its package, and that it answers as the server does."""

from __future__ import annotations

import base64
import json
import zipfile

import pytest
import typer

import spoter.aws.functions.build_standalone
from benchmarks.serving.lambda_cold_start import measure_cold_starts
from spoter.aws.functions.build_standalone import (
    IN_FUNCTION,
    NAME,
    PYTHON,
    TASK_ROOT,
    WANTED_UNZIPPED,
    build,
    find_python,
    main,
)
from spoter.errors import SpoterError
from spoter.formats.request import JSON, JSONLINES, NPY
from spoter.messages import RawRequest
from spoter.serving.recognizer import Recognizer
from spoter.serving.service import respond
from tests.generate import figure_clip
from tests.wire import csv, dumps, holistic, nested, npy, wide

# A score is rounded to four decimals, here and there: two that are 1e-4 apart can be rounded 2e-4 apart.
CLOSE = 1e-4 + 1e-9


@pytest.fixture(scope="module")
def server(model) -> Recognizer:
    return Recognizer.load(model)


def http(body: bytes, content_type: str | None = "application/json", encoded: bool = False, **headers) -> dict:
    """An event of API Gateway's HTTP API, payload format 2.0."""
    text = base64.b64encode(body).decode() if encoded else body.decode()
    headers = {name.replace("_", "-"): value for name, value in headers.items()} | {"content-type": content_type}
    return {
        "version": "2.0",
        "requestContext": {"http": {"method": "POST"}},
        "headers": headers,
        "body": text,
        "isBase64Encoded": encoded,
    }


def assert_close(one: object, other: object) -> None:
    """Two JSON documents are the same, numbers but for 1e-4."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key, value in one.items():
            assert_close(value, other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for pair in zip(one, other, strict=True):
            assert_close(*pair)
    elif isinstance(one, float):
        assert other == pytest.approx(one, abs=CLOSE)
    else:
        assert one == other


def test_the_package_is_small_and_holds_what_answers_and_nothing_else(package, model):
    with zipfile.ZipFile(package.path) as archive:
        assert archive.testzip() is None
        files = {name: archive.read(name) for name in archive.namelist()}
    assert package.path.name == NAME and list(files) == sorted(files)
    assert sum(map(len, files.values())) == package.unzipped < WANTED_UNZIPPED == 120_000_000
    assert package.path.stat().st_size < 50 * 2**20
    ours = {
        "spoter/aws/functions/standalone.py",
        "spoter/aws/functions/events.py",
        "spoter/serving/service.py",
        "spoter/landmarks/tables/points_54.csv",
        "NOTICE",
    }
    assert ours <= files.keys()
    assert {name for name in files if name.startswith("model/")} == {
        f"model/{name}"
        for name in ("model.onnx", "config.json", "meaning.json", "MODEL_CARD.md", "prototypes.npz", "enrolled.json")
    }
    assert files["model/enrolled.json"] == (model / "enrolled.json").read_bytes()
    parts = tuple(f"spoter/{part}" for part in IN_FUNCTION)
    sources = [name for name in files if name.startswith("spoter/") and not name.endswith(".pyc")]
    assert [name for name in sources if not name.startswith(parts)] == []
    assert not [name for name in files if name.startswith(("torch", "pandas", "bin/"))]
    assert not [name for name in files if "/tests/" in name or name.endswith((".pyi", "RECORD"))]
    for owner in ("numpy", "onnxruntime", "msgspec"):  # whose licences ask to go along
        assert [name for name in files if name.startswith(owner) and "LICENSE" in name], owner


def test_its_byte_code_is_the_functions(package):
    if find_python(None) is None:
        pytest.skip(f"there is no Python {PYTHON} here: nothing is compiled")
    tag = f"cpython-{PYTHON.replace('.', '')}.pyc"
    with zipfile.ZipFile(package.path) as archive:
        names = archive.namelist()
        sources, compiled = ([name for name in names if name.endswith(end)] for end in (".py", tag))
        code = archive.read(f"spoter/aws/functions/__pycache__/standalone.{tag}")
    assert len(sources) == len(compiled) > 100
    assert code[4] == 1  # PEP 552: by hash, and not compared with the source
    assert f"{TASK_ROOT}/spoter/aws/functions/standalone.py".encode() in code


def test_the_same_input_gives_the_same_bytes(package, model, architecture, tmp_path):
    again = build(model, tmp_path, architecture, find_python(None))
    assert again.path.read_bytes() == package.path.read_bytes()


def test_every_sample_is_answered_as_by_the_server(run, server, samples):
    """But for CSV, which is refused with the reason: pandas alone is larger than the rest."""
    types = {".json": "application/json", ".jsonl": "application/jsonlines", ".npy": "application/x-npy"}
    paths = sorted(path for path in samples.iterdir() if path.suffix in {*types, ".csv"})
    bodies = [(path.read_bytes(), types.get(path.suffix, "text/csv")) for path in paths]
    said = {"accept": "application/json", "x_amzn_sagemaker_custom_attributes": "top_k=12"}
    ran = run([http(body, kind, encoded=True, **said) for body, kind in bodies])
    ours, _ = respond(server, [RawRequest(body, kind, "application/json", "top_k=12") for body, kind in bodies])
    answered = 0
    for (_, kind), response, answer in zip(bodies, ours, ran["answers"], strict=True):
        document = json.loads(answer["body"])
        if kind == "text/csv":
            error = document["error"]
            assert (answer["statusCode"], error["code"]) == (415, "unsupported_content_type")
            assert "needs pandas" in error["message"] and "application/x-npy" in error["message"]
            continue
        assert (answer["statusCode"], answer["headers"]["Content-Type"]) == (response.status, response.content_type)
        assert_close(json.loads(response.body), document)
        answered += 1
    assert answered >= 4
    glosses = {ranked["gloss"] for ranked in json.loads(ours[0].body)["instances"]}
    assert "NEW" in glosses and len(glosses) == 12


def test_requests_of_every_kind_get_the_servers_status_and_body(run, server, monkeypatch):
    """Good and bad, one clip and several, short and long: also errors are the server's own words."""
    # Without pandas and MediaPipe, as in the function.
    monkeypatch.setattr("spoter.formats.content_types", lambda: [JSON, NPY, JSONLINES])
    monkeypatch.setattr("spoter.formats.video_format.videos_supported", lambda: False)
    layout = server.layout
    clip = figure_clip()
    points = layout.select(clip)
    bodies = [
        (dumps(holistic(figure_clip(frames=frames, seed=frames, gaps=frames > 5))), "application/json")
        for frames in (1, 2, 3, 5, 60)
    ]
    bodies += [
        (dumps({"layout": "54", "points": nested(points)}), "application/json; charset=utf-8"),
        (npy(figure_clip(frames=512).points), "application/x-npy"),
        (npy(figure_clip(frames=513).points), "application/x-npy"),
        (dumps({"clips": [{"points": nested(clip.points)}, {"points": 3}]}), "application/json"),
        (b"{", "application/json"),
        (b"", "application/json"),
        (b"\xff\xfe", "application/json"),
        (csv(wide(points, layout.names)), "image/png"),
        (b"\0\0\0\x18ftypmp42", "video/mp4"),
        (dumps({"uniqueName": "0.123.webm"}), "application/json"),
    ]
    ran = run([http(body, kind, encoded=True) for body, kind in bodies])
    statuses = set()
    for (body, kind), answer in zip(bodies, ran["answers"], strict=True):
        [response], _ = respond(server, [RawRequest(body, kind)])
        assert answer["statusCode"] == response.status
        assert_close(json.loads(response.body), json.loads(answer["body"]))
        statuses.add(response.status)
    assert statuses == {200, 400, 415}


def test_direct_events_of_the_existing_client(run, server):
    request = holistic(figure_clip())
    [response], _ = respond(server, [RawRequest(dumps(request), "application/json")])
    frames = request["keypoints"]
    ran = run([request, {"keypoints_list": frames}, {"clips": [request] * 2}, {"default": []}, {"keypoints": []}])
    answer, same, several, alive, error = ran["answers"]
    assert_close(json.loads(response.body)["instances"], answer)
    assert same == answer and [one["instances"] for one in several["answers"]] == [answer] * 2
    assert alive == {"alive": True, "model": server.config.name, "version": server.config.version}
    assert error["errorType"] == "no_frames" and error["statusCode"] == 400


def test_what_the_model_knows_and_a_sign_of_ones_own(run, server):
    request = holistic(figure_clip())
    learning = {"enroll": "OWN", "clips": [request, request]}
    told, learned = run([{"describe": True}, learning])["answers"]
    [response, taught], _ = respond(server, [RawRequest(dumps({"describe": True})), RawRequest(dumps(learning))])
    ours = json.loads(response.body)
    assert told["content_types"] == ["application/json", "application/x-npy", "application/jsonlines"]
    assert told["video"] is False and told["limits"].items() <= ours["limits"].items()
    for document in (told, ours):
        for key in ("content_types", "limits", "video"):  # there is no pandas in the function, nor MediaPipe
            document.pop(key)
    assert told == ours and told["enrolled"] == ["NEW"]
    assert_close(json.loads(taught.body), learned)
    [named] = run([request | {"enrolled": learned["enrolled"]}])["answers"]
    assert (named[0]["gloss"], named[0]["index"]) == ("OWN", 12)


def test_version_one_events_and_answers_in_csv(run, server):
    body = dumps(holistic(figure_clip()))
    event = {
        "version": "1.0", "httpMethod": "POST", "requestContext": {}, "isBase64Encoded": False, "body": body.decode(),
        "headers": {"Content-Type": "application/json", "Accept": "text/csv"}, "queryStringParameters": {"top_k": "2"},
    }  # fmt: skip
    [answer] = run([event])["answers"]
    [response], _ = respond(server, [RawRequest(body, "application/json", "text/csv", "top_k=2")])
    assert answer["headers"]["Content-Type"] == "text/csv" and answer["statusCode"] == 200
    rows, others = (text.splitlines() for text in (answer["body"], response.body.decode()))
    assert [row.split(",")[:3] for row in rows] == [row.split(",")[:3] for row in others] and len(rows) == 3


def test_nothing_but_the_package_and_pythons_own_library_is_imported(run):
    ran = run([{"default": []}])
    assert not {"torch", "pandas", "onnx"}.intersection(ran["modules"])
    assert not [file for file in ran["files"] if not file.startswith((ran["tree"], ran["library"]))]


def test_the_model_is_loaded_by_the_import_in_lambda_and_nowhere_else(run):
    assert run([])["loaded_by_import"] == 0
    assert run([], {"AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand"})["loaded_by_import"] == 1


def test_a_log_line_tells_of_a_request_and_nothing_of_the_person(run):
    marked = holistic(figure_clip())
    marked["keypoints"][3]["pose_landmarks"][0]["x"] = 777.25
    ran = run([marked, holistic(figure_clip())])
    assert "777.25" in ran["answers"][0]["errorMessage"]  # to the client, who sent it
    wrong, right = ran["log"].strip().splitlines()
    assert "777" not in wrong and '"status": 400' in wrong and '"error": "out_of_range"' in wrong
    assert '"status": 200' in right and '"frames": 20' in right


@pytest.mark.parametrize("from_disk", [False, True])
def test_the_cold_start_is_measured(python, tree, samples, from_disk):
    """What the bench does; how long it takes is no matter here."""
    [row] = measure_cold_starts(tree, python, samples / "hallo.json", 1, from_disk)
    loaded, first, both, later, memory = row
    assert min(row) > 0 and both == pytest.approx(loaded + first) and later < both and 30 < memory < 1000


def test_a_function_that_fails_has_no_cold_start(python, tmp_path, samples):
    with pytest.raises(SpoterError, match=r"the function failed: .*No module named 'spoter'"):
        measure_cold_starts(tmp_path, python, samples / "hallo.json", 1, False)


# From here on nothing is fetched.


@pytest.fixture
def no_index(monkeypatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")


def test_without_a_package_index_it_says_so_and_an_older_package_stays(no_index, dgs11, tmp_path, capsys):
    (tmp_path / NAME).write_bytes(b"an older one")
    with pytest.raises(typer.Exit) as error:
        main(model=dgs11, out=tmp_path)
    assert error.value.exit_code == 1
    *_, last = capsys.readouterr().err.strip().splitlines()
    assert last.startswith("build_standalone: pip: ") and "msgspec" in last
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"an older one"]


def test_a_folder_that_cannot_be_served(tmp_path, capsys):
    with pytest.raises(typer.Exit) as error:
        main(model=tmp_path / "nowhere", out=tmp_path / "out")
    assert error.value.exit_code == 2
    said = capsys.readouterr().err.strip()
    assert "nowhere: found no such folder" in said and "\n" not in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("python", ["/nowhere/python", "sh"])
def test_a_python_that_is_none(python):
    with pytest.raises(SpoterError, match=rf"--python {python}: found .*, expected Python 3.12"):
        find_python(python)


def test_more_than_lambda_takes_is_refused(dgs11, tmp_path, monkeypatch):
    monkeypatch.setattr(
        spoter.aws.functions.build_standalone, "install", lambda architecture, tree: None
    )  # the packages play no part here
    monkeypatch.setattr(spoter.aws.functions.build_standalone, "MOST_UNZIPPED", 3_000_000)
    with pytest.raises(SpoterError, match=r"found 3\.\d MB unzipped, expected at most Lambda's 3.0 MB"):
        build(dgs11, tmp_path)
    assert not list(tmp_path.iterdir())
