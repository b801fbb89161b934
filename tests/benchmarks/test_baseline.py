"""The original's request as re-created computes what ours does: it is no straw man in what it answers."""

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
    """Return a full Holistic request of a drawn figure whose hands are missing for a while."""
    points = figure(MEDIAPIPE, frames=12).astype(float)
    frames = []
    for i, row in enumerate(points):
        frame = {}
        for part in MEDIAPIPE.parts:
            gone = (part, i % 4) in (("left_hand", 1), ("right_hand", 2), ("face", 3))
            found = [] if gone else row[MEDIAPIPE.part(part)].tolist()
            frame[f"{part}_landmarks"] = [{"x": x, "y": y, "z": 0.1} for x, y in found]
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
    theirs = pipeline.input_fn(body(key), logger).numpy()
    assert theirs.shape == (12, 108) and theirs.dtype == np.float32
    np.testing.assert_allclose(theirs, ours, atol=1e-6)


@torch.inference_mode()
def test_the_model_is_ours_in_torchs_own_layers():
    theirs = peruvian()
    ours = Spoter(ORIGINAL).eval()
    ours.load_state_dict(theirs.state_dict())
    clip = torch.rand(20, 108)
    torch.testing.assert_close(ours(clip[None])[0], theirs(clip), atol=1e-4, rtol=1e-4)


def test_the_whole_request_is_logged_and_answered_with_the_five_likeliest_glosses(logger, tmp_path):
    model = peruvian()
    answer = pipeline.Original(model, {str(index): f"G{index}" for index in range(50)}, logger)(body())
    with torch.no_grad():
        best = model(pipeline.input_fn(body(), logger)).topk(5).indices.tolist()
    assert json.loads(answer) == {"instances": [{"gloss": f"G{index}"} for index in best]}
    line, again = (tmp_path / "log.txt").read_text().splitlines()
    assert line == again and line.startswith("inference - WARNING - [[[") and line.count("[") == 12 * 545 + 1


def test_a_frame_without_shoulders_fails_as_it_did():
    content = json.loads(body())
    content["keypoints_list"][3]["pose_landmarks"] = []
    with pytest.raises(ValueError, match="frame 3 has no shoulders"):
        pipeline.normalize(pipeline.select(pipeline.landmarks(content)))


def test_whole_requests_are_compared_with_the_originals(dgs11, monkeypatch):
    monkeypatch.setattr(in_process, "full_request", lambda: body("keypoints"))
    steps, whole = in_process.time_original(dgs11, ["torch"], 0)
    assert [row.name for row in whole[:2]] == [in_process.WHOLE, in_process.UNLOGGED] and len(whole) == 6
    assert steps[0].name == "json.loads" and len(steps) == 8
    assert "normalise" in in_process.original_table(steps) and "log 1.14" in in_process.original_table(steps)


def test_ratios_are_to_the_originals_whole_request():
    names = [in_process.WHOLE, in_process.UNLOGGED, "ours: full, signs, torch", "ours: compact, signs, torch"]
    rows = [Timing(name, median, median, median) for name, median in zip(names, (80, 50, 5, 2), strict=True)]
    lines = in_process.requests_table(rows).splitlines()
    assert lines[-2].endswith("| 16.0 | 10.0 | 12 |") and lines[-1].endswith("| 40.0 | 25.0 | 20 |")


def test_the_profile_names_what_costs(dgs11, monkeypatch):
    monkeypatch.setattr(in_process, "_PROFILED", 2)
    monkeypatch.setattr(in_process, "full_request", lambda: body("keypoints"))
    text = in_process.profile(dgs11, "torch")
    assert text.count("###") == 2 and "msgspec.json.Decoder" in text
    assert sum(line.startswith("|") and "%" in line for line in text.splitlines()) == 20
