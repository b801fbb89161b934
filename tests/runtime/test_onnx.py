"""A model as an ONNX graph: the answers of torch, without torch."""

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
    """Write a model folder with weights at random, all of them, whose answers differ from clip to clip."""
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
                parameter *= 3  # attention that chooses among frames, instead of taking their mean
            elif parameter.dim() == 1 or name == "pos":  # biases and norms, which begin as zeros and ones
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


def as_graph(folder: Path) -> Path:
    """Make a copy of a model folder in which the graph stands in place of the weights."""
    copy = Path(shutil.copytree(folder, folder.with_name(f"{folder.name}-onnx")))
    (copy / WEIGHTS).unlink()
    (copy / GRAPH).write_bytes(exported_graph(folder))
    return copy


def assert_same(ours, theirs) -> None:
    """All of an answer: the probability of each gloss, known, and the cosine behind it."""
    for one, other in zip(ours, theirs, strict=True):
        if isinstance(one, InputError):
            assert one.to_dict() == other.to_dict()
            continue
        scores, others = ({ranked.gloss: ranked.score for ranked in answer.glosses} for answer in (one, other))
        assert scores.keys() == others.keys() and len(scores) > 1
        np.testing.assert_allclose([others[gloss] for gloss in scores], list(scores.values()), rtol=0, atol=1e-4)
        assert (one.known, one.frames, one.model) == (other.known, other.frames, other.model)
        assert other.similarity == pytest.approx(one.similarity, abs=1e-4)


@pytest.mark.parametrize("positions", ["shared", "per-frame"])
@pytest.mark.parametrize("layout", ["29", "54", "71"])
def test_the_graph_answers_as_torch_does(tmp_path, layout, positions):
    """Clips of every length and estimator, a bad one among them, and a gloss that was enrolled."""
    folder = make_folder(tmp_path / "model", layout, positions)
    enroll(folder, "NEW", [figure_clip(seed=seed) for seed in (1, 2)])
    torchs, onnxs = Recognizer.load(folder), Recognizer.load(as_graph(folder), runtime="onnx")
    clips = [figure_clip(frames=frames, seed=frames, gaps=frames > 5) for frames in (1, 2, 3, 4, 5, 20, 60, 200, 512)]
    clips += [figure_clip(name) for name in ("openpose", "wholepose")]
    clips += [figure_clip(frames=513), InputError(ErrorCode.WRONG_TYPE, "as decoding left it")]
    answers = torchs.recognize(clips, top_k=99)
    assert_same(answers, onnxs.recognize(clips, top_k=99))
    assert "NEW" in {ranked.gloss for ranked in answers[0].glosses}
    scores = np.array([[ranked.score for ranked in answer.glosses] for answer in answers[:-2]])
    assert np.ptp(scores[:, 0]) > 0.01  # not one and the same answer to all
    np.testing.assert_allclose(onnxs.embed(clips[:4]), torchs.embed(clips[:4]), rtol=0, atol=1e-4)
    assert onnxs.recognize([]) == []


def test_the_embedded_model_and_its_samples(dgs11, samples, tmp_path):
    folder = Path(shutil.copytree(dgs11, tmp_path / "model"))
    torchs, onnxs = (Recognizer.load(folder, runtime=runtime) for runtime in ("torch", None))
    assert isinstance(onnxs.runtime, OnnxRuntime)
    clips = read_clips(sorted(path for path in samples.iterdir() if path.suffix not in (".md", ".py")), torchs.layout)
    assert len(clips) > 5
    answers = torchs.recognize(clips, top_k=99)
    assert_same(answers, onnxs.recognize(clips, top_k=99))
    assert all(answer.known for answer in answers)
    request = [RawRequest((samples / "hallo.json").read_bytes(), "application/json")]
    for response, other in zip(respond(torchs, request)[0], respond(onnxs, request)[0], strict=True):
        assert response == other
    # What is learned here is learned there, and what the one server learned is brought to the other.
    body = json.loads(request[0].body)
    asked = [RawRequest(json.dumps({"enroll": "NEW", "clips": [body]}).encode(), "application/json")]
    learned = [json.loads(respond(one, asked)[0][0].body)["enrolled"] for one in (torchs, onnxs)]
    assert learned[0]["space"] == learned[1]["space"]
    np.testing.assert_allclose(*(some["glosses"][0]["prototype"] for some in learned), atol=1e-4)
    bringing = [RawRequest(json.dumps(body | {"enrolled": learned[0]}).encode(), "application/json")]
    (ours,), (theirs,) = respond(torchs, bringing)[0], respond(onnxs, bringing)[0]
    assert json.loads(ours.body)["instances"][0]["gloss"] == "NEW" and ours == theirs


