"""The page (MediaPipe in JavaScript) and `spoter extract` (in Python) find the same landmarks in the same videos."""

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

POSE = 0.02  # largest mean |difference| of x and y, in image units
PRESENCE = 0.75  # smallest share of drawn frames in which both or neither find a hand; they differ on blurred frames
IN_PYTHON = ("HALLO", "ZEIGEN")  # one hand and two
FRAMES = 8


@pytest.fixture(scope="module")
def films(short_folder: Path, samples: Path) -> dict[str, Path]:
    """Each sample as a video of a few frames with raised hands."""
    videos = {}
    for gloss in SAMPLES:
        points = read_sample(samples, gloss)
        up = np.flatnonzero(hands_up(points))
        points = points[up[np.linspace(0, len(up) - 1, FRAMES).astype(int)]]
        videos[gloss] = write_webm(short_folder / f"{gloss}.webm", draw_clip(points, CAMERA_SIZE), 8)
        if videos[gloss] is None:
            pytest.skip("found no video encoder: apt-get install ffmpeg, or python -m spoter.video.install")
    return videos


@pytest.fixture(scope="module")
def page_reads(reader, short_folder: Path):
    """A function that uploads a video and returns all landmarks that the page finds, and the glosses it shows."""

    @lru_cache
    def read(file: Path) -> tuple[np.ndarray, list[str]]:
        reader.upload(file)
        with reader.page.expect_download(timeout=WAIT) as download:
            reader.page.click("#download-all")
        path = short_folder / f"{file.stem}.all.json"
        download.value.save_as(path)
        return read_clips([path], load_layout("54"))[0].points, reader.glosses()

    return read


def compare(ours: np.ndarray, theirs: np.ndarray) -> dict[str, float]:
    """Return the mean |difference| of each part, and the share of frames in which both or neither find a hand."""
    differences = np.abs(ours[:, : theirs.shape[1]] - theirs[:, : ours.shape[1]])
    parity = {}
    for part in ("pose", "left_hand", "right_hand"):
        columns = MEDIAPIPE.part(part)
        in_both = ~np.isnan(differences[:, columns]).any(axis=(1, 2))
        parity[part] = float(differences[in_both][:, columns].mean()) if in_both.any() else float("nan")
        if part != "pose":
            found = [~np.isnan(points[:, columns.start, 0]) for points in (ours, theirs)]
            parity[f"{part}_agrees"] = float((found[0] == found[1]).mean())
    return parity


def test_the_page_recognizes_every_drawn_sample(page_reads, films):
    assert {gloss: page_reads(film)[1][0] for gloss, film in films.items()} == {gloss: gloss for gloss in films}


@pytest.mark.parametrize("gloss", IN_PYTHON)
def test_drawn_frames_have_the_same_landmarks(page_reads, films, gloss, record_property):
    points, glosses = page_reads(films[gloss])
    parity = _check(points, films[gloss], record_property)
    assert min(parity["left_hand_agrees"], parity["right_hand_agrees"]) >= PRESENCE
    assert glosses[0] == gloss


@pytest.mark.parametrize("name", ["lsp-comer.mp4", "msl-doctor.mp4"])
def test_recordings_of_people_have_the_same_landmarks(page_reads, short_folder, name, record_property):
    clip = write_webm(short_folder / f"{name}.webm", read_person(name, (480, 480), FRAMES), 8)
    _check(page_reads(clip)[0], clip, record_property)


def _check(points: np.ndarray, file: Path, record_property) -> dict[str, float]:
    if environment.find_python() is None:
        pytest.skip(f"found no video environment: {environment.INSTALL_HINT}")
    theirs = reader.read(file).clip.points
    parity = compare(points, theirs)
    record_property("parity", json.dumps(parity))
    assert len(points) == len(theirs)
    assert parity["pose"] < POSE
    return parity
