"""The page before a camera: count-down, recording, answer, download; by hand, by keyboard, and by itself."""

from __future__ import annotations

import numpy as np
import pytest
from typer.testing import CliRunner
from web.camera import hands_up, read_person, write_y4m
from web.clips import read_clip
from web.conftest import CAMERA_RATE, WAIT, Watched, watched
from web.figure import NAMES

from spoter.cli import app

LOOP = 1000 * 15 // CAMERA_RATE  # milliseconds that the film takes
RIGHT, LEFT = ([NAMES.index(name) for name in NAMES if name.startswith(side)] for side in ("rightHand_", "leftHand_"))
BODY = [NAMES.index(name) for name in NAMES if name.startswith("pose_") and "wrist" not in name]


def tab_to(seen: Watched, name: str) -> None:
    """Press Tab until the element of that id has the focus."""
    for _ in range(60):
        seen.page.keyboard.press("Tab")
        if seen.page.evaluate("document.activeElement.id") == name:
            return
    raise AssertionError(f"60 times Tab did not lead to {name}")


def test_a_whole_recognition_by_keyboard(page, greeting, tmp_path, dgs11):
    """Count-down, recording, answer, and a download that `spoter predict` reads: the mouse is never touched."""
    tab_to(page, "record-button")
    page.page.keyboard.press("Enter")
    page.state("state", "countdown")
    page.page.wait_for_selector("#countdown:visible", timeout=WAIT)
    page.state("state", "recording")
    assert page.page.get_attribute("#stage", "data-mirrored") == "true"
    page.page.wait_for_timeout(LOOP)  # the film, once
    assert page.page.evaluate("document.activeElement.id") == "record-button"
    page.page.keyboard.press("Enter")
    page.answers(1)
    assert page.glosses()[0] == "HALLO" and page.verdict() in ("true", "false")
    for name in ("time-landmarks", "time-request", "time-frames", "time-fps", "sent-bytes"):
        assert float(page.page.get_attribute(f"#{name}", "data-value")) > 0, name
    assert page.page.get_attribute("#clip", "data-source") == "camera"

    tab_to(page, "download-compact")
    with page.page.expect_download() as download:
        page.page.keyboard.press("Enter")
    file = tmp_path / "clip.json"
    download.value.save_as(file)
    points = read_clip(file)
    assert len(points) == int(page.page.get_attribute("#clip", "data-frames")) >= 10
    # Unmirrored: the figure signs with its right hand, which a camera sees at the left.
    assert not np.isnan(points[:, RIGHT]).all() and np.isnan(points[:, LEFT]).all()
    assert np.nanmean(points[:, RIGHT, 0]) < 0.4
    drawn = np.nanmean(greeting[:, BODY], axis=0)
    assert np.abs(np.nanmean(points[:, BODY], axis=0) - drawn).mean() < 0.03
    predicted = CliRunner().invoke(app, ["predict", str(dgs11), str(file)])
    assert predicted.exit_code == 0 and '{"instances":[{"gloss":"HALLO"' in predicted.stdout


def test_it_starts_and_stops_as_hands_rise_and_fall(browser, demo):
    with watched(browser, f"{demo.url}/?auto=1") as seen:
        assert seen.page.is_checked("#auto-record")
        seen.page.click("#camera-button")
        seen.answers(1)
        assert seen.glosses()[0] == "HALLO"
        seen.page.uncheck("#auto-record")
        seen.page.click("#camera-button")
        seen.state("state", "idle")


@pytest.mark.parametrize("name", ["lsp-comer.mp4"])
def test_a_person_before_the_camera(playwright, demo, tmp_path, name):
    """A real recording of a sign that the embedded model does not know."""
    from web.chromium import film, launch

    frames = read_person(name, (320, 320), 12)
    browser = launch(playwright, *film(write_y4m(tmp_path / "person.y4m", frames, CAMERA_RATE)))
    try:
        with watched(browser, demo.url) as seen:
            known = seen.page.eval_on_selector_all("#signs-list li", "rows => rows.map(row => row.dataset.gloss)")
            seen.page.click("#record-button")
            seen.state("state", "recording")
            seen.page.wait_for_timeout(1000 * len(frames) // CAMERA_RATE)
            seen.page.click("#record-button")
            seen.answers(1)
            assert seen.glosses()[0] in known
            with seen.page.expect_download() as download:
                seen.page.click("#download-compact")
            download.value.save_as(tmp_path / "clip.json")
            points = read_clip(tmp_path / "clip.json")
            assert not np.isnan(points[:, BODY]).any(axis=2).all(axis=1).any() and hands_up(points).any()
    finally:
        browser.close()


@pytest.mark.parametrize(
    ("flags", "code"),
    # Headless, nobody is asked for leave: the answer is no.
    [((), "no_camera"), (("--use-fake-device-for-media-stream",), "no_permission")],
)
def test_a_camera_that_cannot_be_had_is_said(playwright, demo, flags, code):
    from web.chromium import launch

    browser = launch(playwright, *flags)
    try:
        with watched(browser, demo.url) as seen:
            seen.page.click("#camera-button")
            seen.message(code)
            seen.state("state", "idle")
    finally:
        browser.close()


def test_no_webgl2_is_said(playwright, demo, samples):
    """Finding landmarks needs it; files of landmarks are answered all the same."""
    from web.chromium import NO_WEBGL, launch

    browser = launch(playwright, webgl=NO_WEBGL)
    try:
        with watched(browser, demo.url) as seen:
            seen.page.click("#camera-button")
            seen.message("no_webgl2")
            seen.state("state", "idle")
            seen.page.set_input_files("#file-input", samples / "hallo.json")
            seen.answers(1)
            assert seen.glosses()[0] == "HALLO"
    finally:
        browser.close()
