"""A headless Chromium with a fake camera that can connect only to this machine."""

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
# No connection to Google's servers or to any other host name.
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
    """Return the path of Chromium from SPOTER_CHROMIUM or the PATH; None if it is missing."""
    named = os.environ.get("SPOTER_CHROMIUM")
    candidates = [named] if named else map(shutil.which, NAMES)
    return next((path for path in candidates if path and Path(path).is_file()), None)


def find_chromium(playwright: Playwright) -> str | None:
    """Return the path of an installed Chromium, or of Playwright's bundled one; None if both are missing."""
    bundled = playwright.chromium.executable_path
    use_bundled = Path(bundled).is_file() and not os.environ.get("SPOTER_CHROMIUM")
    return find_installed() or (bundled if use_bundled else None)


def film(path: Path) -> tuple[str, ...]:
    """Return the flags for a camera that shows a .y4m file, with permission granted."""
    return (CAMERA, GRANTED, f"--use-file-for-fake-video-capture={path}")


def launch(playwright: Playwright, *flags: str, webgl: Sequence[str] = SOFTWARE_WEBGL) -> Browser:
    return playwright.chromium.launch(executable_path=find_chromium(playwright), args=[*_FLAGS, *webgl, *flags])
