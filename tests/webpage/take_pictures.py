"""Take the pictures of the page that the README shows: the drawn figure before the camera, and nobody else.

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
from tests.webpage.conftest import Demo, Watched, watched
from tests.webpage.figure import draw_clip

OUT = ROOT / "docs" / "pictures"
DESKTOP = {"width": 1200, "height": 900}
PHONE = {"width": 360, "height": 780}
SAMPLES = ROOT / "samples"
STEP = 2  # every second of the sample's frames, 25 a second, is drawn
RATE = 12  # frames a second of the film: about as fast as the sample
REST = 5 * RATE, RATE  # frames of rest before and after the sign: the count-down of three seconds, and a little more
LONG = 6500  # milliseconds of recording: what is left of the rest, and the sign
# Whether the right hand's colour is in the skeleton over the camera.
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
        shown = np.concatenate([np.repeat(sign[:1], REST[0], 0), sign, np.repeat(sign[-1:], REST[1], 0)])
        camera = write_y4m(Path(folder, "camera.y4m"), shown, RATE)
        turned = write_clip(Path(folder, "turned.json"), upside_down(points))
        browser, bare = launch(playwright, *film(camera)), launch(playwright)
        try:
            with watched(browser, demo.url, viewport=DESKTOP) as seen:
                _record(seen)
                _take(seen, "answer")
            with watched(browser, f"{demo.url}/?lang=es", viewport=DESKTOP, color_scheme="dark") as seen:
                _record(seen)
                _take(seen, "spanish-dark")
            with watched(browser, demo.url, viewport=PHONE, device_scale_factor=2, is_mobile=True) as seen:
                _record(seen)
                seen.page.locator("#stage").scroll_into_view_if_needed()
                _take(seen, "phone")
            with watched(browser, demo.url, viewport=DESKTOP) as seen:
                seen.page.set_input_files("#file-input", turned)
                seen.answers(1)
                _take(seen, "unknown")
            with watched(bare, demo.url, viewport=DESKTOP) as seen:
                seen.page.click("#camera-button")
                seen.message("no_camera")
                _take(seen, "no-camera")
        finally:
            browser.close()
            bare.close()
            demo.end()


def _record(seen: Watched) -> None:
    """Record the sign once, from rest to rest, and wait until a hand is up again."""
    seen.page.click("#camera-button")
    seen.state("state", "live")
    seen.until(HAND)
    seen.until(f"!{HAND}")  # the sign is over: now comes the rest, and the sign again
    seen.page.click("#record-button")
    seen.state("state", "recording")
    seen.page.wait_for_timeout(LONG)
    seen.page.click("#record-button")
    seen.answers(1)
    seen.until(HAND)
    seen.page.wait_for_timeout(300)
    seen.page.evaluate("video.pause()")  # else the film goes on while the skeleton is looked for
    seen.page.wait_for_timeout(1000)


def _take(seen: Watched, name: str) -> None:
    """Keep what is to be seen, in 256 colours, chosen so that small coloured things keep theirs."""
    picture = Image.open(io.BytesIO(seen.page.screenshot())).convert("RGB")
    picture = picture.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=1, dither=Image.Dither.NONE)
    picture.save(OUT / f"page-{name}.png", optimize=True)


if __name__ == "__main__":
    main()