def test_the_embedded_models_graph_is_what_spoter_export_writes(dgs11):
    """Node by node and constant by constant. Not byte by byte: folding them, processors differ in the last bits."""
    ours, exported = (onnx.load_from_string(graph) for graph in ((dgs11 / GRAPH).read_bytes(), exported_graph(dgs11)))
    assert read_config(dgs11).runtime == "onnx"
    assert [(note.key, note.value) for note in ours.metadata_props] == [(WEIGHTS_SHA256, file_sha256(dgs11 / WEIGHTS))]
    for one, other in zip(ours.graph.initializer, exported.graph.initializer, strict=True):
        assert one.name == other.name
        np.testing.assert_allclose(*map(onnx.numpy_helper.to_array, (one, other)), rtol=1e-4, atol=1e-6)
    for model in (ours, exported):
        model.graph.ClearField("initializer")
    assert ours == exported


def test_the_same_model_gives_the_same_graph_and_no_path_of_this_machine(tmp_path):
    folder = make_folder(tmp_path / "model", "29", "per-frame")
    graph = exported_graph(folder)
    assert exported_graph(folder) == graph
    for found in (b"site-packages", b".py", str(Path.home()).encode(), str(tmp_path).encode()):
        assert len(found) < 3 or found not in graph
    model = onnx.load_from_string(graph)
    onnx.checker.check_model(model)
    assert [(one.domain, one.version) for one in model.opset_import] == [("", OPSET)]


def test_a_graph_of_other_weights_is_refused(tmp_path):
    """What `export` asks of what it has written."""
    one, other = (load_model_folder(make_folder(tmp_path / str(seed), "29", "shared", seed)) for seed in (0, 1))
    with pytest.raises(ModelFolderError, match=r"of a clip of 1 frames .* apart between torch and ONNX Runtime"):
        compare_with_torch(one, export_graph(other, "no digest"))
    graph = export_graph(one, "no digest")
    with torch.no_grad():
        one.model.linear_class.bias[0] += 0.01  # a little suffices
    with pytest.raises(ModelFolderError, match="a probability of a clip"):
        compare_with_torch(one, graph)
    assert TOLERANCE == 1e-4


@pytest.mark.parametrize("positions", ["shared", "per-frame"])
def test_a_model_of_single_frames(tmp_path, positions):
    folder = make_folder(tmp_path / "model", "29", positions, max_frames=1)
    clips = [figure_clip(frames=frames, gaps=False) for frames in (1, 2)]
    torchs, onnxs = Recognizer.load(folder), Recognizer.load(as_graph(folder), runtime="onnx")
    answers = torchs.recognize(clips)
    assert_same(answers, onnxs.recognize(clips))
    assert answers[1].code == "too_many_frames"


