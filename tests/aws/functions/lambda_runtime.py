"""An endpoint for the proxy to invoke, and the context that Lambda passes to a handler.

`Runtime` emulates SageMaker's runtime API in front of `spoter.serving.service` with the real model. Unlike the endpoint
of `spoter deploy --local`, it can throttle, fail and be slow. test_local_endpoint.py uses that endpoint.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from spoter.messages import RawRequest
from spoter.ops.ports import LOOPBACK
from spoter.serving.recognizer import Recognizer
from spoter.serving.service import respond


class Context:
    """The part of Lambda's context that our handlers use."""

    def __init__(self, seconds: float = 29):
        self._end = time.monotonic() + seconds

    def get_remaining_time_in_millis(self) -> int:
        return int(1e3 * (self._end - time.monotonic()))


@dataclass(frozen=True)
class ErrorResponse:
    """An error of AWS: HTTP status, type (None as for 413) and members, sent after `delay` seconds."""

    status: int = 400
    kind: str | None = "ThrottlingException"
    members: dict = field(default_factory=lambda: {"message": "injected by the test"})
    delay: float = 0


@dataclass
class Runtime:
    """InvokeEndpoint of SageMaker's runtime API.

    Attributes
    ----------
    requests : list of SimpleNamespace
        Received requests: `path`, `headers` and `body`.
    errors : list of ErrorResponse
        Answers, in this order, before the real ones.
    """

    recognizer: Recognizer
    url: str = ""
    requests: list[SimpleNamespace] = field(default_factory=list)
    errors: list[ErrorResponse] = field(default_factory=list)

    def answer(self, path: str, headers: dict, body: bytes) -> tuple[int, dict[str, str], bytes]:
        self.requests.append(SimpleNamespace(path=path, headers=headers, body=body))
        if self.errors:
            return _refuse(self.errors.pop(0))
        attributes = headers.get("X-Amzn-SageMaker-Custom-Attributes")
        request = RawRequest(body, headers.get("Content-Type"), headers.get("Accept"), attributes)
        [response], _ = respond(self.recognizer, [request])
        if response.status != 200:
            return _refuse(model_error(response.status, response.body.decode()))
        return 200, {"Content-Type": response.content_type}, response.body

    @contextmanager
    def listen(self) -> Iterator[None]:
        """Answer at `url` inside the block."""
        runtime = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status, headers, content = runtime.answer(self.path, self.headers, body)
                with suppress(ConnectionError):  # the client may have closed the connection
                    self.send_response(status)
                    for name, value in {**headers, "Content-Length": str(len(content))}.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(content)

            def log_message(self, *_: object) -> None: ...

        server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
        self.url = f"http://{LOOPBACK}:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


def model_error(status: int, text: str) -> ErrorResponse:
    """Return a ModelError as documented for InvokeEndpoint: the container's status and body within a 424."""
    members = {"Message": f'Received an error ({status}) from primary with message "{text}"'}
    return ErrorResponse(424, "ModelError", members | {"OriginalStatusCode": status, "OriginalMessage": text})


def set_environment(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Set the variables of Lambda and of the template, with the runtime API at `url`."""
    values = {
        "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": url,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "NO_PROXY": LOOPBACK,
        "SPOTER_ENDPOINT": "spoter",
        "SPOTER_ORIGINS": "https://page.example,https://other.example",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "SPOTER_PAYLOAD_LIMIT"):
        monkeypatch.delenv(name, raising=False)


def _refuse(error: ErrorResponse) -> tuple[int, dict[str, str], bytes]:
    time.sleep(error.delay)
    headers = {"Content-Type": "application/json"} | ({"x-amzn-ErrorType": error.kind} if error.kind else {})
    return error.status, headers, json.dumps(error.members).encode()
