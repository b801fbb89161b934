"""Fixtures for tests of the webcam page: `spoter demo` with TorchServe, and a headless Chromium.

The camera shows a drawn figure. Every page's requests and console errors are recorded and checked.
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
WAIT = 60_000  # milliseconds until an expectation fails, long enough for a slow machine
MEDIAPIPE_LOG = re.compile(r"[IW]\d{4} |[IW]\d+ ")  # MediaPipe's log lines, which the console lists as errors
CAMERA_SIZE = (320, 240)
CAMERA_RATE = 4  # frames per second
VIDEO_RATE = 5  # frames per second, so that two of the three frames of rest at each end are within the page's margin


class Demo:
    """A `spoter demo` on free ports, with a separate model store and separate logs."""

    def __init__(self, folder: Path, environ: dict[str, str] | None = None):
        self.port, self.torchserve = free_port(), free_port()
        self.url = f"http://{LOOPBACK}:{self.port}"
        ports = {"SPOTER_DEMO_PORT": self.port, "SPOTER_PORT": self.torchserve}
        ports |= {"SPOTER_MANAGEMENT_PORT": free_port(), "SPOTER_METRICS_PORT": free_port()}
        settings = {
            "SPOTER_WORKERS": "1",
            "SPOTER_LOGS": str(folder / "logs"),
            "SPOTER_MODEL_STORE": str(folder / "store"),
        }
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("SPOTER_", "TS_"))}
        self.environ = (
            inherited | {name: str(port) for name, port in ports.items()} | settings | {"TMPDIR": str(folder)}
        )
        self.environ |= environ or {}
        self.output: list[str] = []

    def start(self) -> Demo:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "spoter", "demo"],
            cwd=ROOT,
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        watchdog = threading.Timer(START_TIMEOUT, self.process.kill)
        watchdog.start()
        for line in self.process.stdout:
            self.output.append(line)
            if line.startswith("Ctrl-C"):
                break
        watchdog.cancel()
        if not self.output or not self.output[-1].startswith("Ctrl-C"):
            raise AssertionError("".join(self.output) + self.process.stderr.read())
        return self

    def descendants(self) -> list[psutil.Process]:
        """Return its descendant processes: `spoter serve`, TorchServe's launcher, Java, a worker."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal, and return the exit status and stderr."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        errors = self.process.communicate(timeout=60)[1]
        return self.process.returncode, errors


