"""The page without a camera: landmark files, videos, taught signs, other endpoints, and errors."""

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
from tests.webpage.conftest import open_tab, page_in_front_of


class _OtherServer(BaseHTTPRequestHandler):
    """A server that is not SPOTER; the path selects its response."""

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


def test_the_page_lists_the_models_signs(tab, dgs11):
    tab.state("model", "known")
    listed = tab.page.eval_on_selector_all("#signs-list li", "rows => rows.map(row => row.dataset.gloss)")
    assert sorted(listed) == sorted(json.loads((dgs11 / "meaning.json").read_text()).values())
    assert "dgs11" in tab.page.inner_text("#model-name")


@pytest.mark.parametrize(
    ("file", "gloss"),
    [
        ("hallo.json", "HALLO"),
        ("zeigen-compact.json", "ZEIGEN"),
        ("deutschland.csv", "DEUTSCHLAND"),
        ("software.npy", "SOFTWARE"),
    ],
)
def test_a_landmark_file_is_answered(tab, samples, file, gloss):
    tab.page.set_input_files("#file-input", samples / file)
    tab.answers(1)
    assert tab.glosses()[0] == gloss and tab.verdict() == "true"
    rows = tab.page.eval_on_selector_all("#answer-list li", "rows => rows.map(row => Number(row.dataset.score))")
    assert rows == sorted(rows, reverse=True) and rows[0] > 0.9
    assert tab.page.inner_text("#answer-list li >> nth=0").count(gloss) == 1
    assert tab.page.get_attribute("#clip", "data-source") == "file"


def test_a_video_is_read_frame_by_frame_and_rest_is_cut_off(reader, video_file, greeting, tmp_path):
    reader.upload(video_file)
    assert reader.glosses()[0] == "HALLO"
    assert reader.page.get_attribute("#clip", "data-source") == "video"
    count = int(reader.page.get_attribute("#clip", "data-frames"))
    assert 9 <= count < len(greeting)
    assert f"{len(greeting) - count} of {len(greeting)}" in reader.page.inner_text("#clip-rest")
    files = []
    for button in ("download-compact", "download-all"):
        with reader.page.expect_download() as download:
            reader.page.click(f"#{button}")
        files.append(tmp_path / f"{button}.json")
        download.value.save_as(files[-1])
    assert read_clip(files[0]).shape == (count, 54, 2)
    assert read_clip(files[1]).shape == (len(greeting), 543, 2)


def test_reading_a_video_can_be_canceled_by_keyboard(reader, video_file):
    """The focus moves on when the cancel button is hidden."""
    reader.state("state", "idle")
    clips = reader.page.get_attribute("body", "data-clips")
    reader.page.set_input_files("#file-input", video_file)
    reader.page.focus("#cancel-button")
    reader.page.keyboard.press("Enter")
    reader.message("cancelled")
    reader.state("state", "idle")
    assert reader.page.get_attribute("body", "data-clips") == clips
    assert reader.page.evaluate("document.activeElement.id") == "record-button"


def test_an_unknown_sign_is_reported(tab, samples, tmp_path):
    clip = write_clip(tmp_path / "turned.json", upside_down(read_sample(samples, "HALLO")))
    tab.page.set_input_files("#file-input", clip)
    tab.answers(1)
    assert tab.verdict() == "false" and tab.page.get_attribute("#answer", "data-slow") is None
    assert tab.page.is_visible("#verdict") and tab.page.inner_text("#verdict").strip()


def test_a_low_frame_rate_is_given_as_the_reason(tab, samples, tmp_path):
    clip = write_clip(tmp_path / "turned.json", upside_down(read_sample(samples, "HALLO")))
    clip.write_text(json.dumps(json.loads(clip.read_text()) | {"fps": 12.5}))
    tab.page.set_input_files("#file-input", clip)
    tab.answers(1)
    assert tab.verdict() == "false" and tab.page.get_attribute("#answer", "data-slow") is not None
    text = tab.page.inner_text("#verdict")
    assert "12.5" in text and "15" in text
    tab.page.set_input_files("#file-input", samples / "hallo.json")
    tab.answers(2)
    assert tab.verdict() == "true" and tab.page.get_attribute("#answer", "data-slow") is None


