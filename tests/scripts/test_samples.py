"""The samples: small, each named right by the embedded model, none of them a copy of anybody's clip."""

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
SHOWN = {
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


def test_all_samples_are_known_here_and_small(samples):
    found = {path.name: path.stat().st_size for path in samples.iterdir() if path.suffix in TYPES}
    assert found.keys() == SHOWN.keys()
    assert sum(found.values()) < 1.5e6


@pytest.mark.parametrize("name", SHOWN)
def test_the_model_names_each_sample_right(samples, recognizer, name):
    path = samples / name
    (response,), _ = respond(recognizer, [RawRequest(path.read_bytes(), TYPES[path.suffix])])
    assert response.status == 200
    answers = [json.loads(line) for line in response.body.splitlines()]
    assert [answer["instances"][0]["gloss"] for answer in answers] == SHOWN[name]
    assert all(answer["instances"][0]["score"] > 0.8 for answer in answers)


@pytest.mark.slow
def test_no_sample_is_a_copy_of_a_clip(samples, shared_data, dgs11):
    """Two takes of a sign are 0.047 shoulder widths apart at the nearest; a copy, even one moved or scaled, 0."""
    trained = set(read_split(dgs11 / SPLIT).split.groups("train"))
    clips = read_dataset(shared_data / "dgs11-train.hdf5").clips
    assert trained < {clip.group for clip in clips}
    body = [i for i, landmark in enumerate(LAYOUT.landmarks) if landmark.section == "pose"]
    known = {
        gloss: [LAYOUT.select(clip.clip)[:, body] for clip in clips if clip.gloss == gloss]
        for glosses in SHOWN.values()
        for gloss in glosses
    }
    for name, glosses in SHOWN.items():
        for gloss, clip in zip(glosses, _clips(samples / name), strict=True):
            points = LAYOUT.select(clip)[:, body]
            distances = [_distance(points, other) for other in known[gloss]]
            assert min(distances) > 0.025, (name, min(distances))


def _distance(one: np.ndarray, other: np.ndarray) -> float:
    """Return the mean distance of the same points of two clips, moved to the same place, in shoulder widths."""
    shoulders = [
        LAYOUT.section("pose").tolist().index(LAYOUT.column(f"pose_{side}_shoulder")) for side in ("left", "right")
    ]

    def placed(points: np.ndarray) -> np.ndarray:
        points = resample_time(points, 60)
        left, right = (np.nanmedian(points[:, column], axis=0) for column in shoulders)
        return (points - (left + right) / 2) / np.linalg.norm(left - right)

    return float(np.nanmean(np.linalg.norm(placed(one) - placed(other), axis=2)))
