"""The page without a camera: landmark files, videos, signs of one's own, other endpoints, and what goes wrong."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from web.camera import read_sample
from web.clips import read_clip, upside_down, write_clip
from web.conftest import ROOT, watched

from handler.process import LOOPBACK, free_port


@pytest.fixture(scope="module")
def orphan() -> Iterator[str]:
    """The page's own server, with nothing where TorchServe should be; yields its URL."""
    import uvicorn

    from page.site import make_site

    site = make_site(ROOT / "web", f"http://{LOOPBACK}:{free_port()}/predictions/spoter", 10**6)
    server = uvicorn.Server(uvicorn.Config(site, log_level="error"))
    listening = socket.create_server((LOOPBACK, 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    yield f"http://{LOOPBACK}:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join(30)


def test_the_page_lists_what_the_model_knows(page, dgs11):
    page.state("model", "known")
    listed = page.page.eval_on_selector_all("#signs-list li", "rows => rows.map(row => row.dataset.gloss)")
    assert sorted(listed) == sorted(json.loads((dgs11 / "meaning.json").read_text()).values())
    assert "dgs11" in page.page.inner_text("#model-name")


@pytest.mark.parametrize(
    ("file", "gloss"),
    [
        ("hallo.json", "HALLO"),
        ("zeigen-compact.json", "ZEIGEN"),
        ("deutschland.csv", "DEUTSCHLAND"),
        ("software.npy", "SOFTWARE"),
    ],
)
def test_a_landmark_file_is_answered_as_the_server_says(page, samples, file, gloss):
    page.page.set_input_files("#file-input", samples / file)
    page.answers(1)
    assert page.glosses()[0] == gloss and page.verdict() == "true"
    rows = page.page.eval_on_selector_all("#answer-list li", "rows => rows.map(row => Number(row.dataset.score))")
    assert rows == sorted(rows, reverse=True) and rows[0] > 0.9
    assert page.page.inner_text("#answer-list li >> nth=0").count(gloss) == 1
    assert page.page.get_attribute("#clip", "data-source") == "file"


def test_a_video_is_read_frame_by_frame(page, video_file, greeting, tmp_path):
    page.page.set_input_files("#file-input", video_file)
    page.answers(1)
    assert page.glosses()[0] == "HALLO"
    assert page.page.get_attribute("#clip", "data-source") == "video"
    assert int(page.page.get_attribute("#clip", "data-frames")) == len(greeting)
    with page.page.expect_download() as download:
        page.page.click("#download-compact")
    download.value.save_as(tmp_path / "clip.json")
    assert read_clip(tmp_path / "clip.json").shape == (len(greeting), 54, 2)


def test_what_is_none_of_the_signs_is_said(page, samples, tmp_path):
    clip = write_clip(tmp_path / "turned.json", upside_down(read_sample(samples, "HALLO")))
    page.page.set_input_files("#file-input", clip)
    page.answers(1)
    assert page.verdict() == "false"
    assert page.page.is_visible("#verdict") and page.page.inner_text("#verdict").strip()


def test_a_sign_of_ones_own_is_learned_and_recognised(browser, demo, samples, tmp_path):
    points = read_sample(samples, "HALLO")
    with watched(browser, demo.url) as seen:
        seen.state("model", "known")
        page = seen.page
        page.fill("#teach-name", "GREETING")
        for number in range(3):
            page.set_input_files("#teach-file", write_clip(tmp_path / f"{number}.json", upside_down(points, number)))
            seen.until(f"document.querySelectorAll('#teach-examples li').length === {number + 1}")
        page.click("#teach-learn")
        page.wait_for_selector('#teach-list li[data-gloss="GREETING"]', state="attached")
        seen.message("learned")
        page.wait_for_selector('#signs-list li[data-gloss="GREETING"][data-enrolled]', state="attached")
        another = write_clip(tmp_path / "another.json", upside_down(points, 9))
        page.set_input_files("#file-input", another)
        seen.answers(1)
        assert seen.glosses()[0] == "GREETING" and seen.verdict() == "true"
        page.reload()  # the browser keeps it, the server does not
        page.wait_for_selector('#signs-list li[data-gloss="GREETING"]', state="attached")
        page.set_input_files("#file-input", another)
        seen.answers(1)
        assert seen.glosses()[0] == "GREETING"
        with page.expect_download() as download:
            page.click("#teach-download")
        download.value.save_as(tmp_path / "enrolled.json")
        assert "GREETING" in (tmp_path / "enrolled.json").read_text()
        page.click('#teach-list li[data-gloss="GREETING"] button.remove')
        page.wait_for_selector('#signs-list li[data-gloss="GREETING"]', state="detached")
        page.set_input_files("#file-input", another)
        seen.answers(2)
        assert seen.glosses()[0] != "GREETING"


def test_a_server_that_is_down_is_said(browser, orphan, samples):
    with watched(browser, orphan, failing=True) as seen:
        seen.state("model", "unknown")
        seen.page.set_input_files("#file-input", samples / "hallo.json")
        seen.message("server_down")
        seen.state("state", "idle")
        assert seen.glosses() == []


def test_another_endpoint_is_asked_across_origins(browser, demo, samples):
    """TorchServe itself, on another port and so of another origin, as it is with an API Gateway's URL."""
    torchserve = f"http://{LOOPBACK}:{demo.torchserve}"
    with watched(browser, demo.url, allowed=(torchserve,)) as seen:
        seen.state("model", "known")
        seen.page.click("#settings > summary")
        seen.page.fill("#endpoint", f"{torchserve}/predictions/spoter")
        seen.page.click("#settings-apply")
        seen.state("model", "known")
        seen.page.set_input_files("#file-input", samples / "hallo.json")
        seen.answers(1)
        assert seen.glosses()[0] == "HALLO"
        assert any(url.startswith(torchserve) for url in seen.requests)


def test_an_endpoint_where_nobody_listens_is_said(browser, demo, samples):
    elsewhere = f"http://{LOOPBACK}:{free_port()}"
    with watched(browser, demo.url, allowed=(elsewhere,), failing=True) as seen:
        seen.page.click("#settings > summary")
        seen.page.fill("#endpoint", f"{elsewhere}/predictions/spoter")
        seen.page.click("#settings-apply")
        seen.state("model", "unknown")
        seen.page.set_input_files("#file-input", samples / "hallo.json")
        seen.message("server_down")


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("clip.json", b"{", "server_refused"),
        ("clip.json", b'{"layout": "29", "points": []}', "server_refused"),
        ("clip.webm", b"no video at all", "bad_video"),
        ("clip.xlsx", b"PK", "file_type_unknown"),
    ],
)
def test_a_file_that_cannot_be_used_is_said(browser, demo, tmp_path: Path, name, content, code):
    (tmp_path / name).write_bytes(content)
    with watched(browser, demo.url, failing=True) as seen:
        seen.page.set_input_files("#file-input", tmp_path / name)
        seen.message(code)
        seen.state("state", "idle")
