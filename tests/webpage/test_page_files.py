"""The page without a camera: landmark files, videos, signs of one's own, other endpoints, and what goes wrong."""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from spoter.ops.ports import LOOPBACK, free_port
from tests import ROOT
from tests.webpage.camera import read_sample
from tests.webpage.clips import read_clip, upside_down, write_clip
from tests.webpage.conftest import page_before, watched


class _Stranger(BaseHTTPRequestHandler):
    """A server that is there and is another one: its answer is told by the path."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = {"/page": b"<!doctype html><p>Welcome", "/list": b"[1, 2]", "/moved": b""}[self.path]
        self.send_response(302 if self.path == "/moved" else 200)
        self.send_header("Location", "/page")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_) -> None:
        pass


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


def test_a_video_is_read_frame_by_frame_and_rest_is_left_out(reader, video_file, greeting, tmp_path):
    reader.asked_about(video_file)
    assert reader.glosses()[0] == "HALLO"
    assert reader.page.get_attribute("#clip", "data-source") == "video"
    kept = int(reader.page.get_attribute("#clip", "data-frames"))
    assert 9 <= kept < len(greeting)
    assert f"{len(greeting) - kept} of {len(greeting)}" in reader.page.inner_text("#clip-rest")
    files = []
    for button in ("download-compact", "download-all"):
        with reader.page.expect_download() as download:
            reader.page.click(f"#{button}")
        files.append(tmp_path / f"{button}.json")
        download.value.save_as(files[-1])
    assert read_clip(files[0]).shape == (kept, 54, 2)
    assert read_clip(files[1]).shape == (len(greeting), 543, 2)


def test_reading_a_video_can_be_ended_by_keyboard(reader, video_file):
    """And the focus is not lost with the button."""
    reader.state("state", "idle")
    clips = reader.page.get_attribute("body", "data-clips")
    reader.page.set_input_files("#file-input", video_file)
    reader.page.focus("#cancel-button")
    reader.page.keyboard.press("Enter")
    reader.message("cancelled")
    reader.state("state", "idle")
    assert reader.page.get_attribute("body", "data-clips") == clips
    assert reader.page.evaluate("document.activeElement.id") == "record-button"


def test_what_is_none_of_the_signs_is_said(page, samples, tmp_path):
    clip = write_clip(tmp_path / "turned.json", upside_down(read_sample(samples, "HALLO")))
    page.page.set_input_files("#file-input", clip)
    page.answers(1)
    assert page.verdict() == "false" and page.page.get_attribute("#answer", "data-slow") is None
    assert page.page.is_visible("#verdict") and page.page.inner_text("#verdict").strip()


def test_a_clip_of_few_frames_a_second_gets_the_reason(page, samples, tmp_path):
    clip = write_clip(tmp_path / "turned.json", upside_down(read_sample(samples, "HALLO")))
    clip.write_text(json.dumps(json.loads(clip.read_text()) | {"fps": 12.5}))
    page.page.set_input_files("#file-input", clip)
    page.answers(1)
    assert page.verdict() == "false" and page.page.get_attribute("#answer", "data-slow") is not None
    text = page.page.inner_text("#verdict")
    assert "12.5" in text and "15" in text
    page.page.set_input_files("#file-input", samples / "hallo.json")
    page.answers(2)
    assert page.verdict() == "true" and page.page.get_attribute("#answer", "data-slow") is None


def test_the_last_answer_stays_until_the_next_comes(browser, demo, samples, tmp_path):
    """And goes where none comes."""
    with watched(browser, demo.url, failing=True) as seen:
        seen.page.set_input_files("#file-input", samples / "hallo.json")
        seen.answers(1)
        seen.page.evaluate(
            "window.known = []; new MutationObserver(() => known.push(document.getElementById('answer').dataset.known))"
            ".observe(document.getElementById('answer'), { attributes: true })"
        )
        seen.page.set_input_files("#file-input", samples / "zeigen-compact.json")
        seen.answers(2)
        assert "none" not in seen.page.evaluate("known")
        seen.page.set_input_files("#file-input", {"name": "clip.json", "mimeType": "", "buffer": b"{"})
        seen.message("server_refused")
        seen.state("state", "idle")
        seen.until("document.getElementById('answer').dataset.known === 'none'")
        assert seen.glosses() == []


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


def test_signs_of_another_model_are_refused_and_the_rest_is_answered(browser, demo, samples, tmp_path):
    """As when the model's weights were changed under the same name and version. The name of the sign stays text."""
    name = "<img src=x onerror=alert(1)>"
    key = "spoter.fewshot.enrolled:" + json.dumps(["dgs11", "1.1"], separators=(",", ":"))
    kept = {"space": "other", "glosses": [{"gloss": name, "clips": 3, "prototype": [1.0, 0.0]}]}
    put = f"localStorage[{json.dumps(key)}] ??= {json.dumps(json.dumps(kept))}"
    points = read_sample(samples, "HALLO")
    with watched(browser, demo.url, script=put, failing=True) as seen:
        page = seen.page
        page.wait_for_selector("#signs-list li[data-enrolled]", state="attached")
        assert name in page.inner_text("#signs-list") and page.query_selector("#teach-list img") is None
        page.set_input_files("#file-input", write_clip(tmp_path / "clip.json", points))
        seen.message("enrolled_unusable")
        seen.answers(1)
        assert seen.glosses()[0] == "HALLO"
        assert page.query_selector("#signs-list li[data-enrolled]") is None
        page.fill("#teach-name", "GREETING")
        examples = [write_clip(tmp_path / f"{number}.json", upside_down(points, number)) for number in range(3)]
        page.set_input_files("#teach-file", examples)
        seen.until("document.querySelectorAll('#teach-examples li').length === 3")
        page.click("#teach-learn")
        assert name in seen.message("enrolled_dropped").inner_text()
        assert page.eval_on_selector_all("#teach-list li", "rows => rows.map(row => row.dataset.gloss)") == ["GREETING"]


