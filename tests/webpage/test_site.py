"""spoter/webpage/app.py: the files and headers that the page's server sends, and the requests that it forwards."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from starlette.testclient import TestClient

from spoter.ops.ports import LOOPBACK, free_port
from spoter.webpage.app import MEDIAPIPE, PREDICTIONS, make_site

MAX_BYTES = 1000
BASE = "http://127.0.0.1:8088"


class _Echo(BaseHTTPRequestHandler):
    """Replaces TorchServe and records the forwarded requests."""

    def do_POST(self) -> None:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while length := int(self.rfile.readline(), 16):
                body += self.rfile.read(length)
                self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((dict(self.headers), body))
        self.send_response(503)
        self.send_header("Content-Type", "application/json")
        self.send_header("Retry-After", "1")
        self.send_header("Server-Secret", "x")
        self.end_headers()
        self.wfile.write(b'{"answer": 1}')

    def log_message(self, *_) -> None:
        pass


@pytest.fixture(scope="module")
def echo() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer((LOOPBACK, 0), _Echo)
    server.requests = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def web(tmp_path_factory) -> Path:
    """A folder like web/ with installed packages."""
    folder = tmp_path_factory.mktemp("web")
    packages = folder / MEDIAPIPE
    packages.mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html><title>page</title>")
    (folder / "app.js").write_text("export {};")
    (folder / "engine-worker.js").write_text("")
    (folder / "README.md").write_text("not for browsers")
    (folder / ".npmrc").write_text("secret=1")
    (folder / "parts").mkdir()
    (folder / "parts" / "es.json").write_text("{}")
    for ending in ("wasm", "data", "binarypb", "tflite", "js"):
        (packages / f"holistic.{ending}").write_bytes(b"\0" * 16)
    (folder.parent / "outside.js").write_text("outside")
    (folder / "link.js").symlink_to(folder.parent / "outside.js")
    return folder


@pytest.fixture(scope="module")
def client(web: Path, echo: ThreadingHTTPServer) -> Iterator[TestClient]:
    url = f"http://{LOOPBACK}:{echo.server_port}/predictions/spoter"
    with TestClient(make_site(web, url, MAX_BYTES, lambda: "abc"), base_url=BASE) as client:
        yield client


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/app.js", "text/javascript; charset=utf-8"),
        ("/parts/es.json", "application/json"),
        ("/mp/holistic.js", "text/javascript; charset=utf-8"),
        ("/mp/holistic.wasm", "application/wasm"),
        ("/mp/holistic.data", "application/octet-stream"),
        ("/mp/holistic.binarypb", "application/octet-stream"),
        ("/mp/holistic.tflite", "application/octet-stream"),
    ],
)
def test_a_file_has_its_media_type_and_is_cached_by_etag(client, path, media_type):
    first = client.get(path)
    assert (first.status_code, first.headers["content-type"]) == (200, media_type)
    assert first.headers["cache-control"] == "no-cache"
    again = client.get(path, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "path",
    [
        "/.npmrc",
        "/README.md",
        "/parts",
        "/parts/",
        "/mp/",
        "/node_modules/@mediapipe/holistic/holistic.js",
        "/parts/../.npmrc",
        "/%2e%2e/outside.js",
        "/mp/..%2f..%2f..%2fREADME.md",
        "/link.js",
        "/absent.js",
    ],
)
def test_other_paths_are_not_found(client, path):
    assert client.get(path).status_code == 404


def test_every_response_has_the_security_headers(client):
    for answer in (client.get("/"), client.get("/absent"), client.post(PREDICTIONS, content=b"{}")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "camera=(self)" in answer.headers["permissions-policy"]
        assert answer.headers["content-security-policy"] == "frame-ancestors 'none'"


def test_the_worker_may_load_only_from_the_same_origin(client):
    policies = client.get("/engine-worker.js").headers.get_list("content-security-policy")
    assert "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; connect-src 'self'" in policies


@pytest.mark.parametrize(
    ("host", "status"),
    [("127.0.0.1:8088", 200), ("localhost:8088", 200), ("evil.example", 400), ("127.0.0.1.evil.example:8088", 400)],
)
def test_other_host_names_are_refused(client, host, status):
    """DNS rebinding: a foreign host name that resolves to 127.0.0.1 would get the page's permissions."""
    assert client.get("/", headers={"Host": host}).status_code == status


def test_a_request_is_forwarded_with_the_token_and_the_response_returned(client, echo):
    headers = {"Content-Type": "text/csv", "Accept": "text/csv", "X-Amzn-SageMaker-Custom-Attributes": "top_k=2"}
    other_headers = {"Cookie": "a=b", "Authorization": "Bearer other", "Origin": BASE}
    answer = client.post(PREDICTIONS, content=b"a,b\n", headers=headers | other_headers)
    assert (answer.status_code, answer.json()) == (503, {"answer": 1})
    assert answer.headers["retry-after"] == "1" and "server-secret" not in answer.headers
    sent, body = echo.requests[-1]
    assert body == b"a,b\n"
    assert {name: sent.get(name.lower(), sent.get(name)) for name in headers} == headers
    assert sent["authorization"] == "Bearer abc" and "cookie" not in {name.lower() for name in sent}


def test_requests_of_other_origins_are_refused(client, echo):
    before = len(echo.requests)
    for origin in ("http://evil.example", "null", "http://127.0.0.1:9999"):
        answer = client.post(PREDICTIONS, content=b"{}", headers={"Origin": origin})
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "other_origin")
    assert len(echo.requests) == before


@pytest.mark.parametrize("with_length", [True, False])
def test_a_body_that_is_too_large_is_refused(client, with_length):
    """With and without a Content-Length header."""
    answer = client.post(PREDICTIONS, content=b" " * (MAX_BYTES + 1) if with_length else iter([b" " * MAX_BYTES, b" "]))
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")
    largest = client.post(PREDICTIONS, content=b" " * MAX_BYTES if with_length else iter([b" " * MAX_BYTES]))
    assert largest.status_code == 503


def test_a_server_that_is_down_is_reported(web):
    with TestClient(make_site(web, f"http://{LOOPBACK}:{free_port()}/x", MAX_BYTES), base_url=BASE) as client:
        answer = client.post(PREDICTIONS, content=b"{}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "server_down")
    assert "/x" in answer.json()["error"]["message"]


def test_a_server_that_closes_the_connection_is_reported(web):
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        listener.listen()

        def hang_up() -> None:
            listener.accept()[0].close()

        threading.Thread(target=hang_up, daemon=True).start()
        url = f"http://{LOOPBACK}:{listener.getsockname()[1]}/x"
        with TestClient(make_site(web, url, MAX_BYTES), base_url=BASE) as client:
            answer = client.post(PREDICTIONS, content=b"{}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "server_down")


def test_a_server_that_never_answers_is_reported(web, monkeypatch):
    monkeypatch.setattr("spoter.webpage.app._TIMEOUT", httpx.Timeout(0.2))
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        listener.listen()
        url = f"http://{LOOPBACK}:{listener.getsockname()[1]}/x"
        with TestClient(make_site(web, url, MAX_BYTES), base_url=BASE) as client:
            answer = client.post(PREDICTIONS, content=b"{}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "server_timeout")


def test_predictions_accept_only_post(client):
    assert client.get(PREDICTIONS).status_code in (404, 405)
