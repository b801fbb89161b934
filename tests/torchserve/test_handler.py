"""The entry points of handler/ without a server, where HTTP does not show the result; tests/e2e tests the rest."""

from __future__ import annotations

import json
import logging
import shutil
import sys
from pathlib import Path

import inference
import pytest
import spoter_handler
from spoter_handler import SpoterHandler, to_raw_request
from ts.context import Context, RequestProcessor
from ts.metrics.metric_cache_yaml_impl import MetricsCacheYamlImpl

import spoter.serving.recognizer
import spoter.serving.service
from spoter.landmarks.estimators import ESTIMATORS
from tests import ROOT
from tests.generate import figure

JSON = {"Content-Type": "application/json"}
SECRET = "0.123456789"


def request(frames: int = 8) -> dict:
    return {"estimator": "mediapipe", "points": figure(ESTIMATORS["mediapipe"], frames).round(4).tolist()}


@pytest.fixture
def context(dgs11: Path) -> Context:
    """Return TorchServe's context with the metrics of handler/metrics.yaml."""
    metrics = MetricsCacheYamlImpl(str(ROOT / "handler" / "metrics.yaml"))
    metrics.initialize_cache()
    metrics.model_name = "spoter"
    return Context("spoter", str(dgs11), {}, 4, None, "0.12.0", metrics=metrics)


@pytest.fixture
def handler(context, monkeypatch) -> SpoterHandler:
    monkeypatch.setattr(sys, "path", list(sys.path))  # initialize adds the model's folder to it
    handler = SpoterHandler()
    handler.initialize(context)
    return handler


def ask(handler: SpoterHandler, context: Context, *bodies: object, headers: dict = JSON) -> list[tuple[int, object]]:
    """Pass a batch as ts.service does; return the status and the parsed body of each answer."""
    context.request_ids = {i: f"id{i}" for i in range(len(bodies))}
    context.metrics.request_ids = context.request_ids
    context.request_processor = [RequestProcessor(dict(headers)) for _ in bodies]
    answers = handler.handle([{"body": body} for body in bodies], context)
    assert all(isinstance(answer, bytes) for answer in answers)
    assert all(context.get_response_content_type(i) == "application/json" for i in range(len(bodies)))
    return [(context.get_response_status(i)[0], json.loads(answer)) for i, answer in enumerate(answers)]


def test_a_body_parsed_by_torchserve_gets_the_same_answer(handler, context):
    """With decode_input_request=true TorchServe passes dict and str."""
    body = json.dumps(request())
    answers = ask(handler, context, body.encode(), bytearray(body.encode()), body, request())
    assert [status for status, _ in answers] == [200] * 4
    assert [answer["instances"][0]["gloss"] for _, answer in answers] == [answers[0][1]["instances"][0]["gloss"]] * 4


@pytest.mark.parametrize("parsed", [None, True, 5, -1, 1.5, 10**20, 3_000_000_000, [], float("nan")])
def test_a_body_parsed_to_another_type_is_refused(handler, context, parsed):
    ((status, answer),) = ask(handler, context, parsed)
    assert status == 400
    assert answer["error"]["code"] == ("invalid_json" if parsed != parsed else "unknown_form")


def test_an_internal_error_affects_one_request_and_reveals_no_landmark(handler, context, monkeypatch, caplog):
    """The other requests of the batch are answered. The log has the cause, the client does not get it."""
    recognize = handler.recognizer.recognize

    def fails_for_nine_frames(clips, *rest):
        if any(len(clip) == 9 for clip in clips):
            raise RuntimeError(f"an internal error that quotes {SECRET}")
        return recognize(clips, *rest)

    monkeypatch.setattr(handler.recognizer, "recognize", fails_for_nine_frames)
    with caplog.at_level(logging.INFO):
        answers = ask(handler, context, *(json.dumps(request(n)).encode() for n in (8, 9, 10)), b"{nonsense")
    assert [status for status, _ in answers] == [200, 500, 200, 400]
    error = answers[1][1]["error"]
    assert answers[1][1].keys() == {"error"} and (error["code"], error["where"]) == ("internal", None)
    assert "RuntimeError" not in error["message"] and SECRET not in error["message"]
    assert [answers[i][1]["frames"] for i in (0, 2)] == [8, 10]
    assert "RuntimeError" in caplog.text and "fails_for_nine_frames" in caplog.text and SECRET not in caplog.text
    assert caplog.text.count("Frames.Count:18|") == 1  # the frames of the good requests are counted once


