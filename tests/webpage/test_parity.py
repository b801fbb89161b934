"""Landmarks of the page (MediaPipe in JavaScript) against those of `spoter extract` (in Python), of the same videos."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from spoter.landmarks.estimators import MEDIAPIPE
from spoter.landmarks.layouts import load_layout
from spoter.sources.clip_files import read_clips
from spoter.video import environment, reader
from tests.webpage.camera import SAMPLES, hands_up, read_person, read_sample, write_webm
from tests.webpage.conftest import CAMERA_SIZE, WAIT
from tests.webpage.figure import draw_clip

POSE = 0.02  # mean |difference| of x and y, in image units, that the two may differ by
PRESENCE = 0.75  # share of drawn frames in which both or neither find a hand; on blurred ones they decide apart
IN_PYTHON = ("HALLO", "ZEIGEN")  # one hand and two
FRAMES = 8


@pytest.fixture(scope="module")
def films(short_folder: Path, samples: Path) -> dict[str, Path]:
    """Each sample as a video of a few frames with its hands up."""
    made = {}
    for gloss in SAMPLES:
        points = read_sample(samples, gloss)
        up = np.flatnonzero(hands_up(points))
        points = points[up[np.linspace(0, len(up) - 1, FRAMES).astype(int)]]
        made[gloss] = write_webm(short_folder / f"{gloss}.webm", draw_clip(points, CAMERA_SIZE), 8)
        if made[gloss] is None:
            pytest.skip("nothing here makes a video to upload: apt-get install ffmpeg")
    return made


@pytest.fixture(scope="module")
def page_reads(reader, short_folder: Path):
    """Return a function: a video file -> all landmarks that the page finds, and the glosses it shows."""

    @lru_cache
    def read(file: Path) -> tuple[np.ndarray, list[str]]:
        reader.asked_about(file)
        with reader.page.expect_download(timeout=WAIT) as download:
            reader.page.click("#download-all")
        path = short_folder / f"{file.stem}.all.json"
        download.value.save_as(path)
        return read_clips([path], load_layout("54"))[0].points, reader.glosses()

    return read


def compare(ours: np.ndarray, theirs: np.ndarray) -> dict[str, float]:
    """Return the mean |difference| by part, and in how many frames the same hands are there."""
    apart = np.abs(ours[:, : theirs.shape[1]] - theirs[:, : ours.shape[1]])
    told = {}
    for part in ("pose", "left_hand", "right_hand"):
        columns = MEDIAPIPE.part(part)
        there = ~np.isnan(apart[:, columns]).any(axis=(1, 2))
        told[part] = float(apart[there][:, columns].mean()) if there.any() else float("nan")
        if part != "pose":
            found = [~np.isnan(points[:, columns.start, 0]) for points in (ours, theirs)]
            told[f"{part}_agrees"] = float((found[0] == found[1]).mean())
    return told


def test_the_page_names_every_sample_that_is_drawn(page_reads, films):
    assert {gloss: page_reads(film)[1][0] for gloss, film in films.items()} == {gloss: gloss for gloss in films}


@pytest.mark.parametrize("gloss", IN_PYTHON)
def test_drawn_frames_have_the_same_landmarks(page_reads, films, gloss, record_property):
    points, glosses = page_reads(films[gloss])
    told = _check(points, films[gloss], record_property)
    assert min(told["left_hand_agrees"], told["right_hand_agrees"]) >= PRESENCE
    assert glosses[0] == gloss


@pytest.mark.parametrize("name", ["lsp-comer.mp4", "msl-doctor.mp4"])
def test_a_persons_frames_have_the_same_landmarks(page_reads, short_folder, name, record_property):
    clip = write_webm(short_folder / f"{name}.webm", read_person(name, (480, 480), FRAMES), 8)
    _check(page_reads(clip)[0], clip, record_property)


def _check(points: np.ndarray, file: Path, record_property) -> dict[str, float]:
    if environment.find_python() is None:
        pytest.skip(f"no environment with MediaPipe for Python: {environment.INSTALL_HINT}")
    theirs = reader.read(file).clip.points
    told = compare(points, theirs)
    record_property("parity", json.dumps(told))
    assert len(points) == len(theirs)
    assert told["pose"] < POSE
    return told
