"""The page with a camera: countdown, recording, answer and download; by mouse, by keyboard, and automatically."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from typer.testing import CliRunner

from spoter.cli.main import app
from tests.webpage.camera import hands_up, read_person, write_y4m
from tests.webpage.clips import read_clip
from tests.webpage.conftest import CAMERA_RATE, WAIT, Tab, open_tab
from tests.webpage.figure import NAMES

LOOP = 1000 * 15 // CAMERA_RATE  # milliseconds of one loop of the film
RIGHT, LEFT = ([NAMES.index(name) for name in NAMES if name.startswith(side)] for side in ("rightHand_", "leftHand_"))
BODY = [NAMES.index(name) for name in NAMES if name.startswith("pose_") and "wrist" not in name]


@pytest.fixture(scope="module")
def camera(browser, demo) -> Iterator[Tab]:
    """One page for all tests with the film, so that MediaPipe is loaded only once."""
    with open_tab(browser, demo.url) as tab:
        yield tab


def turn_on(tab: Tab) -> None:
    """Turn the camera on, if it is off."""
    tab.until("['live', 'idle'].includes(document.body.dataset.state)")
    if tab.page.get_attribute("body", "data-state") == "idle":
        tab.page.click("#camera-button")
    tab.state("state", "live")


def tab_to(tab: Tab, name: str) -> None:
    """Press Tab until the element with this id has the focus."""
    for _ in range(60):
        tab.page.keyboard.press("Tab")
        if tab.page.evaluate("document.activeElement.id") == name:
            return
    raise AssertionError(f"{name} did not get the focus after 60 presses of Tab")


def test_a_sign_is_recorded_and_recognized_by_keyboard(camera, greeting, tmp_path, dgs11):
    """Countdown, recording, answer, and a download that `spoter predict` reads, without a mouse."""
    tab_to(camera, "record-button")
    camera.page.keyboard.press("Enter")
    camera.state("state", "countdown")
    camera.page.wait_for_selector("#countdown:visible", timeout=WAIT)
    camera.state("state", "recording")
    assert camera.page.get_attribute("#stage", "data-mirrored") == "true"
    camera.page.wait_for_timeout(LOOP)  # one loop of the film
    assert camera.page.evaluate("document.activeElement.id") == "record-button"
    camera.page.keyboard.press("Enter")
    camera.answers(1)
    assert camera.page.evaluate("document.activeElement.id") == "record-button"
    assert camera.glosses()[0] == "HALLO" and camera.verdict() in ("true", "false")
    for name in ("time-landmarks", "time-request", "time-frames", "time-fps", "sent-bytes"):
        assert float(camera.page.get_attribute(f"#{name}", "data-value")) > 0, name
    assert camera.page.get_attribute("#clip", "data-source") == "camera"

    tab_to(camera, "download-compact")
    with camera.page.expect_download() as download:
        camera.page.keyboard.press("Enter")
    file = tmp_path / "clip.json"
    download.value.save_as(file)
    points = read_clip(file)
    assert len(points) == int(camera.page.get_attribute("#clip", "data-frames")) >= 7
    # Not mirrored: the figure signs with the right hand, which is on the left side of the picture.
    assert not np.isnan(points[:, RIGHT]).all() and np.isnan(points[:, LEFT]).all()
    assert np.nanmean(points[:, RIGHT, 0]) < 0.4
    drawn = np.nanmean(greeting[:, BODY], axis=0)
    assert np.abs(np.nanmean(points[:, BODY], axis=0) - drawn).mean() < 0.03
    predicted = CliRunner().invoke(app, ["predict", str(dgs11), str(file)])
    assert predicted.exit_code == 0 and '{"instances":[{"gloss":"HALLO"' in predicted.stdout


def test_automatic_recording_starts_and_stops_with_the_hands(camera):
    turn_on(camera)
    answers = int(camera.page.get_attribute("body", "data-answers"))
    camera.page.check("#auto-record")
    camera.state("state", "recording")
    camera.page.uncheck("#auto-record")  # the running recording still ends automatically; no other one follows
    camera.answers(answers + 1)
    assert camera.glosses()[0] == "HALLO"
    # A worker finds the landmarks, so that the page can take the camera's frames meanwhile.
    assert [worker.url.rsplit("/")[-1] for worker in camera.page.workers] == ["engine-worker.js"]


def test_an_example_of_a_new_sign_is_recorded_by_keyboard(camera):
    """The focus moves to the button that ends the recording, and then returns."""
    turn_on(camera)
    camera.page.focus("#teach-record")
    camera.page.keyboard.press("Enter")
    camera.state("state", "recording")
    assert camera.page.evaluate("document.activeElement.id") == "record-button"
    # A shorter recording may contain only the end of a sign and the start of the next.
    camera.page.wait_for_timeout(LOOP)
    camera.page.keyboard.press("Enter")
    camera.until("document.querySelectorAll('#teach-examples li').length === 1")
    assert camera.page.evaluate("document.activeElement.id") == "teach-record"
    camera.page.keyboard.press("Shift+Tab")  # the focus moves to the name: after this, only two examples are missing
    camera.page.keyboard.type("GREETING")
    assert camera.page.get_attribute("#teach-learn", "aria-disabled") == "true"
    camera.page.focus("#teach-examples button")
    camera.page.keyboard.press("Enter")
    camera.until("document.querySelectorAll('#teach-examples li').length === 0")
    assert camera.page.evaluate("document.activeElement.id") == "teach-record"


def test_a_recording_is_discarded_if_the_page_is_hidden(camera):
    """A double click starts the recording like a single click."""
    turn_on(camera)
    clips = camera.page.get_attribute("body", "data-clips")
    camera.page.dblclick("#record-button")
    camera.state("state", "recording")
    # A headless browser hides no pages, so the test sends the event.
    camera.page.evaluate(
        "Object.defineProperty(document, 'visibilityState', { value: 'hidden', configurable: true });"
        "document.dispatchEvent(new Event('visibilitychange')); delete document.visibilityState;"
    )
    camera.message("page_hidden")
    camera.state("state", "live")
    assert camera.page.get_attribute("body", "data-clips") == clips


def test_a_disconnected_camera_is_reported(camera):
    turn_on(camera)
    clips = camera.page.get_attribute("body", "data-clips")
    camera.page.click("#record-button")
    camera.state("state", "recording")
    # The fake camera cannot be disconnected, so the test sends the event of its track.
    camera.page.evaluate("video.srcObject.getVideoTracks()[0].dispatchEvent(new Event('ended'))")
    camera.message("camera_ended")
    camera.state("state", "idle")
    assert camera.page.get_attribute("body", "data-clips") == clips
    turn_on(camera)  # the camera can be turned on again
    camera.page.click("#camera-button")
    camera.state("state", "idle")


@pytest.mark.parametrize("name", ["lsp-comer.mp4"])
def test_a_recording_of_a_person_is_answered(playwright, demo, tmp_path, name):
    """The recording shows a sign that the bundled model does not know."""
    from tests.webpage.chromium import film, launch

    frames = read_person(name, (320, 320), 8)
    browser = launch(playwright, *film(write_y4m(tmp_path / "person.y4m", frames, CAMERA_RATE)))
    try:
        with open_tab(browser, demo.url) as tab:
            glosses = tab.page.eval_on_selector_all("#signs-list li", "rows => rows.map(row => row.dataset.gloss)")
            tab.page.click("#record-button")
            tab.state("state", "recording")
            tab.page.wait_for_timeout(1000 * len(frames) // CAMERA_RATE)
            tab.page.click("#record-button")
            tab.answers(1)
            assert tab.glosses()[0] in glosses
            with tab.page.expect_download() as download:
                tab.page.click("#download-compact")
            download.value.save_as(tmp_path / "clip.json")
            points = read_clip(tmp_path / "clip.json")
            assert not np.isnan(points[:, BODY]).any(axis=2).all(axis=1).any() and hands_up(points).any()
    finally:
        browser.close()


def test_missing_mediapipe_is_reported(browser, demo):
    with open_tab(browser, demo.url, failing=True) as tab:
        tab.page.context.route("**/mp/holistic.js", lambda route: route.fulfill(status=404))
        tab.page.click("#camera-button")
        tab.message("no_holistic")
        tab.state("state", "idle")


@pytest.mark.parametrize(
    ("flags", "code"),
    # A headless browser denies permission without asking.
    [((), "no_camera"), (("--use-fake-device-for-media-stream",), "no_permission")],
)
def test_a_missing_or_denied_camera_is_reported(playwright, demo, flags, code):
    from tests.webpage.chromium import launch

    browser = launch(playwright, *flags)
    try:
        with open_tab(browser, demo.url) as tab:
            tab.page.click("#camera-button")
            tab.message(code)
            tab.state("state", "idle")
    finally:
        browser.close()


def test_missing_webgl2_is_reported(playwright, demo, samples):
    """WebGL2 is needed to find landmarks; landmark files are still answered."""
    from tests.webpage.chromium import NO_WEBGL, launch

    browser = launch(playwright, webgl=NO_WEBGL)
    try:
        with open_tab(browser, demo.url) as tab:
            tab.page.click("#camera-button")
            tab.message("no_webgl2")
            tab.state("state", "idle")
            tab.page.set_input_files("#file-input", samples / "hallo.json")
            tab.answers(1)
            assert tab.glosses()[0] == "HALLO"
    finally:
        browser.close()