def test_a_folder_whose_graph_is_absent_broken_or_of_another_model(tmp_path):
    folder = as_graph(make_folder(tmp_path / "model", "29", "shared"))
    other = exported_graph(make_folder(tmp_path / "other", "54", "shared"))
    graph = (folder / GRAPH).read_bytes()
    for content, message in (
        (None, "model.onnx: found no such file"),
        (b"", "model.onnx: found what ONNX Runtime does not load"),
        (graph[: len(graph) // 2], "model.onnx, byte .*: found a damaged or unknown field"),
        (other, "found a graph with frames 108, .* expected frames 58, .* it is of another model"),
    ):
        (folder / GRAPH).unlink()
        if content is not None:
            (folder / GRAPH).write_bytes(content)
        with pytest.raises(ModelFolderError, match=message) as error:
            load_runtime(folder, "onnx")
        assert "\n" not in str(error.value)
        (folder / GRAPH).write_bytes(graph)
    load_runtime(folder, "onnx")
    with pytest.raises(ModelFolderError, match=r"nowhere: found no such folder"):
        load_runtime(tmp_path / "nowhere", "onnx")


def test_a_graph_of_other_weights_than_those_beside_it(tmp_path):
    folder = make_folder(tmp_path / "model", "29", "shared")
    (folder / GRAPH).write_bytes(exported_graph(folder))
    assert Recognizer.load(folder, runtime="onnx").recognize([figure_clip()])
    weights = (make_folder(tmp_path / "other", "29", "shared", seed=1) / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(weights)
    with pytest.raises(
        ModelFolderError, match=r"model\.onnx: found a graph of other weights \(.*write it again by"
    ) as error:
        Recognizer.load(folder, runtime="onnx")
    assert file_sha256(folder / WEIGHTS)[:12] in str(error.value)


def test_clips_of_a_batch_are_answered_as_alone(tmp_path):
    """Lengths that share a batch, padded, and such that do not; and nothing is pooled that nobody asks for."""
    folder = make_folder(tmp_path / "model", "29", "per-frame")
    runtime = OnnxRuntime(exported_graph(folder), GRAPH, 58, len(GLOSSES))
    rng = np.random.default_rng(0)
    clips = [rng.uniform(-1, 1, (frames, 58)).astype(np.float32) for frames in (60, 7, 57, 60, 1, 50, 200)]
    logits, embeddings = runtime.run(clips, True)
    for clip, row, pooled in zip(clips, logits, embeddings, strict=True):
        alone, its_own = runtime.run([clip], True)
        np.testing.assert_allclose(row, alone[0], atol=1e-5)
        np.testing.assert_allclose(pooled, its_own[0], atol=1e-5)
    plain, nothing = runtime.run(clips, False)
    np.testing.assert_allclose(plain, logits, atol=1e-6)
    assert nothing.shape == (len(clips), 0)


def test_what_load_is_asked_for(tmp_path):
    folder = make_folder(tmp_path / "model", "29", "shared", runtime="onnx")
    with pytest.raises(ModelFolderError, match=r"model\.onnx: found no such file"):
        Recognizer.load(folder)
    (folder / GRAPH).write_bytes(exported_graph(folder))
    assert isinstance(Recognizer.load(folder).runtime, OnnxRuntime)
    assert isinstance(Recognizer.load(folder, runtime="torch").runtime, TorchRuntime)
    with pytest.raises(ModelFolderError, match="found runtime onnx and device cuda:0, expected cpu"):
        Recognizer.load(folder, "cuda:0", "onnx")
    # Who asks for a device gets torch, which has it; "meta" is one that every torch has, and that answers nothing.
    with pytest.raises(NotImplementedError, match="meta tensor"):
        Recognizer.load(folder, "meta")
    with pytest.raises(ModelFolderError, match="found runtime 'tensorrt', expected one of torch, onnx, onnx-int8"):
        Recognizer.load(folder, runtime="tensorrt")
    with pytest.raises(ModelFolderError, match=r"config.json.*runtime"):
        parse_config((folder / CONFIG).read_bytes().replace(b'"onnx"', b'"tensorrt"'), "config.json")


def test_a_graph_that_gives_something_else_is_refused():
    ends = [onnx.helper.make_tensor_value_info(name, 1, [1, 4]) for name in ("frames", "logits")]
    node = onnx.helper.make_node("Identity", ["frames"], ["logits"])
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", ends[:1], ends[1:]), ir_version=10)
    model.opset_import[0].version = OPSET
    with pytest.raises(
        ModelFolderError, match=r"here: found a graph with frames .*, expected .*embeddings 20, lengths of clips"
    ):
        OnnxRuntime(model.SerializeToString(), "here", 4, 4)


def test_a_graph_whose_parts_do_not_fit_is_refused_in_a_line(tmp_path, capfd):
    """ONNX Runtime loads what fails only when it is computed, and prints where a name is no text."""
    folder = make_folder(tmp_path / "model", "29", "shared", runtime="onnx")
    graph = exported_graph(folder)
    model = onnx.load_from_string(graph)
    [shape] = [one for one in model.graph.initializer if one.name == "numbers_2_29"]  # heads, and numbers in each
    shape.raw_data = np.array([2, 30]).tobytes()
    (folder / GRAPH).write_bytes(model.SerializeToString())
    with pytest.raises(ModelFolderError, match=r"model\.onnx: found a graph that fails when it is computed") as error:
        Recognizer.load(folder)
    assert "\n" not in str(error.value) and len(str(error.value)) < 600
    (folder / GRAPH).write_bytes(graph.replace(b"LayerNormalization", b"LayerNormalizati\xff\xff"))
    with pytest.raises(ModelFolderError, match=r"model\.onnx: found what ONNX Runtime does not load"):
        Recognizer.load(folder)
    assert capfd.readouterr().out == ""


def test_a_graph_of_single_numbers_is_refused():
    ends = [onnx.helper.make_tensor_value_info(name, 1, []) for name in ("frames", "logits")]
    node = onnx.helper.make_node("Identity", ["frames"], ["logits"])
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", ends[:1], ends[1:]), ir_version=10)
    model.opset_import[0].version = OPSET
    with pytest.raises(ModelFolderError, match="here: found a graph with frames of no size, logits of no size"):
        OnnxRuntime(model.SerializeToString(), "here", 4, 4)


def test_without_the_packages_it_needs_it_says_which(dgs11, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(SpoterError, match=r"writing graphs needs onnx.*pip install"):
        export_graph(load_model_folder(dgs11), "no digest")


def test_a_model_is_served_without_torch_and_pandas(tmp_path):
    """In a process of its own: neither is imported by whatever answers with a graph."""
    folder = as_graph(make_folder(tmp_path / "model", "29", "per-frame"))
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