def test_the_previous_answer_stays_until_the_next_arrives(browser, demo, samples, tmp_path):
    """A failed request removes it."""
    with open_tab(browser, demo.url, failing=True) as tab:
        tab.page.set_input_files("#file-input", samples / "hallo.json")
        tab.answers(1)
        tab.page.evaluate(
            "window.known = []; new MutationObserver(() => known.push(document.getElementById('answer').dataset.known))"
            ".observe(document.getElementById('answer'), { attributes: true })"
        )
        tab.page.set_input_files("#file-input", samples / "zeigen-compact.json")
        tab.answers(2)
        assert "none" not in tab.page.evaluate("known")
        tab.page.set_input_files("#file-input", {"name": "clip.json", "mimeType": "", "buffer": b"{"})
        tab.message("server_refused")
        tab.state("state", "idle")
        tab.until("document.getElementById('answer').dataset.known === 'none'")
        assert tab.glosses() == []


def test_a_taught_sign_is_learned_and_recognized(browser, demo, samples, tmp_path):
    points = read_sample(samples, "HALLO")
    with open_tab(browser, demo.url) as tab:
        tab.state("model", "known")
        page = tab.page
        page.fill("#teach-name", "GREETING")
        for number in range(3):
            page.set_input_files("#teach-file", write_clip(tmp_path / f"{number}.json", upside_down(points, number)))
            tab.until(f"document.querySelectorAll('#teach-examples li').length === {number + 1}")
        page.click("#teach-learn")
        page.wait_for_selector('#teach-list li[data-gloss="GREETING"]', state="attached")
        tab.message("learned")
        page.wait_for_selector('#signs-list li[data-gloss="GREETING"][data-enrolled]', state="attached")
        another = write_clip(tmp_path / "another.json", upside_down(points, 9))
        page.set_input_files("#file-input", another)
        tab.answers(1)
        assert tab.glosses()[0] == "GREETING" and tab.verdict() == "true"
        page.reload()  # the browser keeps the sign, the server does not
        page.wait_for_selector('#signs-list li[data-gloss="GREETING"]', state="attached")
        page.set_input_files("#file-input", another)
        tab.answers(1)
        assert tab.glosses()[0] == "GREETING"
        with page.expect_download() as download:
            page.click("#teach-download")
        download.value.save_as(tmp_path / "enrolled.json")
        assert "GREETING" in (tmp_path / "enrolled.json").read_text()
        page.click('#teach-list li[data-gloss="GREETING"] button.remove')
        page.wait_for_selector('#signs-list li[data-gloss="GREETING"]', state="detached")
        page.set_input_files("#file-input", another)
        tab.answers(2)
        assert tab.glosses()[0] != "GREETING"


def test_a_clip_is_answered_although_signs_of_another_model_are_refused(browser, demo, samples, tmp_path):
    """Weights can change under the same name and version. The page shows a sign's name as text, not as HTML."""
    name = "<img src=x onerror=alert(1)>"
    key = "spoter.fewshot.enrolled:" + json.dumps(["dgs11", "1.1"], separators=(",", ":"))
    enrolled = {"space": "other", "glosses": [{"gloss": name, "clips": 3, "prototype": [1.0, 0.0]}]}
    put = f"localStorage[{json.dumps(key)}] ??= {json.dumps(json.dumps(enrolled))}"
    points = read_sample(samples, "HALLO")
    with open_tab(browser, demo.url, script=put, failing=True) as tab:
        page = tab.page
        page.wait_for_selector("#signs-list li[data-enrolled]", state="attached")
        assert name in page.inner_text("#signs-list") and page.query_selector("#teach-list img") is None
        page.set_input_files("#file-input", write_clip(tmp_path / "clip.json", points))
        tab.message("enrolled_unusable")
        tab.answers(1)
        assert tab.glosses()[0] == "HALLO"
        assert page.query_selector("#signs-list li[data-enrolled]") is None
        page.fill("#teach-name", "GREETING")
        examples = [write_clip(tmp_path / f"{number}.json", upside_down(points, number)) for number in range(3)]
        page.set_input_files("#teach-file", examples)
        tab.until("document.querySelectorAll('#teach-examples li').length === 3")
        page.click("#teach-learn")
        assert name in tab.message("enrolled_dropped").inner_text()
        assert page.eval_on_selector_all("#teach-list li", "rows => rows.map(row => row.dataset.gloss)") == ["GREETING"]


def test_a_browser_without_storage_is_reported(browser, demo, samples, tmp_path):
    refuse = (
        "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('no', 'SecurityError'); } })"
    )
    points = read_sample(samples, "HALLO")
    with open_tab(browser, demo.url, script=refuse) as tab:
        tab.state("model", "known")
        tab.page.fill("#teach-name", "GREETING")
        examples = [write_clip(tmp_path / f"{number}.json", upside_down(points, number)) for number in range(4)]
        tab.page.set_input_files("#teach-file", examples[:3])
        tab.until("document.querySelectorAll('#teach-examples li').length === 3")
        tab.page.click("#teach-learn")
        tab.message("storage_full")
        tab.page.set_input_files("#file-input", examples[3])
        tab.answers(1)
        assert tab.glosses()[0] == "GREETING"


