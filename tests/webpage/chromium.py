"""A real headless Chromium with a fake camera, that reaches nothing but this machine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from playwright.sync_api import Browser, Playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
NONE_FOUND = (
    f"found no Chromium ({', '.join(NAMES)} on the PATH, SPOTER_CHROMIUM, or Playwright's own): "
    "apt-get install chromium, or playwright install chromium"
)
# WebGL2 by software, and no word to anybody else: neither to its maker's servers nor to any name at all.
_FLAGS = (
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
)
SOFTWARE_WEBGL = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader")
NO_WEBGL = ("--disable-3d-apis",)
CAMERA = "--use-fake-device-for-media-stream"
GRANTED = "--use-fake-ui-for-media-stream"


def find_installed() -> str | None:
    """Return the Chromium of SPOTER_CHROMIUM, or else of the PATH; None where there is none."""
    named = os.environ.get("SPOTER_CHROMIUM")
    candidates = [named] if named else map(shutil.which, NAMES)
    return next((path for path in candidates if path and Path(path).is_file()), None)


def find_chromium(playwright: Playwright) -> str | None:
    """Return the program to start, None where there is none: `find_installed`'s, or else Playwright's own."""
    own = playwright.chromium.executable_path
    return find_installed() or (own if Path(own).is_file() and not os.environ.get("SPOTER_CHROMIUM") else None)


def film(path: Path) -> tuple[str, ...]:
    """Return the flags of a camera that shows a .y4m file and needs no leave."""
    return (CAMERA, GRANTED, f"--use-file-for-fake-video-capture={path}")


def launch(playwright: Playwright, *flags: str, webgl: Sequence[str] = SOFTWARE_WEBGL) -> Browser:
    return playwright.chromium.launch(executable_path=find_chromium(playwright), args=[*_FLAGS, *webgl, *flags])
