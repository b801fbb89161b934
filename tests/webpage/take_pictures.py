"""Take the screenshots of the page for README.md and docs/webcam.md: they show the drawn figure instead of a person.

PYTHONPATH=tests python -m tests.webpage.take_pictures
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright

from tests import ROOT
from tests.webpage.camera import read_sample, write_y4m
from tests.webpage.chromium import film, launch
from tests.webpage.clips import upside_down, write_clip
from tests.webpage.conftest import Demo, Tab, open_tab
from tests.webpage.figure import draw_clip

OUT = ROOT / "docs" / "pictures"
DESKTOP = {"width": 1200, "height": 900}
PHONE = {"width": 360, "height": 780}
SAMPLES = ROOT / "samples"
STEP = 2  # draw every second frame of the sample, which has 25 frames per second
RATE = 12  # frames per second of the film, close to the sample's speed
REST = 5 * RATE, RATE  # frames at rest before the sign, which cover the countdown of three seconds, and after it
RECORDING = 6500  # milliseconds: the rest after the countdown, and the sign
# True if the skeleton over the camera contains the right hand's color.
HAND = """(() => {
  const canvas = document.getElementById("overlay");
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  for (let i = 0; i < data.length; i += 4) {
    if (data[i] > 220 && data[i + 1] > 100 && data[i + 1] < 180 && data[i + 2] < 110 && data[i + 3] > 200) return true;
  }
  return false;
})()"""


def main() -> None:
    """Write docs/pictures/page-*.png."""
    OUT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="spoter-web-") as folder, sync_playwright() as playwright:
        demo = Demo(Path(folder)).start()
        points = read_sample(SAMPLES, "HALLO")
        sign = draw_clip(points[::STEP])
        frames = np.concatenate([np.repeat(sign[:1], REST[0], 0), sign, np.repeat(sign[-1:], REST[1], 0)])
        camera = write_y4m(Path(folder, "camera.y4m"), frames, RATE)
        flipped = write_clip(Path(folder, "flipped.json"), upside_down(points))
        browser, without_camera = launch(playwright, *film(camera)), launch(playwright)
        try:
            with open_tab(browser, demo.url, viewport=DESKTOP) as tab:
                _record(tab)
                _take(tab, "answer")
            with open_tab(browser, f"{demo.url}/?lang=es", viewport=DESKTOP, color_scheme="dark") as tab:
                _record(tab)
                _take(tab, "spanish-dark")
            with open_tab(browser, demo.url, viewport=PHONE, device_scale_factor=2, is_mobile=True) as tab:
                _record(tab)
                tab.page.locator("#stage").scroll_into_view_if_needed()
                _take(tab, "phone")
            with open_tab(browser, demo.url, viewport=DESKTOP) as tab:
                tab.page.set_input_files("#file-input", flipped)
                tab.answers(1)
                _take(tab, "unknown")
            with open_tab(without_camera, demo.url, viewport=DESKTOP) as tab:
                tab.page.click("#camera-button")
                tab.message("no_camera")
                _take(tab, "no-camera")
        finally:
            browser.close()
            without_camera.close()
            demo.stop()


def _record(tab: Tab) -> None:
    """Record the sign once, from rest to rest, and wait until a hand is raised again."""
    tab.page.click("#camera-button")
    tab.state("state", "live")
    tab.until(HAND)
    tab.until(f"!{HAND}")  # the sign is over; rest and the next repetition follow
    tab.page.click("#record-button")
    tab.state("state", "recording")
    tab.page.wait_for_timeout(RECORDING)
    tab.page.click("#record-button")
    tab.answers(1)
    tab.until(HAND)
    tab.page.wait_for_timeout(300)
    tab.page.evaluate("video.pause()")  # so that the skeleton matches the picture
    tab.page.wait_for_timeout(1000)


def _take(tab: Tab, name: str) -> None:
    """Save a screenshot in 256 colors, quantized so that small colored details keep their colors."""
    picture = Image.open(io.BytesIO(tab.page.screenshot())).convert("RGB")
    picture = picture.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=1, dither=Image.Dither.NONE)
    picture.save(OUT / f"page-{name}.png", optimize=True)


if __name__ == "__main__":
    main()