def test_a_server_that_is_down_is_reported(browser, demo, samples):
    with page_in_front_of(f"http://{LOOPBACK}:{free_port()}/") as url, open_tab(browser, url, failing=True) as tab:
        tab.state("model", "unknown")
        tab.page.set_input_files("#file-input", samples / "hallo.json")
        tab.message("server_down")
        tab.state("state", "idle")
        assert tab.glosses() == []


def test_another_server_at_the_address_is_reported(browser, demo, samples):
    server = ThreadingHTTPServer((LOOPBACK, 0), _OtherServer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        for path in ("page", "list", "moved"):
            with (
                page_in_front_of(f"http://{LOOPBACK}:{server.server_port}/{path}") as url,
                open_tab(browser, url, failing=True) as tab,
            ):
                tab.state("model", "unknown")
                tab.page.set_input_files("#file-input", samples / "hallo.json")
                tab.message("server_other")
                tab.state("state", "idle")
    finally:
        server.shutdown()
        server.server_close()


def test_another_endpoint_answers_across_origins(browser, demo, samples):
    """TorchServe has another port, and so another origin, like an API Gateway URL."""
    torchserve = f"http://{LOOPBACK}:{demo.torchserve}"
    with open_tab(browser, demo.url, allowed=(torchserve,)) as tab:
        tab.state("model", "known")
        tab.page.click("#settings > summary")
        tab.page.fill("#endpoint", f"{torchserve}/predictions/spoter")
        tab.page.click("#settings-apply")
        tab.state("model", "known")  # `unknown` until the new server has described its model
        tab.page.set_input_files("#file-input", samples / "hallo.json")
        tab.answers(1)
        assert tab.glosses()[0] == "HALLO"
        assert any(url.startswith(torchserve) for url in tab.requests)


def test_the_documented_function_works_only_in_a_page_of_the_allowed_origin(browser, demo):
    """The demo's TorchServe allows the page's origin, like the documented setting, but no other port's origin."""
    document = (ROOT / "docs" / "send-landmarks.md").read_text(encoding="utf-8")
    assert "make serve SPOTER_CORS_ORIGIN=" in document
    code, output = re.search(r"^```js\n(.*?)^```\n\n```\n(.*?)^```\n", document, re.DOTALL | re.MULTILINE).groups()
    code = code.replace(":8080", f":{demo.torchserve}")
    torchserve = f"http://{LOOPBACK}:{demo.torchserve}"
    printed = []
    with open_tab(browser, demo.url, allowed=(torchserve,)) as tab:
        tab.page.on("console", lambda line: printed.append(line.text))
        tab.page.evaluate(f"async () => {{ {code} }}")
    assert printed == output.splitlines()
    with (
        page_in_front_of(f"{torchserve}/predictions/spoter") as url,
        open_tab(browser, url, allowed=(torchserve,), failing=True) as tab,
    ):
        error = tab.page.evaluate(f"async () => {{ try {{ {code} }} catch (error) {{ return error.name; }} }}")
        assert error == "TypeError"
        tab.console[:] = [line for line in tab.console if "CORS" not in line]


@pytest.mark.parametrize("address", ["http://192.168.0.9:8080/", "ftp://127.0.0.1/", "https://"])
def test_a_forbidden_address_is_reported(reader, address):
    """The page's content security policy would block it without a message."""
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


def test_an_endpoint_that_refuses_connections_is_reported(browser, demo, samples):
    endpoint = f"http://{LOOPBACK}:{free_port()}"
    with open_tab(browser, demo.url, allowed=(endpoint,), failing=True) as tab:
        tab.page.click("#settings > summary")
        tab.page.fill("#endpoint", f"{endpoint}/predictions/spoter")
        tab.page.click("#settings-apply")
        tab.state("model", "unknown")
        tab.page.set_input_files("#file-input", samples / "hallo.json")
        tab.message("server_down")


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
def test_an_unusable_file_is_reported(browser, demo, tmp_path: Path, name, content, code):
    (tmp_path / name).write_bytes(content)
    with open_tab(browser, demo.url, failing=True) as tab:
        tab.page.set_input_files("#file-input", tmp_path / name)
        tab.message(code)
        tab.state("state", "idle")
