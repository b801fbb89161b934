"""The webcam page as people get it: the real `spoter demo` with a real TorchServe, in a real headless Chromium.

The camera shows a drawn figure. Everything a page does is watched: what it asks for, and what it says on its console.
"""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import pytest

from spoter.ops.ports import LOOPBACK, free_port, port_is_free
from spoter.webpage.npm import install, installed
from tests import ROOT
from tests.listening import listening
from tests.webpage.camera import hands_up, read_sample, write_webm, write_y4m
from tests.webpage.figure import draw_clip

START_TIMEOUT = 180.0
WAIT = 60_000  # milliseconds until an expectation fails: a slow machine's, not how long anything takes
MEDIAPIPES = re.compile(r"[IW]\d{4} |[IW]\d+ ")  # its log, which goes to the console as errors: level and date first
CAMERA_SIZE = (320, 240)
CAMERA_RATE = 4  # frames a second
VIDEO_RATE = 5  # two frames of rest at either end are within the page's margin, the third is not


class Demo:
    """A `spoter demo` on free ports, with a model store and logs of its own."""

    def __init__(self, folder: Path, environ: dict[str, str] | None = None):
        self.port, self.torchserve = free_port(), free_port()
        self.url = f"http://{LOOPBACK}:{self.port}"
        ports = {"SPOTER_DEMO_PORT": self.port, "SPOTER_PORT": self.torchserve}
        ports |= {"SPOTER_MANAGEMENT_PORT": free_port(), "SPOTER_METRICS_PORT": free_port()}
        own = {"SPOTER_WORKERS": "1", "SPOTER_LOGS": str(folder / "logs"), "SPOTER_MODEL_STORE": str(folder / "store")}
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("SPOTER_", "TS_"))}
        self.environ = clean | {name: str(port) for name, port in ports.items()} | own | {"TMPDIR": str(folder)}
        self.environ |= environ or {}
        self.said: list[str] = []

    def start(self) -> Demo:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "spoter", "demo"],
            cwd=ROOT,
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        late = threading.Timer(START_TIMEOUT, self.process.kill)
        late.start()
        for line in self.process.stdout:
            self.said.append(line)
            if line.startswith("Ctrl-C"):
                break
        late.cancel()
        if not self.said or not self.said[-1].startswith("Ctrl-C"):
            raise AssertionError("".join(self.said) + self.process.stderr.read())
        return self

    def family(self) -> list[psutil.Process]:
        """Return all that it started: `spoter serve`, TorchServe's launcher, Java, a worker."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Ask it to end; return its status and what it said of errors."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        errors = self.process.communicate(timeout=60)[1]
        return self.process.returncode, errors


def living(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [process for process in processes if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture(scope="session")
def short_folder() -> Iterator[Path]:
    """A temporary folder of a short path: pytest's own are too long for TorchServe's sockets."""
    with tempfile.TemporaryDirectory(prefix="spoter-web-") as folder:
        yield Path(folder)


@contextmanager
def installing() -> Iterator[None]:
    """Keep others who run beside us from installing the page's packages meanwhile."""
    lock = ROOT / "build" / "page-packages.lock"
    lock.parent.mkdir(exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def page_packages() -> None:
    """The page's packages from npm, which whoever comes first installs: this, or `spoter demo`."""
    with installing():
        if not installed(ROOT / "web"):
            install(ROOT / "web")


@pytest.fixture(scope="session")
def demo(short_folder: Path) -> Iterator[Demo]:
    """demo.py with the TorchServe that it started."""
    running = Demo(short_folder)
    running.environ["SPOTER_CORS_ORIGIN"] = running.url  # so that the page may also ask TorchServe itself
    with installing():
        running.start()
    family = running.family()
    yield running
    status, errors = running.end()
    assert (status, errors.strip().splitlines()[-1]) == (0, "stopping")
    assert living(family) == [] and port_is_free(LOOPBACK, running.port) and port_is_free(LOOPBACK, running.torchserve)


@pytest.fixture(scope="package")
def playwright() -> Iterator:
    """Playwright, for this folder only: while it runs, the event loop of its own bars asyncio from other tests."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="no Playwright: pip install '.[dev]'")
    from tests.webpage.chromium import NONE_FOUND, find_chromium, find_installed

    try:
        started = sync_api.sync_playwright().start()
    except Exception:  # its Node.js needs libatomic.so.1, which Debian's Chromium brings
        if find_installed() is None:
            pytest.skip(NONE_FOUND)
        raise
    try:
        if find_chromium(started) is None:
            pytest.skip(NONE_FOUND)
        yield started
    finally:
        started.stop()


@pytest.fixture(scope="session")
def greeting(samples: Path) -> np.ndarray:
    """HALLO as a short film: the hands below, up, and below again; (T, 54, 2)."""
    points = read_sample(samples, "HALLO")
    up = np.flatnonzero(hands_up(points))
    chosen = up[np.linspace(0, len(up) - 1, 9).astype(int)]
    return points[[0, 1, 2, *chosen, -3, -2, -1]]


@pytest.fixture(scope="session")
def film_file(short_folder: Path, greeting: np.ndarray) -> Path:
    return write_y4m(short_folder / "greeting.y4m", draw_clip(greeting, CAMERA_SIZE), CAMERA_RATE)


@pytest.fixture(scope="session")
def video_file(short_folder: Path, greeting: np.ndarray) -> Path:
    """The same as a video file."""
    path = write_webm(short_folder / "greeting.webm", draw_clip(greeting, CAMERA_SIZE), VIDEO_RATE)
    if path is None:
        pytest.skip("nothing here makes a video to upload: apt-get install ffmpeg, or python -m spoter.video.install")
    return path


@pytest.fixture(scope="package")
def browser(playwright, film_file: Path, page_packages) -> Iterator:
    """Chromium with the film as its camera."""
    from tests.webpage.chromium import film, launch

    started = launch(playwright, *film(film_file))
    yield started
    started.close()


@contextmanager
def page_before(url: str) -> Iterator[str]:
    """Run the page's own server before something else than TorchServe; yield its URL."""
    from spoter.webpage.app import make_site

    with listening(make_site(ROOT / "web", url, 10**6)) as own:
        yield own


@dataclass
class Watched:
    """A page, and what it did."""

    page: object
    requests: list[str] = field(default_factory=list)
    console: list[str] = field(default_factory=list)

    def state(self, name: str, value: str) -> None:
        """Wait until the body's `data-<name>` is `value`."""
        self.page.wait_for_selector(f'body[data-{name}="{value}"]', timeout=WAIT, state="attached")

    def answers(self, count: int) -> None:
        """Wait until so many answers have come."""
        self.until(f"Number(document.body.dataset.answers) >= {count}")

    def asked_about(self, file: Path) -> None:
        """Give the page a file, and wait for the answer."""
        self.state("state", "idle")
        before = int(self.page.evaluate("Number(document.body.dataset.answers)"))
        self.page.set_input_files("#file-input", file)
        self.answers(before + 1)

    def until(self, expression: str) -> None:
        """Wait until it is true; Playwright's own way of waiting for it needs an eval, which the page's policy bars."""
        deadline = time.monotonic() + WAIT / 1000
        while not self.page.evaluate(expression):
            said = self.page.inner_text("#messages")
            assert time.monotonic() < deadline, f"{expression} did not become true; the page says: {said}"
            self.page.wait_for_timeout(50)

    def message(self, code: str):
        """Wait for a message; return it."""
        return self.page.wait_for_selector(f'#messages .message[data-code="{code}"]', timeout=WAIT)

    def glosses(self) -> list[str]:
        """Return the glosses of the answer, best first."""
        return self.page.eval_on_selector_all("#answer-list li", "rows => rows.map(row => row.dataset.gloss)")

    def verdict(self) -> str:
        return self.page.get_attribute("#answer", "data-known")

    def elsewhere(self, *allowed: str) -> list[str]:
        """Return what was asked of other hosts than the page's own and those `allowed`."""
        own = "/".join(self.page.url.split("/")[:3])
        kept = ("data:", "blob:", own, *allowed)
        return [url for url in self.requests if not url.startswith(kept)]


@contextmanager
def watched(
    browser, url: str, allowed: tuple[str, ...] = (), failing: bool = False, script: str = "", **options
) -> Iterator[Watched]:
    """Open a page in a context of its own; fail where it did what it must not.

    Parameters
    ----------
    allowed : tuple of str
        Other origins that it may ask.
    failing : bool
        Whether requests of the test fail, which the browser itself writes to the console.
    script : str
        What runs in the page before its own scripts.
    options
        Of Playwright's context.
    """
    context = browser.new_context(**({"locale": "en-GB"} | options))
    page = context.new_page()
    page.add_init_script(script)
    page.set_default_timeout(WAIT)
    seen = Watched(page)
    page.on("request", lambda request: seen.requests.append(request.url))
    page.on("console", lambda said: seen.console.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: seen.console.append(str(error)))
    try:
        page.goto(url)
        page.wait_for_selector('body:not([data-state="loading"])', timeout=WAIT, state="attached")
        yield seen
        assert seen.elsewhere(*allowed) == []
        complaints = [line for line in seen.console if not MEDIAPIPES.match(line)]
        assert [line for line in complaints if not (failing and line.startswith("Failed to load resource"))] == []
    finally:
        context.close()


@pytest.fixture(scope="package")
def reader(browser, demo: Demo) -> Iterator[Watched]:
    """One page for all videos: MediaPipe is loaded once."""
    with watched(browser, demo.url) as seen:
        yield seen


@pytest.fixture
def page(browser, demo: Demo) -> Iterator[Watched]:
    with watched(browser, demo.url) as seen:
        yield seen