def running(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [process for process in processes if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture(scope="session")
def short_folder() -> Iterator[Path]:
    """A temporary folder with a short path; paths of pytest's folders are too long for TorchServe's sockets."""
    with tempfile.TemporaryDirectory(prefix="spoter-web-") as folder:
        yield Path(folder)


@contextmanager
def installing() -> Iterator[None]:
    """Lock the installation of the page's packages against other test processes."""
    lock = ROOT / "build" / "page-packages.lock"
    lock.parent.mkdir(exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def page_packages() -> None:
    """Install the page's packages from npm, unless `spoter demo` has installed them."""
    with installing():
        if not installed(ROOT / "web"):
            install(ROOT / "web")


@pytest.fixture(scope="session")
def demo(short_folder: Path) -> Iterator[Demo]:
    """A `spoter demo` with the TorchServe that it started."""
    started = Demo(short_folder)
    started.environ["SPOTER_CORS_ORIGIN"] = started.url  # so that the page may also send requests to TorchServe itself
    with installing():
        started.start()
    processes = started.descendants()
    yield started
    status, errors = started.stop()
    assert status == 0 and "Traceback" not in errors
    assert running(processes) == []
    assert port_is_free(LOOPBACK, started.port) and port_is_free(LOOPBACK, started.torchserve)


@pytest.fixture(scope="package")
def playwright() -> Iterator:
    """Playwright, for this folder only: while its event loop runs, other tests cannot use asyncio."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="no Playwright: pip install '.[dev]'")
    from tests.webpage.chromium import NONE_FOUND, find_chromium, find_installed

    try:
        started = sync_api.sync_playwright().start()
    except Exception:  # its Node.js needs libatomic.so.1, which Debian installs with Chromium
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
    """HALLO as a short clip: hands lowered, raised, and lowered again; shape (T, 54, 2)."""
    points = read_sample(samples, "HALLO")
    up = np.flatnonzero(hands_up(points))
    chosen = up[np.linspace(0, len(up) - 1, 9).astype(int)]
    return points[[0, 1, 2, *chosen, -3, -2, -1]]


@pytest.fixture(scope="session")
def film_file(short_folder: Path, greeting: np.ndarray) -> Path:
    return write_y4m(short_folder / "greeting.y4m", draw_clip(greeting, CAMERA_SIZE), CAMERA_RATE)


@pytest.fixture(scope="session")
def video_file(short_folder: Path, greeting: np.ndarray) -> Path:
    """The clip `greeting` as a video file."""
    path = write_webm(short_folder / "greeting.webm", draw_clip(greeting, CAMERA_SIZE), VIDEO_RATE)
    if path is None:
        pytest.skip("found no video encoder: apt-get install ffmpeg, or python -m spoter.video.install")
    return path


@pytest.fixture(scope="package")
def browser(playwright, film_file: Path, page_packages) -> Iterator:
    """Chromium with the film as its camera."""
    from tests.webpage.chromium import film, launch

    started = launch(playwright, *film(film_file))
    yield started
    started.close()


@contextmanager
def page_in_front_of(url: str) -> Iterator[str]:
    """Run the page's server in front of another server than TorchServe; yield its URL."""
    from spoter.webpage.app import make_site

    with listening(make_site(ROOT / "web", url, 10**6)) as page_url:
        yield page_url


@dataclass
class Tab:
    """An open page, its requests, and its errors on the console."""

    page: object
    requests: list[str] = field(default_factory=list)
    console: list[str] = field(default_factory=list)

    def state(self, name: str, value: str) -> None:
        """Wait until the body's `data-<name>` is `value`."""
        self.page.wait_for_selector(f'body[data-{name}="{value}"]', timeout=WAIT, state="attached")

    def answers(self, count: int) -> None:
        """Wait until the page has received `count` answers."""
        self.until(f"Number(document.body.dataset.answers) >= {count}")

    def upload(self, file: Path) -> None:
        """Give the page a file, and wait for the answer."""
        self.state("state", "idle")
        before = int(self.page.evaluate("Number(document.body.dataset.answers)"))
        self.page.set_input_files("#file-input", file)
        self.answers(before + 1)

    def until(self, expression: str) -> None:
        """Wait until an expression is true. Playwright's wait_for_function needs eval, which the page forbids."""
        deadline = time.monotonic() + WAIT / 1000
        while not self.page.evaluate(expression):
            messages = self.page.inner_text("#messages")
            assert time.monotonic() < deadline, f"{expression} did not become true; messages of the page: {messages}"
            self.page.wait_for_timeout(50)

    def message(self, code: str):
        """Wait for a message and return its element."""
        return self.page.wait_for_selector(f'#messages .message[data-code="{code}"]', timeout=WAIT)

    def glosses(self) -> list[str]:
        """Return the glosses of the answer, best first."""
        return self.page.eval_on_selector_all("#answer-list li", "rows => rows.map(row => row.dataset.gloss)")

    def verdict(self) -> str:
        return self.page.get_attribute("#answer", "data-known")

    def foreign_requests(self, *allowed: str) -> list[str]:
        """Return the URLs of requests to other origins than the page's and those `allowed`."""
        origin = "/".join(self.page.url.split("/")[:3])
        prefixes = ("data:", "blob:", origin, *allowed)
        return [url for url in self.requests if not url.startswith(prefixes)]


@contextmanager
def open_tab(
    browser, url: str, allowed: tuple[str, ...] = (), failing: bool = False, script: str = "", **options
) -> Iterator[Tab]:
    """Open a page in a new context; fail if it sent forbidden requests or wrote errors to the console.

    Parameters
    ----------
    allowed : tuple of str
        Other origins to which it may send requests.
    failing : bool
        Whether requests of the test fail, which the browser reports on the console.
    script : str
        JavaScript to run before the page's scripts.
    options
        Options of Playwright's context.
    """
    context = browser.new_context(**({"locale": "en-GB"} | options))
    page = context.new_page()
    page.add_init_script(script)
    page.set_default_timeout(WAIT)
    tab = Tab(page)
    page.on("request", lambda request: tab.requests.append(request.url))
    page.on("console", lambda line: tab.console.append(line.text) if line.type == "error" else None)
    page.on("pageerror", lambda error: tab.console.append(str(error)))
    try:
        page.goto(url)
        page.wait_for_selector('body:not([data-state="loading"])', timeout=WAIT, state="attached")
        yield tab
        assert tab.foreign_requests(*allowed) == []
        errors = [line for line in tab.console if not MEDIAPIPE_LOG.match(line)]
        assert [line for line in errors if not (failing and line.startswith("Failed to load resource"))] == []
    finally:
        context.close()


@pytest.fixture(scope="package")
def reader(browser, demo: Demo) -> Iterator[Tab]:
    """One page for all videos, so that MediaPipe is loaded only once."""
    with open_tab(browser, demo.url) as tab:
        yield tab


@pytest.fixture
def tab(browser, demo: Demo) -> Iterator[Tab]:
    with open_tab(browser, demo.url) as tab:
        yield tab
