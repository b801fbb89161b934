"""ONNX graphs of models give the same answers as torch."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from spoter.error_codes import ErrorCode
from spoter.errors import InputError, ModelFolderError, SpoterError
from spoter.fewshot.prototypes import Prototypes, embedding_size, to_unit_vectors
from spoter.files import file_sha256
from spoter.landmarks.layouts import load_layout
from spoter.messages import RawRequest
from spoter.model.config import CONFIG, ModelConfig, parse_config, read_config
from spoter.model.folder import GRAPH, WEIGHTS, load_model_folder, write_model_folder
from spoter.model.network import Spoter
from spoter.runtime.loading import load_runtime
from spoter.runtime.onnx_export import TOLERANCE, compare_with_torch, export_graph
from spoter.runtime.onnx_graph import OPSET
from spoter.runtime.onnx_runtime import WEIGHTS_SHA256, OnnxRuntime
from spoter.runtime.torch_runtime import TorchRuntime
from spoter.serving.enroll import enroll
from spoter.serving.recognizer import Recognizer
from spoter.serving.service import respond
from spoter.sources.clip_files import read_clips
from tests.generate import figure_clip

GLOSSES = ("ONE", "TWO", "THREE", "FOUR")


def make_folder(folder: Path, layout: str, positions: str, seed: int = 0, **config) -> Path:
    """Write a model folder with random weights, whose answers differ between clips."""
    torch.manual_seed(seed)
    width = 2 * len(load_layout(layout))
    config = ModelConfig(
        name="random", layout=layout, positions=positions, heads=2, encoder_layers=2, decoder_layers=2,
        encoder_feedforward=64, decoder_feedforward=48, position_rows=512, classes=len(GLOSSES), temperature=0.7,
        known_threshold=0.1, **config,
    )  # fmt: skip
    model = Spoter(config.sizes(width), positions)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "in_proj_weight" in name:
                parameter *= 3  # attention that selects frames instead of averaging them
            elif parameter.dim() == 1 or name == "pos":  # biases and norms, which start as zeros and ones
                parameter += 0.1 * torch.randn_like(parameter)
    rng = np.random.default_rng(seed)
    size = embedding_size(width)
    whitening = rng.normal(size=(size, size)).astype(np.float32) / size
    trained = to_unit_vectors(rng.normal(size=(len(GLOSSES), size)).astype(np.float32))
    space = Prototypes(np.zeros(size, np.float32), whitening, trained, 1.0, 0.5)
    write_model_folder(folder, model.state_dict(), config, GLOSSES, "card", prototypes=space)
    return folder


def exported_graph(folder: Path) -> bytes:
    return export_graph(load_model_folder(folder), file_sha256(folder / WEIGHTS))


def copy_with_graph(folder: Path) -> Path:
    """Copy a model folder, with the graph instead of the weights."""
    copy = Path(shutil.copytree(folder, folder.with_name(f"{folder.name}-onnx")))
    (copy / WEIGHTS).unlink()
    (copy / GRAPH).write_bytes(exported_graph(folder))
    return copy


def assert_same(expected_answers, answers) -> None:
    """Compare all parts of answers: the probability of each gloss, known, and the similarity."""
    for expected, answer in zip(expected_answers, answers, strict=True):
        if isinstance(expected, InputError):
            assert expected.to_dict() == answer.to_dict()
            continue
        expected_scores, scores = ({item.gloss: item.score for item in each.glosses} for each in (expected, answer))
        assert expected_scores.keys() == scores.keys() and len(scores) > 1
        np.testing.assert_allclose(
            [scores[gloss] for gloss in expected_scores], list(expected_scores.values()), rtol=0, atol=1e-4
        )
        assert (expected.known, expected.frames, expected.model) == (answer.known, answer.frames, answer.model)
        assert answer.similarity == pytest.approx(expected.similarity, abs=1e-4)


@pytest.mark.parametrize("positions", ["shared", "per-frame"])
@pytest.mark.parametrize("layout", ["29", "54", "71"])
def test_the_graph_gives_the_answers_of_torch(tmp_path, layout, positions):
    """Clips of many lengths and all estimators, an invalid clip, and an enrolled gloss."""
    folder = make_folder(tmp_path / "model", layout, positions)
    enroll(folder, "NEW", [figure_clip(seed=seed) for seed in (1, 2)])
    in_torch, in_onnx = Recognizer.load(folder), Recognizer.load(copy_with_graph(folder), runtime="onnx")
    clips = [figure_clip(frames=frames, seed=frames, gaps=frames > 5) for frames in (1, 2, 3, 4, 5, 20, 60, 200, 512)]
    clips += [figure_clip(name) for name in ("openpose", "wholepose")]
    clips += [figure_clip(frames=513), InputError(ErrorCode.WRONG_TYPE, "from the decoder")]
    answers = in_torch.recognize(clips, top_k=99)
    assert_same(answers, in_onnx.recognize(clips, top_k=99))
    assert "NEW" in {ranked.gloss for ranked in answers[0].glosses}
    scores = np.array([[ranked.score for ranked in answer.glosses] for answer in answers[:-2]])
    assert np.ptp(scores[:, 0]) > 0.01  # answers differ between clips
    np.testing.assert_allclose(in_onnx.embed(clips[:4]), in_torch.embed(clips[:4]), rtol=0, atol=1e-4)
    assert in_onnx.recognize([]) == []


def test_the_bundled_model_gives_the_same_answers_for_the_samples_in_both_runtimes(dgs11, samples, tmp_path):
    folder = Path(shutil.copytree(dgs11, tmp_path / "model"))
    in_torch, in_onnx = (Recognizer.load(folder, runtime=runtime) for runtime in ("torch", None))
    assert isinstance(in_onnx.runtime, OnnxRuntime)
    clips = read_clips(sorted(path for path in samples.iterdir() if path.suffix not in (".md", ".py")), in_torch.layout)
    assert len(clips) > 5
    answers = in_torch.recognize(clips, top_k=99)
    assert_same(answers, in_onnx.recognize(clips, top_k=99))
    assert all(answer.known for answer in answers)
    request = [RawRequest((samples / "hallo.json").read_bytes(), "application/json")]
    for response, expected in zip(respond(in_onnx, request)[0], respond(in_torch, request)[0], strict=True):
        assert response == expected
    # Both runtimes learn the same gloss, and a gloss learned in one is known in the other.
    body = json.loads(request[0].body)
    enrolling = [RawRequest(json.dumps({"enroll": "NEW", "clips": [body]}).encode(), "application/json")]
    learned = [json.loads(respond(each, enrolling)[0][0].body)["enrolled"] for each in (in_torch, in_onnx)]
    assert learned[0]["space"] == learned[1]["space"]
    np.testing.assert_allclose(*(enrolled["glosses"][0]["prototype"] for enrolled in learned), atol=1e-4)
    recognizing = [RawRequest(json.dumps(body | {"enrolled": learned[0]}).encode(), "application/json")]
    (expected,), (response,) = respond(in_torch, recognizing)[0], respond(in_onnx, recognizing)[0]
    assert json.loads(expected.body)["instances"][0]["gloss"] == "NEW" and response == expected


def test_the_graph_of_the_bundled_model_equals_the_export(dgs11):
    """Compares nodes and constants, not bytes: the last bits of folded constants depend on the processor."""
    bundled, exported = (
        onnx.load_from_string(graph) for graph in ((dgs11 / GRAPH).read_bytes(), exported_graph(dgs11))
    )
    assert read_config(dgs11).runtime == "onnx"
    assert [(note.key, note.value) for note in bundled.metadata_props] == [
        (WEIGHTS_SHA256, file_sha256(dgs11 / WEIGHTS))
    ]
    for actual, expected in zip(bundled.graph.initializer, exported.graph.initializer, strict=True):
        assert actual.name == expected.name
        np.testing.assert_allclose(*map(onnx.numpy_helper.to_array, (actual, expected)), rtol=1e-4, atol=1e-6)
    for model in (bundled, exported):
        model.graph.ClearField("initializer")
    assert bundled == exported


def test_a_graph_is_reproducible_and_contains_no_path_of_this_machine(tmp_path):
    folder = make_folder(tmp_path / "model", "29", "per-frame")
    graph = exported_graph(folder)
    assert exported_graph(folder) == graph
    for path in (b"site-packages", b".py", str(Path.home()).encode(), str(tmp_path).encode()):
        assert len(path) < 3 or path not in graph
    model = onnx.load_from_string(graph)
    onnx.checker.check_model(model)
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", OPSET)]


def test_a_graph_whose_outputs_differ_from_torch_is_refused(tmp_path):
    """The check that `spoter export` runs on each graph."""
    folder, other = (load_model_folder(make_folder(tmp_path / str(seed), "29", "shared", seed)) for seed in (0, 1))
    with pytest.raises(ModelFolderError, match=r"clip of 1 frames .* 0\.0001"):
        compare_with_torch(folder, export_graph(other, "no digest"))
    graph = export_graph(folder, "no digest")
    with torch.no_grad():
        folder.model.linear_class.bias[0] += 0.01  # a small change is detected
    with pytest.raises(ModelFolderError, match="probability"):
        compare_with_torch(folder, graph)
    assert TOLERANCE == 1e-4


@pytest.mark.parametrize("positions", ["shared", "per-frame"])
def test_a_model_with_a_limit_of_one_frame(tmp_path, positions):
    folder = make_folder(tmp_path / "model", "29", positions, max_frames=1)
    clips = [figure_clip(frames=frames, gaps=False) for frames in (1, 2)]
    in_torch, in_onnx = Recognizer.load(folder), Recognizer.load(copy_with_graph(folder), runtime="onnx")
    answers = in_torch.recognize(clips)
    assert_same(answers, in_onnx.recognize(clips))
    assert answers[1].code == "too_many_frames"


def test_a_missing_damaged_or_foreign_graph_is_refused(tmp_path):
    folder = copy_with_graph(make_folder(tmp_path / "model", "29", "shared"))
    other = exported_graph(make_folder(tmp_path / "other", "54", "shared"))
    graph = (folder / GRAPH).read_bytes()
    for content, pattern in (
        (None, "model.onnx: "),
        (b"", "model.onnx: "),
        (graph[: len(graph) // 2], "model.onnx, byte "),
        (other, "model.onnx: .*frames 108, .* frames 58, "),
    ):
        (folder / GRAPH).unlink()
        if content is not None:
            (folder / GRAPH).write_bytes(content)
        with pytest.raises(ModelFolderError, match=pattern) as error:
            load_runtime(folder, "onnx")
        assert "\n" not in str(error.value)
        (folder / GRAPH).write_bytes(graph)
    load_runtime(folder, "onnx")
    with pytest.raises(ModelFolderError, match="nowhere"):
        load_runtime(tmp_path / "nowhere", "onnx")


def test_a_graph_of_other_weights_than_model_pth_is_refused(tmp_path):
    folder = make_folder(tmp_path / "model", "29", "shared")
    (folder / GRAPH).write_bytes(exported_graph(folder))
    assert Recognizer.load(folder, runtime="onnx").recognize([figure_clip()])
    weights = (make_folder(tmp_path / "other", "29", "shared", seed=1) / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(weights)
    with pytest.raises(ModelFolderError, match=r"model\.onnx: .*spoter export") as error:
        Recognizer.load(folder, runtime="onnx")
    assert file_sha256(folder / WEIGHTS)[:12] in str(error.value)


def test_a_clip_in_a_batch_gets_the_same_answer_as_a_single_clip(tmp_path):
    """Some lengths share a padded batch, others do not; embeddings are computed only on request."""
    folder = make_folder(tmp_path / "model", "29", "per-frame")
    runtime = OnnxRuntime(exported_graph(folder), GRAPH, 58, len(GLOSSES))
    rng = np.random.default_rng(0)
    clips = [rng.uniform(-1, 1, (frames, 58)).astype(np.float32) for frames in (60, 7, 57, 60, 1, 50, 200)]
    logits, embeddings = runtime.run(clips, True)
    for clip, row, pooled in zip(clips, logits, embeddings, strict=True):
        single_logits, single_embedding = runtime.run([clip], True)
        np.testing.assert_allclose(row, single_logits[0], atol=1e-5)
        np.testing.assert_allclose(pooled, single_embedding[0], atol=1e-5)
    logits_only, no_embeddings = runtime.run(clips, False)
    np.testing.assert_allclose(logits_only, logits, atol=1e-6)
    assert no_embeddings.shape == (len(clips), 0)


def test_load_uses_the_requested_runtime_and_device(tmp_path):
    folder = make_folder(tmp_path / "model", "29", "shared", runtime="onnx")
    with pytest.raises(ModelFolderError, match=r"model\.onnx"):
        Recognizer.load(folder)
    (folder / GRAPH).write_bytes(exported_graph(folder))
    assert isinstance(Recognizer.load(folder).runtime, OnnxRuntime)
    assert isinstance(Recognizer.load(folder, runtime="torch").runtime, TorchRuntime)
    with pytest.raises(ModelFolderError, match=r"onnx .*cuda:0"):
        Recognizer.load(folder, "cuda:0", "onnx")
    # A device selects torch. Every torch has the device "meta", which cannot compute answers.
    with pytest.raises(NotImplementedError, match="meta tensor"):
        Recognizer.load(folder, "meta")
    with pytest.raises(ModelFolderError, match=r"'tensorrt'.* torch, onnx, onnx-int8"):
        Recognizer.load(folder, runtime="tensorrt")
    with pytest.raises(ModelFolderError, match=r"config.json.*runtime"):
        parse_config((folder / CONFIG).read_bytes().replace(b'"onnx"', b'"tensorrt"'), "config.json")


def test_a_graph_with_other_inputs_or_outputs_is_refused():
    ends = [onnx.helper.make_tensor_value_info(name, 1, [1, 4]) for name in ("frames", "logits")]
    node = onnx.helper.make_node("Identity", ["frames"], ["logits"])
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", ends[:1], ends[1:]), ir_version=10)
    model.opset_import[0].version = OPSET
    with pytest.raises(ModelFolderError, match=r"here: .*frames .*, expected .*embeddings 20"):
        OnnxRuntime(model.SerializeToString(), "here", 4, 4)


def test_a_graph_that_fails_at_run_time_is_refused_with_an_error_of_one_line(tmp_path, capfd):
    """ONNX Runtime loads graphs that fail only at run time, and would print an error for a name that is not text."""
    folder = make_folder(tmp_path / "model", "29", "shared", runtime="onnx")
    graph = exported_graph(folder)
    model = onnx.load_from_string(graph)
    [shape] = [each for each in model.graph.initializer if each.name == "numbers_2_29"]  # heads and their width
    shape.raw_data = np.array([2, 30]).tobytes()
    (folder / GRAPH).write_bytes(model.SerializeToString())
    with pytest.raises(ModelFolderError, match=r"model\.onnx: ") as error:
        Recognizer.load(folder)
    assert "\n" not in str(error.value) and len(str(error.value)) < 600
    (folder / GRAPH).write_bytes(graph.replace(b"LayerNormalization", b"LayerNormalizati\xff\xff"))
    with pytest.raises(ModelFolderError, match=r"model\.onnx: "):
        Recognizer.load(folder)
    assert capfd.readouterr().out == ""


def test_a_graph_with_scalar_inputs_is_refused():
    ends = [onnx.helper.make_tensor_value_info(name, 1, []) for name in ("frames", "logits")]
    node = onnx.helper.make_node("Identity", ["frames"], ["logits"])
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", ends[:1], ends[1:]), ir_version=10)
    model.opset_import[0].version = OPSET
    with pytest.raises(ModelFolderError, match=r"here: .*frames"):
        OnnxRuntime(model.SerializeToString(), "here", 4, 4)


def test_the_error_names_a_missing_package(dgs11, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(SpoterError, match=r"onnx.*pip install"):
        export_graph(load_model_folder(dgs11), "no digest")


def test_a_graph_is_served_without_torch_and_pandas(tmp_path):
    """A separate process shows which packages are imported."""
    folder = copy_with_graph(make_folder(tmp_path / "model", "29", "per-frame"))
    points = np.where(np.isnan(figure_clip().points), None, figure_clip().points.astype(object)).tolist()
    body = json.dumps({"estimator": "mediapipe", "points": points})
    program = (
        "import sys\n"
        "from spoter.serving.recognizer import Recognizer\n"
        "from spoter.serving.service import RawRequest, respond\n"
        "recognizer = Recognizer.load(sys.argv[1], runtime='onnx')\n"
        "[response], costs = respond(recognizer, [RawRequest(sys.stdin.buffer.read(), 'application/json')])\n"
        "heavy = {'torch', 'pandas', 'h5py', 'typer', 'rich', 'onnx', 'sagemaker', 'boto3'}.intersection(sys.modules)\n"
        "assert not heavy, heavy\n"
        "print(response.status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, folder], input=body, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "200"