def test_metrics_are_reported_as_declared(handler, context, caplog):
    with caplog.at_level(logging.INFO):
        ask(handler, context, json.dumps(request(8)).encode(), b"{nonsense")
    for line in ("DecodeTime.", "NormalizeTime.", "ForwardTime.", "Frames.Count:8|", "BadInputs.Count:1|"):
        assert caplog.text.count(f"[METRICS]{line}") == 1
    assert "[METRICS]Videos" not in caplog.text  # each line costs time, so zero counts are not reported
    assert "#type:HISTOGRAM" in caplog.text and "#ModelName:spoter,Level:Model" in caplog.text
    declared = set(context.metrics.cache_keys())
    assert "VideoTime" not in caplog.text  # there was no video
    assert {"histogram:DecodeTime", "histogram:NormalizeTime", "histogram:ForwardTime"} <= declared
    assert {"histogram:VideoTime", "counter:Videos"} <= declared
    assert {"counter:Frames", "counter:BadInputs"} <= declared


def test_torchserves_log_line_per_batch_is_dropped(handler, caplog):
    """TorchServe's front end must read every line that a worker logs. All other lines stay."""
    with caplog.at_level(logging.INFO):
        for line in ("Backend received inference at: %d", "Frontend disconnected.", 7):
            logging.getLogger().info(line, *([3] if "%" in str(line) else []))
    assert [record.getMessage() for record in caplog.records] == ["Frontend disconnected.", "7"]


@pytest.mark.parametrize("status", [200, 400, 502, 503])
def test_only_status_503_has_a_retry_after_header(handler, context, monkeypatch, status):
    response = spoter.messages.Response(status, "application/json", b"{}")
    monkeypatch.setattr(spoter_handler, "respond_each", lambda *_: ([response], spoter.serving.recognizer.Timings()))
    ask(handler, context, b"{}")
    assert context.get_response_headers(0).get("Retry-After") == ("5" if status == 503 else None)


@pytest.mark.parametrize(("config", "threads"), [({}, 1), ({"handler": None}, 1), ({"handler": {"threads": 3}}, 3)])
def test_threads_are_read_from_the_settings(config, threads):
    assert spoter_handler.compute_threads(config) == threads


@pytest.mark.parametrize("threads", [0, -1, 1.5, True, "2", None])
def test_invalid_threads_are_refused(threads):
    with pytest.raises(ValueError, match=f"threads {threads}"):
        spoter_handler.compute_threads({"handler": {"threads": threads}})


def test_requests_are_answered_without_declared_metrics(handler, context):
    """SageMaker has a different metrics.yaml."""
    context.metrics = MetricsCacheYamlImpl(str(Path(sys.modules["ts"].__file__).parent / "configs" / "metrics.yaml"))
    context.metrics.initialize_cache()
    context.metrics.model_name = "spoter"
    assert ask(handler, context, json.dumps(request()).encode())[0][0] == 200


@pytest.mark.parametrize(
    ("runtime", "gpu", "cuda", "device"),
    [
        ("torch", None, False, "cpu"),
        ("torch", None, True, "cpu"),
        ("torch", 1, True, "cuda:1"),
        ("torch", 0, False, "cpu"),
        ("onnx", None, True, "cpu"),
        ("onnx", 1, True, "cpu"),
    ],
)
def test_a_torch_worker_computes_on_its_gpu(dgs11, tmp_path, monkeypatch, caplog, runtime, gpu, cuda, device):
    """A worker with ONNX Runtime computes on the CPU and logs a warning."""
    import torch

    from spoter.serving.recognizer import Recognizer

    devices = []
    load = Recognizer.load
    monkeypatch.setattr(
        Recognizer, "load", lambda folder, device, runtime: devices.append(device) or load(folder, runtime=runtime)
    )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(sys, "path", list(sys.path))
    model = Path(shutil.copytree(dgs11, tmp_path / "model"))
    config = json.loads((model / "config.json").read_bytes()) | {"runtime": runtime}
    (model / "config.json").write_text(json.dumps(config))
    torch.set_num_threads(3)
    SpoterHandler().initialize(Context("spoter", str(model), {}, 4, gpu, "0.12.0"))
    assert devices == [device]
    if runtime == "torch":
        assert torch.get_num_threads() == 1
    unused_gpu = runtime == "onnx" and gpu is not None
    assert ("GPU 1, but runtime onnx" in caplog.text) == unused_gpu


