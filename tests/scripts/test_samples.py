"""The samples are small, the bundled model recognizes each, and none is a copy of a recorded clip."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from spoter.formats import Limits, decode
from spoter.landmarks.clip import Clip
from spoter.landmarks.layouts import load_layout
from spoter.messages import RawRequest
from spoter.serving.recognizer import Recognizer
from spoter.serving.service import respond
from spoter.training.augment.transforms import resample_time
from spoter.training.data import read_dataset
from spoter.training.data.split_record import SPLIT, read_split

TYPES = {
    ".json": "application/json",
    ".csv": "text/csv",
    ".npy": "application/x-npy",
    ".jsonl": "application/jsonlines",
}
GLOSSES = {
    "hallo.json": ["HALLO"],
    "zeigen-compact.json": ["ZEIGEN"],
    "deutschland.csv": ["DEUTSCHLAND"],
    "mainz-long.csv": ["MAINZ"],
    "software.npy": ["SOFTWARE"],
    "ich-welt.jsonl": ["ICH", "WELT"],
}
LAYOUT = load_layout("54")


@pytest.fixture(scope="module")
def recognizer(dgs11) -> Recognizer:
    return Recognizer.load(dgs11)


def _clips(path: Path) -> list[Clip]:
    return decode(path.read_bytes(), TYPES[path.suffix], LAYOUT, Limits(512, 64, 2**25)).clips


def test_samples_are_complete_and_small(samples):
    sizes = {path.name: path.stat().st_size for path in samples.iterdir() if path.suffix in TYPES}
    assert sizes.keys() == GLOSSES.keys()
    assert sum(sizes.values()) < 1.5e6


@pytest.mark.parametrize("name", GLOSSES)
def test_bundled_model_recognizes_each_sample(samples, recognizer, name):
    path = samples / name
    (response,), _ = respond(recognizer, [RawRequest(path.read_bytes(), TYPES[path.suffix])])
    assert response.status == 200
    answers = [json.loads(line) for line in response.body.splitlines()]
    assert [answer["instances"][0]["gloss"] for answer in answers] == GLOSSES[name]
    assert all(answer["instances"][0]["score"] > 0.8 for answer in answers)


@pytest.mark.slow
def test_no_sample_is_a_copy_of_a_clip(samples, shared_data, dgs11):
    """Two recordings of a sign differ by at least 0.047 shoulder widths; a copy, also moved or scaled, differs by 0."""
    trained = set(read_split(dgs11 / SPLIT).split.groups("train"))
    clips = read_dataset(shared_data / "dgs11-train.hdf5").clips
    assert trained < {clip.group for clip in clips}
    body = [i for i, landmark in enumerate(LAYOUT.landmarks) if landmark.section == "pose"]
    recorded = {
        gloss: [LAYOUT.select(clip.clip)[:, body] for clip in clips if clip.gloss == gloss]
        for glosses in GLOSSES.values()
        for gloss in glosses
    }
    for name, glosses in GLOSSES.items():
        for gloss, clip in zip(glosses, _clips(samples / name), strict=True):
            points = LAYOUT.select(clip)[:, body]
            distances = [_distance(points, other) for other in recorded[gloss]]
            assert min(distances) > 0.025, (name, min(distances))


def _distance(one: np.ndarray, other: np.ndarray) -> float:
    """Return the mean distance between the points of two clips, aligned at the shoulders, in shoulder widths."""
    shoulders = [
        LAYOUT.section("pose").tolist().index(LAYOUT.column(f"pose_{side}_shoulder")) for side in ("left", "right")
    ]

    def align(points: np.ndarray) -> np.ndarray:
        points = resample_time(points, 60)
        left, right = (np.nanmedian(points[:, column], axis=0) for column in shoulders)
        return (points - (left + right) / 2) / np.linalg.norm(left - right)

    return float(np.nanmean(np.linalg.norm(align(one) - align(other), axis=2)))
