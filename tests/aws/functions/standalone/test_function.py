"""The function without SageMaker: the content of its package, and answers that equal the server's."""

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
    TARGET_UNZIPPED,
    TASK_ROOT,
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

# Scores are rounded to four decimals, so that a rounded difference can be 1e-4 larger than the real first.
CLOSE = 1e-4 + 1e-9


@pytest.fixture(scope="module")
def server(model) -> Recognizer:
    return Recognizer.load(model)


def http(body: bytes, content_type: str | None = "application/json", encoded: bool = False, **headers) -> dict:
    """Return an event of API Gateway's HTTP API, payload format 2.0."""
    text = base64.b64encode(body).decode() if encoded else body.decode()
    headers = {name.replace("_", "-"): value for name, value in headers.items()} | {"content-type": content_type}
    return {
        "version": "2.0",
        "requestContext": {"http": {"method": "POST"}},
        "headers": headers,
        "body": text,
        "isBase64Encoded": encoded,
    }


def assert_close(first: object, other: object) -> None:
    """Assert that two JSON documents are equal, with numbers within 1e-4."""
    if isinstance(first, dict):
        assert first.keys() == other.keys()
        for key, value in first.items():
            assert_close(value, other[key])
    elif isinstance(first, list):
        assert len(first) == len(other)
        for pair in zip(first, other, strict=True):
            assert_close(*pair)
    elif isinstance(first, float):
        assert other == pytest.approx(first, abs=CLOSE)
    else:
        assert first == other


def test_package_is_small_and_contains_only_what_serving_needs(package, model):
    with zipfile.ZipFile(package.path) as archive:
        assert archive.testzip() is None
        files = {name: archive.read(name) for name in archive.namelist()}
    assert package.path.name == NAME and list(files) == sorted(files)
    assert sum(map(len, files.values())) == package.unzipped < TARGET_UNZIPPED == 120_000_000
    assert package.path.stat().st_size < 50 * 2**20
    required = {
        "spoter/aws/functions/standalone.py",
        "spoter/aws/functions/events.py",
        "spoter/serving/service.py",
        "spoter/landmarks/tables/points_54.csv",
        "NOTICE",
    }
    assert required <= files.keys()
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
    for owner in ("numpy", "onnxruntime", "msgspec"):  # their licenses must be included
        assert [name for name in files if name.startswith(owner) and "LICENSE" in name], owner


def test_byte_code_is_for_the_functions_python_and_paths(package):
    if find_python(None) is None:
        pytest.skip(f"found no Python {PYTHON} to compile byte code")
    tag = f"cpython-{PYTHON.replace('.', '')}.pyc"
    with zipfile.ZipFile(package.path) as archive:
        names = archive.namelist()
        sources, compiled = ([name for name in names if name.endswith(end)] for end in (".py", tag))
        code = archive.read(f"spoter/aws/functions/__pycache__/standalone.{tag}")
    assert len(sources) == len(compiled) > 100
    assert code[4] == 1  # PEP 552: hash-based and unchecked
    assert f"{TASK_ROOT}/spoter/aws/functions/standalone.py".encode() in code


def test_same_input_gives_the_same_bytes(package, model, architecture, tmp_path):
    second = build(model, tmp_path, architecture, find_python(None))
    assert second.path.read_bytes() == package.path.read_bytes()


def test_samples_get_the_servers_answers(run, server, samples):
    """Except CSV, which is refused: pandas would be larger than the rest of the package."""
    types = {".json": "application/json", ".jsonl": "application/jsonlines", ".npy": "application/x-npy"}
    paths = sorted(path for path in samples.iterdir() if path.suffix in {*types, ".csv"})
    bodies = [(path.read_bytes(), types.get(path.suffix, "text/csv")) for path in paths]
    headers = {"accept": "application/json", "x_amzn_sagemaker_custom_attributes": "top_k=12"}
    result = run([http(body, kind, encoded=True, **headers) for body, kind in bodies])
    expected, _ = respond(server, [RawRequest(body, kind, "application/json", "top_k=12") for body, kind in bodies])
    answered = 0
    for (_, kind), response, answer in zip(bodies, expected, result["answers"], strict=True):
        document = json.loads(answer["body"])
        if kind == "text/csv":
            error = document["error"]
            assert (answer["statusCode"], error["code"]) == (415, "unsupported_content_type")
            assert "pandas" in error["message"] and "application/x-npy" in error["message"]
            continue
        assert (answer["statusCode"], answer["headers"]["Content-Type"]) == (response.status, response.content_type)
        assert_close(json.loads(response.body), document)
        answered += 1
    assert answered >= 4
    glosses = {ranked["gloss"] for ranked in json.loads(expected[0].body)["instances"]}
    assert "NEW" in glosses and len(glosses) == 12


def test_all_kinds_of_requests_get_the_servers_status_and_body(run, server, monkeypatch):
    """Valid and invalid requests, one clip and several, short and long; errors are equal too."""
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
    result = run([http(body, kind, encoded=True) for body, kind in bodies])
    statuses = set()
    for (body, kind), answer in zip(bodies, result["answers"], strict=True):
        [response], _ = respond(server, [RawRequest(body, kind)])
        assert answer["statusCode"] == response.status
        assert_close(json.loads(response.body), json.loads(answer["body"]))
        statuses.add(response.status)
    assert statuses == {200, 400, 415}