@pytest.mark.parametrize(
    ("item", "headers", "body", "content_type"),
    [
        ({"body": b"x"}, {"content-type": "a/b", "body": {"content-type": "c/d"}}, b"x", "a/b"),
        ({"data": b"x"}, {"data": {"content-type": ""}}, b"x", None),  # gRPC
        ({"data": b"x"}, {"Content-Type": "multipart/form-data; x", "data": {"content-type": "c/d"}}, b"x", "c/d"),
        ({"body": b"x"}, {"CONTENT-TYPE": "multipart/mixed", "body": "a header"}, b"x", None),
        ({"other": b"x"}, {"Content-Type": "multipart/form-data"}, b"form", "multipart/form-data"),
        ({"body": b""}, {"content-type": {"content-type": "a parameter's"}}, b"", None),
        ({"body": bytearray(b"x")}, {"content-type": "a/b"}, b"x", "a/b"),
        ({"body": memoryview(b"x")}, {"content-type": "a/b"}, b"x", "a/b"),
        ({"body": "ü\ud800"}, {"content-type": "a/b"}, b"\xc3\xbc\xed\xa0\x80", "a/b"),
        ({"body": {"points": [None]}}, {"content-type": "text/csv"}, b'{"points": [null]}', "application/json"),
        ({"body": None}, {}, b"null", "application/json"),
        ({}, {}, b"form", None),
    ],
)
def test_torchserves_parameters_become_a_raw_request(item, headers, body, content_type):
    raw = to_raw_request(item, headers)
    assert (raw.body, raw.content_type) == (body, content_type)


def test_importing_the_entry_points_does_no_work():
    """TorchServe needs exactly one class in the module; `initialize` imports spoter when the archive is on the path."""
    classes = [value for value in vars(spoter_handler).values() if isinstance(value, type)]
    assert [value for value in classes if value.__module__ == "spoter_handler"] == [SpoterHandler]
    assert not any(hasattr(module, name) for module in (spoter_handler, inference) for name in ("torch", "spoter"))


def sagemaker(context: Context | None, recognizer, body: bytes, content_type: str, accept: str) -> tuple[bytes, str]:
    """Call the functions as AWS's toolkit does."""
    raw = inference.input_fn(body, content_type, context)
    return inference.output_fn(inference.predict_fn(raw, recognizer), accept, context)


