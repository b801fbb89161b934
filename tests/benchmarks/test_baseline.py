"""The re-created original computes the same features and logits as our code, so the comparison is fair."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from benchmarks.baseline import pipeline
from benchmarks.baseline.layers import peruvian
from benchmarks.models import ORIGINAL
from benchmarks.serving import in_process
from benchmarks.timing import Timing
from spoter.formats import Limits, decode
from spoter.landmarks.estimators import MEDIAPIPE
from spoter.landmarks.layouts import load_layout
from spoter.landmarks.normalize import normalize
from spoter.model.network import Spoter
from tests.generate import figure

pytestmark = pytest.mark.slow


def body(key: str = "keypoints_list") -> bytes:
    """Return a full request with a drawn figure; its hands and its face are missing in some frames."""
    points = figure(MEDIAPIPE, frames=12).astype(float)
    frames = []
    for i, row in enumerate(points):
        frame = {}
        for part in MEDIAPIPE.parts:
            missing = (part, i % 4) in (("left_hand", 1), ("right_hand", 2), ("face", 3))
            part_points = [] if missing else row[MEDIAPIPE.part(part)].tolist()
            frame[f"{part}_landmarks"] = [{"x": x, "y": y, "z": 0.1} for x, y in part_points]
        frames.append(frame)
    return json.dumps({key: frames}).encode()


@pytest.fixture
def logger(tmp_path):
    logger = pipeline.open_logger(tmp_path / "log.txt")
    yield logger
    logger.handlers[0].close()


@pytest.mark.parametrize("key", ["keypoints_list", "keypoints"])
def test_features_equal_ours(key, logger):
    layout = load_layout("54")
    (clip,) = decode(body(key), "application/json", layout, Limits()).clips
    ours = normalize(layout.select(clip), layout, "box")
    original = pipeline.input_fn(body(key), logger).numpy()
    assert original.shape == (12, 108) and original.dtype == np.float32
    np.testing.assert_allclose(original, ours, atol=1e-6)


@torch.inference_mode()
def test_logits_equal_ours():
    original = peruvian()
    ours = Spoter(ORIGINAL).eval()
    ours.load_state_dict(original.state_dict())
    clip = torch.rand(20, 108)
    torch.testing.assert_close(ours(clip[None])[0], original(clip), atol=1e-4, rtol=1e-4)


def test_request_is_logged_and_answered_with_the_five_best_glosses(logger, tmp_path):
    model = peruvian()
    answer = pipeline.Original(model, {str(index): f"G{index}" for index in range(50)}, logger)(body())
    with torch.no_grad():
        best = model(pipeline.input_fn(body(), logger)).topk(5).indices.tolist()
    assert json.loads(answer) == {"instances": [{"gloss": f"G{index}"} for index in best]}
    first, second = (tmp_path / "log.txt").read_text().splitlines()
    assert first == second and first.startswith("inference - WARNING - [[[") and first.count("[") == 12 * 545 + 1


def test_frame_without_shoulders_fails_as_in_the_original():
    content = json.loads(body())
    content["keypoints_list"][3]["pose_landmarks"] = []
    with pytest.raises(ValueError, match="frame 3"):
        pipeline.normalize(pipeline.select(pipeline.landmarks(content)))


def test_complete_requests_are_compared_with_the_original(dgs11, monkeypatch):
    monkeypatch.setattr(in_process, "full_request", lambda: body("keypoints"))
    steps, complete = in_process.time_original(dgs11, ["torch"], 0)
    assert [row.name for row in complete[:2]] == [in_process.COMPLETE, in_process.UNLOGGED] and len(complete) == 6
    assert steps[0].name == "json.loads" and len(steps) == 8
    assert "normalize" in in_process.original_table(steps) and "log 1.14" in in_process.original_table(steps)


def test_table_has_ratios_to_the_original():
    names = [in_process.COMPLETE, in_process.UNLOGGED, "ours: full, signs, torch", "ours: compact, signs, torch"]
    rows = [Timing(name, median, median, median) for name, median in zip(names, (80, 50, 5, 2), strict=True)]
    lines = in_process.requests_table(rows).splitlines()
    assert lines[-2].endswith("| 16.0 | 10.0 | 12 |") and lines[-1].endswith("| 40.0 | 25.0 | 20 |")


def test_profile_lists_the_slowest_functions(dgs11, monkeypatch):
    monkeypatch.setattr(in_process, "_PROFILED", 2)
    monkeypatch.setattr(in_process, "full_request", lambda: body("keypoints"))
    text = in_process.profile(dgs11, "torch")
    assert text.count("###") == 2 and "msgspec.json.Decoder" in text
    assert sum(line.startswith("|") and "%" in line for line in text.splitlines()) == 20