def test_direct_events_of_the_existing_web_client(run, server):
    request = holistic(figure_clip())
    [response], _ = respond(server, [RawRequest(dumps(request), "application/json")])
    frames = request["keypoints"]
    result = run([request, {"keypoints_list": frames}, {"clips": [request] * 2}, {"default": []}, {"keypoints": []}])
    answer, same, several, alive, error = result["answers"]
    assert_close(json.loads(response.body)["instances"], answer)
    assert same == answer and [each["instances"] for each in several["answers"]] == [answer] * 2
    assert alive == {"alive": True, "model": server.config.name, "version": server.config.version}
    assert error["errorType"] == "no_frames" and error["statusCode"] == 400


def test_describe_and_enroll_requests(run, server):
    request = holistic(figure_clip())
    enrollment = {"enroll": "OWN", "clips": [request, request]}
    description, enrolled = run([{"describe": True}, enrollment])["answers"]
    requests = [RawRequest(dumps({"describe": True})), RawRequest(dumps(enrollment))]
    [described, enrolled_by_server], _ = respond(server, requests)
    expected = json.loads(described.body)
    assert description["content_types"] == ["application/json", "application/x-npy", "application/jsonlines"]
    assert description["video"] is False and description["limits"].items() <= expected["limits"].items()
    for document in (description, expected):
        for key in ("content_types", "limits", "video"):  # different, because the function lacks pandas and MediaPipe
            document.pop(key)
    assert description == expected and description["enrolled"] == ["NEW"]
    assert_close(json.loads(enrolled_by_server.body), enrolled)
    [glosses] = run([request | {"enrolled": enrolled["enrolled"]}])["answers"]
    assert (glosses[0]["gloss"], glosses[0]["index"]) == ("OWN", 12)


def test_events_of_format_1_and_answers_in_csv(run, server):
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


def test_only_the_package_and_the_standard_library_are_imported(run):
    result = run([{"default": []}])
    assert not {"torch", "pandas", "onnx"}.intersection(result["modules"])
    assert not [file for file in result["files"] if not file.startswith((result["tree"], result["library"]))]


def test_import_loads_the_model_in_lambda_only(run):
    assert run([])["loaded_by_import"] == 0
    assert run([], {"AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand"})["loaded_by_import"] == 1


def test_log_line_describes_the_request_without_landmarks(run):
    invalid = holistic(figure_clip())
    invalid["keypoints"][3]["pose_landmarks"][0]["x"] = 777.25
    result = run([invalid, holistic(figure_clip())])
    assert "777.25" in result["answers"][0]["errorMessage"]  # the client, who sent it, gets the value
    first, second = result["log"].strip().splitlines()
    assert "777" not in first and '"status": 400' in first and '"error": "out_of_range"' in first
    assert '"status": 200' in second and '"frames": 20' in second


@pytest.mark.parametrize("from_disk", [False, True])
def test_cold_start_is_measured(python, tree, samples, from_disk):
    """The measurement of the benchmark; its values are not checked."""
    [row] = measure_cold_starts(tree, python, samples / "hallo.json", 1, from_disk)
    loading, first, cold_start, later, memory = row
    assert min(row) > 0 and cold_start == pytest.approx(loading + first)
    assert later < cold_start and 30 < memory < 1000


def test_cold_start_of_a_failing_function_is_an_error(python, tmp_path, samples):
    with pytest.raises(SpoterError, match=r"No module named 'spoter'"):
        measure_cold_starts(tmp_path, python, samples / "hallo.json", 1, False)


# The following tests install nothing.


@pytest.fixture
def no_index(monkeypatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")


def test_missing_package_index_is_reported_and_an_older_package_stays(no_index, dgs11, tmp_path, capsys):
    (tmp_path / NAME).write_bytes(b"older package")
    with pytest.raises(typer.Exit) as error:
        main(model=dgs11, out=tmp_path)
    assert error.value.exit_code == 1
    *_, last = capsys.readouterr().err.strip().splitlines()
    assert last.startswith("build_standalone: pip: ") and "msgspec" in last
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"older package"]


def test_invalid_model_folder(tmp_path, capsys):
    with pytest.raises(typer.Exit) as error:
        main(model=tmp_path / "nowhere", out=tmp_path / "out")
    assert error.value.exit_code == 2
    message = capsys.readouterr().err.strip()
    assert "nowhere" in message and "\n" not in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("python", ["/nowhere/python", "sh"])
def test_invalid_python_is_refused(python):
    with pytest.raises(SpoterError, match=rf"--python {python}: .*3\.12"):
        find_python(python)


def test_package_above_lambdas_limit_is_refused(dgs11, tmp_path, monkeypatch):
    monkeypatch.setattr(
        spoter.aws.functions.build_standalone, "install", lambda architecture, tree: None
    )  # the packages are not needed here
    monkeypatch.setattr(spoter.aws.functions.build_standalone, "MAX_UNZIPPED", 3_000_000)
    with pytest.raises(SpoterError, match=r"3\.\d MB.* 3\.0 MB"):
        build(dgs11, tmp_path)
    assert not list(tmp_path.iterdir())
