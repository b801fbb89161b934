"""The page before a camera: count-down, recording, answer, download; by hand, by keyboard, and by itself."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from typer.testing import CliRunner

from spoter.cli.main import app
from tests.webpage.camera import hands_up, read_person, write_y4m
from tests.webpage.clips import read_clip
from tests.webpage.conftest import CAMERA_RATE, WAIT, Watched, watched
from tests.webpage.figure import NAMES

LOOP = 1000 * 15 // CAMERA_RATE  # milliseconds that the film takes
RIGHT, LEFT = ([NAMES.index(name) for name in NAMES if name.startswith(side)] for side in ("rightHand_", "leftHand_"))
BODY = [NAMES.index(name) for name in NAMES if name.startswith("pose_") and "wrist" not in name]


@pytest.fixture(scope="module")
def camera(browser, demo) -> Iterator[Watched]:
    """One page for all that the film shows: MediaPipe is loaded once."""
    with watched(browser, demo.url) as seen:
        yield seen


def on(seen: Watched) -> None:
    """Turn the camera on, if it is off."""
    seen.until("['live', 'idle'].includes(document.body.dataset.state)")
    if seen.page.get_attribute("body", "data-state") == "idle":
        seen.page.click("#camera-button")
    seen.state("state", "live")


def tab_to(seen: Watched, name: str) -> None:
    """Press Tab until the element of that id has the focus."""
    for _ in range(60):
        seen.page.keyboard.press("Tab")
        if seen.page.evaluate("document.activeElement.id") == name:
            return
    raise AssertionError(f"60 times Tab did not lead to {name}")


def test_a_whole_recognition_by_keyboard(camera, greeting, tmp_path, dgs11):
    """Count-down, recording, answer, and a download that `spoter predict` reads: the mouse is never touched."""
    page = camera
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
    assert page.page.evaluate("document.activeElement.id") == "record-button"
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
    assert len(points) == int(page.page.get_attribute("#clip", "data-frames")) >= 7
    # Unmirrored: the figure signs with its right hand, which a camera sees at the left.
    assert not np.isnan(points[:, RIGHT]).all() and np.isnan(points[:, LEFT]).all()
    assert np.nanmean(points[:, RIGHT, 0]) < 0.4
    drawn = np.nanmean(greeting[:, BODY], axis=0)
    assert np.abs(np.nanmean(points[:, BODY], axis=0) - drawn).mean() < 0.03
    predicted = CliRunner().invoke(app, ["predict", str(dgs11), str(file)])
    assert predicted.exit_code == 0 and '{"instances":[{"gloss":"HALLO"' in predicted.stdout


def test_it_starts_and_stops_as_hands_rise_and_fall(camera):
    on(camera)
    answers = int(camera.page.get_attribute("body", "data-answers"))
    camera.page.check("#auto-record")
    camera.state("state", "recording")
    camera.page.uncheck("#auto-record")  # this one ends by itself all the same, and is the last
    camera.answers(answers + 1)
    assert camera.glosses()[0] == "HALLO"
    # Landmarks are found beside the page, which goes on taking the camera's frames meanwhile.
    assert [worker.url.rsplit("/")[-1] for worker in camera.page.workers] == ["engine-worker.js"]


def test_an_example_of_a_new_sign_is_recorded_by_keyboard(camera):
    """The focus goes to the button that ends it, below the picture, and comes back."""
    on(camera)
    camera.page.focus("#teach-record")
    camera.page.keyboard.press("Enter")
    camera.state("state", "recording")
    assert camera.page.evaluate("document.activeElement.id") == "record-button"
    camera.page.wait_for_timeout(LOOP)  # less may hold no more than the end of the sign and the beginning of the next
    camera.page.keyboard.press("Enter")
    camera.until("document.querySelectorAll('#teach-examples li').length === 1")
    assert camera.page.evaluate("document.activeElement.id") == "teach-record"
    camera.page.keyboard.press("Shift+Tab")  # a name, so that all that is lacking are two more
    camera.page.keyboard.type("GREETING")
    assert camera.page.get_attribute("#teach-learn", "aria-disabled") == "true"
    camera.page.focus("#teach-examples button")
    camera.page.keyboard.press("Enter")
    camera.until("document.querySelectorAll('#teach-examples li').length === 0")
    assert camera.page.evaluate("document.activeElement.id") == "teach-record"


def test_a_recording_that_nobody_sees_is_given_up(camera):
    """A double click starts it as a single one does."""
    on(camera)
    clips = camera.page.get_attribute("body", "data-clips")
    camera.page.dblclick("#record-button")
    camera.state("state", "recording")
    # Headless, no page is ever hidden: what a browser tells then is told here.
    camera.page.evaluate(
        "Object.defineProperty(document, 'visibilityState', { value: 'hidden', configurable: true });"
        "document.dispatchEvent(new Event('visibilitychange')); delete document.visibilityState;"
    )
    camera.message("page_hidden")
    camera.state("state", "live")
    assert camera.page.get_attribute("body", "data-clips") == clips


def test_a_camera_that_goes_away_is_said(camera):
    on(camera)
    clips = camera.page.get_attribute("body", "data-clips")
    camera.page.click("#record-button")
    camera.state("state", "recording")
    # The fake camera cannot be pulled out; its track ends as one that was.
    camera.page.evaluate("video.srcObject.getVideoTracks()[0].dispatchEvent(new Event('ended'))")
    camera.message("camera_ended")
    camera.state("state", "idle")
    assert camera.page.get_attribute("body", "data-clips") == clips
    on(camera)  # it comes back
    camera.page.click("#camera-button")
    camera.state("state", "idle")


@pytest.mark.parametrize("name", ["lsp-comer.mp4"])
def test_a_person_before_the_camera(playwright, demo, tmp_path, name):
    """A real recording of a sign that the embedded model does not know."""
    from tests.webpage.chromium import film, launch

    frames = read_person(name, (320, 320), 8)
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


def test_a_page_without_mediapipe_says_so(browser, demo):
    with watched(browser, demo.url, failing=True) as seen:
        seen.page.context.route("**/mp/holistic.js", lambda route: route.fulfill(status=404))
        seen.page.click("#camera-button")
        seen.message("no_holistic")
        seen.state("state", "idle")


@pytest.mark.parametrize(
    ("flags", "code"),
    # Headless, nobody is asked for leave: the answer is no.
    [((), "no_camera"), (("--use-fake-device-for-media-stream",), "no_permission")],
)
def test_a_camera_that_cannot_be_had_is_said(playwright, demo, flags, code):
    from tests.webpage.chromium import launch

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
    from tests.webpage.chromium import NO_WEBGL, launch

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