@pytest.fixture
def recognizer(dgs11: Path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    return inference.model_fn(str(dgs11))


def test_sagemakers_functions_answer_like_the_handler(handler, context, recognizer):
    body = json.dumps(request()).encode()
    headers = {"X-Amzn-SageMaker-Custom-Attributes": "top_k=2", "Accept": "text/csv"}
    context.request_processor = [RequestProcessor(headers)]
    answer, content_type = sagemaker(context, recognizer, body, "application/json", "application/json")
    assert content_type.startswith("text/csv") and context.get_response_status(0)[0] == 200
    assert len(answer.decode().splitlines()) == 3  # a header and two glosses
    answer, _ = sagemaker(None, recognizer, body, "application/json", "*/*")
    assert json.loads(answer) == ask(handler, context, body)[0][1]


def test_sagemakers_functions_answer_bad_input_with_its_status(context, recognizer):
    context.request_processor = [RequestProcessor({})]
    answer, content_type = sagemaker(context, recognizer, b"{nonsense", "application/json", "*/*")
    assert context.get_response_status(0)[0] == 400 and content_type == "application/json"
    assert json.loads(answer)["error"]["code"] == "invalid_json"


def test_sagemakers_functions_hide_internal_errors(context, recognizer, monkeypatch):
    monkeypatch.setattr(spoter.serving.service, "decode", lambda *_: 1 / 0)
    context.request_processor = [RequestProcessor({})]
    answer, _ = sagemaker(context, recognizer, b"{}", "application/json", "*/*")
    assert context.get_response_status(0)[0] == 500
    assert json.loads(answer)["error"]["code"] == "internal" and b"ZeroDivision" not in answer


def test_sagemakers_functions_refuse_batches(dgs11, monkeypatch):
    """The toolkit would give all requests of a batch the headers and the status of the first request."""
    monkeypatch.setenv("SAGEMAKER_TS_BATCH_SIZE", "4")
    with pytest.raises(ValueError, match="SAGEMAKER_TS_BATCH_SIZE=4"):
        inference.model_fn(str(dgs11))


@pytest.mark.parametrize(
    ("body", "content_type", "headers", "expected"),
    [
        (b"x", "text/csv", None, (b"x", "text/csv")),  # without the toolkit
        ("x", None, None, (b"x", None)),
        (b"x", "text/csv", {"CONTENT-TYPE": "text/csv", "accept": {"content-type": ""}}, (b"x", "text/csv")),
        (None, "multipart/form-data", {"Content-Type": "multipart/form-data"}, (b"form", "multipart/form-data")),
    ],
)
def test_sagemakers_functions_make_a_raw_request(context, body, content_type, headers, expected):
    if headers is None:
        raw = inference.input_fn(body, content_type)
    else:
        context.request_processor = [RequestProcessor(headers)]
        raw = inference.input_fn(body, content_type, context)
    assert (raw.body, raw.content_type) == expected and raw.accept is None


LINES = {"Content-Type": "application/jsonlines"}
BAD_LINE = b'{"estimator": "mediapipe", "points": 5}\n'


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (BAD_LINE, LINES, 200, "wrong_type"),
        (b"{nonsense", LINES, 200, "invalid_json"),
        (b"\n", LINES, 200, "empty_body"),
        (b"{nonsense", JSON, 200, "invalid_json"),
        (b" " * 27_000_000, LINES, 200, "body_too_large"),
        # an error that every record would have is a failure of the job
        (b"{}", {"Content-Type": "text/plain"}, 415, "unsupported_content_type"),
        (b"{}", LINES | {"Accept": "image/png"}, 406, "not_acceptable"),
        (b"{}\n" * 65, LINES, 400, "too_many_clips"),
    ],
)
def test_a_bad_record_does_not_end_a_transform_job(context, monkeypatch, dgs11, body, headers, status, code):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("SAGEMAKER_BATCH", "true")
    handler = SpoterHandler()
    handler.initialize(context)
    context.request_ids = context.metrics.request_ids = {0: "id0"}
    context.request_processor = [RequestProcessor(dict(headers))]
    (answer,) = handler.handle([{"body": body}], context)
    assert context.get_response_status(0)[0] == status
    assert answer.endswith(b"}\n") and answer.count(b"\n") == 1 and json.loads(answer)["error"]["code"] == code
    raw = inference.input_fn(body, headers["Content-Type"], context)
    response = inference.predict_fn(raw, handler.recognizer)
    assert (response.status, response.body) == (status, answer)


def test_an_internal_error_ends_a_transform_job(recognizer, monkeypatch):
    monkeypatch.setenv("SAGEMAKER_BATCH", "true")
    monkeypatch.setattr(spoter.serving.service, "decode", lambda *_: 1 / 0)
    response = inference.predict_fn(inference.input_fn(b"{}", "application/jsonlines"), recognizer)
    assert response.status == 500


def test_only_a_transform_job_answers_errors_with_status_200(handler, context, monkeypatch):
    assert ask(handler, context, b"{nonsense")[0][0] == 400
    good = json.dumps(request()).encode()
    monkeypatch.setenv("SAGEMAKER_BATCH", "true")
    handler.in_transform_job = True
    assert ask(handler, context, good, good)[1][0] == 200
    assert handler.handle([{"body": good}], context)[0].count(b"\n") == 1