def test_a_browser_that_stores_nothing_is_said(browser, demo, samples, tmp_path):
    refuse = (
        "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('no', 'SecurityError'); } })"
    )
    points = read_sample(samples, "HALLO")
    with watched(browser, demo.url, script=refuse) as seen:
        seen.state("model", "known")
        seen.page.fill("#teach-name", "GREETING")
        examples = [write_clip(tmp_path / f"{number}.json", upside_down(points, number)) for number in range(4)]
        seen.page.set_input_files("#teach-file", examples[:3])
        seen.until("document.querySelectorAll('#teach-examples li').length === 3")
        seen.page.click("#teach-learn")
        seen.message("storage_full")
        seen.page.set_input_files("#file-input", examples[3])
        seen.answers(1)
        assert seen.glosses()[0] == "GREETING"


def test_a_server_that_is_down_is_said(browser, demo, samples):
    with page_before(f"http://{LOOPBACK}:{free_port()}/") as url, watched(browser, url, failing=True) as seen:
        seen.state("model", "unknown")
        seen.page.set_input_files("#file-input", samples / "hallo.json")
        seen.message("server_down")
        seen.state("state", "idle")
        assert seen.glosses() == []


def test_a_stranger_at_the_address_is_said(browser, demo, samples):
    server = ThreadingHTTPServer((LOOPBACK, 0), _Stranger)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        for path in ("page", "list", "moved"):
            with (
                page_before(f"http://{LOOPBACK}:{server.server_port}/{path}") as url,
                watched(browser, url, failing=True) as seen,
            ):
                seen.state("model", "unknown")
                seen.page.set_input_files("#file-input", samples / "hallo.json")
                seen.message("server_other")
                seen.state("state", "idle")
    finally:
        server.shutdown()
        server.server_close()


def test_another_endpoint_is_asked_across_origins(browser, demo, samples):
    """TorchServe itself, on another port and so of another origin, as it is with an API Gateway's URL."""
    torchserve = f"http://{LOOPBACK}:{demo.torchserve}"
    with watched(browser, demo.url, allowed=(torchserve,)) as seen:
        seen.state("model", "known")
        seen.page.click("#settings > summary")
        seen.page.fill("#endpoint", f"{torchserve}/predictions/spoter")
        seen.page.click("#settings-apply")
        seen.state("model", "known")  # anew: until this server has said so, it is unknown
        seen.page.set_input_files("#file-input", samples / "hallo.json")
        seen.answers(1)
        assert seen.glosses()[0] == "HALLO"
        assert any(url.startswith(torchserve) for url in seen.requests)


def test_the_documented_function_works_in_a_page_of_the_allowed_origin_only(browser, demo):
    """The demo's TorchServe allows the page's origin, as the documented setting does, and not that of another port."""
    document = (ROOT / "docs" / "send-landmarks.md").read_text(encoding="utf-8")
    assert "make serve SPOTER_CORS_ORIGIN=" in document
    code, shown = re.search(r"^```js\n(.*?)^```\n\n```\n(.*?)^```\n", document, re.DOTALL | re.MULTILINE).groups()
    code = code.replace(":8080", f":{demo.torchserve}")
    torchserve = f"http://{LOOPBACK}:{demo.torchserve}"
    said = []
    with watched(browser, demo.url, allowed=(torchserve,)) as seen:
        seen.page.on("console", lambda line: said.append(line.text))
        seen.page.evaluate(f"async () => {{ {code} }}")
    assert said == shown.splitlines()
    with (
        page_before(f"{torchserve}/predictions/spoter") as url,
        watched(browser, url, allowed=(torchserve,), failing=True) as seen,
    ):
        refused = seen.page.evaluate(f"async () => {{ try {{ {code} }} catch (error) {{ return error.name; }} }}")
        assert refused == "TypeError"
        seen.console[:] = [line for line in seen.console if "CORS" not in line]


@pytest.mark.parametrize("address", ["http://192.168.0.9:8080/", "ftp://127.0.0.1/", "https://"])
def test_an_address_that_cannot_be_asked_is_said(reader, address):
    """The page's policy would bar it without a word."""
    reader.state("model", "known")
    reader.page.eval_on_selector("#settings", "details => { details.open = true; }")
    reader.page.fill("#endpoint", address)
    reader.page.keyboard.press("Enter")
    reader.message("bad_endpoint")
    assert reader.page.evaluate("document.activeElement.id") == "endpoint"
    reader.page.fill("#endpoint", "")
    reader.page.keyboard.press("Enter")
    reader.page.wait_for_selector('#messages [data-code="bad_endpoint"]', state="detached")
    reader.state("model", "known")


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
        ("clip.mov", b"", "bad_video"),
        ("clip.npy", b"", "server_refused"),
        ("clip.xlsx", b"PK", "file_type_unknown"),
    ],
)
def test_a_file_that_cannot_be_used_is_said(browser, demo, tmp_path: Path, name, content, code):
    (tmp_path / name).write_bytes(content)
    with watched(browser, demo.url, failing=True) as seen:
        seen.page.set_input_files("#file-input", tmp_path / name)
        seen.message(code)
        seen.state("state", "idle")
