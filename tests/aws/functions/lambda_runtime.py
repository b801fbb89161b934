"""An endpoint for the proxy to invoke, and what Lambda hands a handler.

`Runtime` is a double of SageMaker's runtime API before `spoter.serving.service`, with the real model: only there can a
test have it throttle, fail and be slow, which the endpoint of `spoter deploy --local` never does. What the proxy gets
from that real one is shown in test_local_endpoint.py.
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
    """What Lambda hands a handler beside the event, as far as ours looks at it."""

    def __init__(self, seconds: float = 29):
        self._end = time.monotonic() + seconds

    def get_remaining_time_in_millis(self) -> int:
        return int(1e3 * (self._end - time.monotonic()))


@dataclass(frozen=True)
class Trouble:
    """An error of AWS's: HTTP status, type (None as with 413) and members; `silent` seconds pass before it."""

    status: int = 400
    kind: str | None = "ThrottlingException"
    members: dict = field(default_factory=lambda: {"message": "told to by the test"})
    silent: float = 0


@dataclass
class Runtime:
    """InvokeEndpoint of SageMaker's runtime API.

    Attributes
    ----------
    asked : list of SimpleNamespace
        Requests that came: `path`, `headers` and `body`.
    troubles : list of Trouble
        What to answer, in turn, before real answers.
    """

    recognizer: Recognizer
    url: str = ""
    asked: list[SimpleNamespace] = field(default_factory=list)
    troubles: list[Trouble] = field(default_factory=list)

    def answer(self, path: str, headers: dict, body: bytes) -> tuple[int, dict[str, str], bytes]:
        self.asked.append(SimpleNamespace(path=path, headers=headers, body=body))
        if self.troubles:
            return _refuse(self.troubles.pop(0))
        attributes = headers.get("X-Amzn-SageMaker-Custom-Attributes")
        incoming = RawRequest(body, headers.get("Content-Type"), headers.get("Accept"), attributes)
        [response], _ = respond(self.recognizer, [incoming])
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
                with suppress(ConnectionError):  # whoever asked may have given up
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


def model_error(status: int, text: str) -> Trouble:
    """Return ModelError as InvokeEndpoint's documentation has it: the container's status and body within a 424."""
    told = {"Message": f'Received an error ({status}) from primary with message "{text}"'}
    return Trouble(424, "ModelError", told | {"OriginalStatusCode": status, "OriginalMessage": text})


def set_environment(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Set what Lambda and the template set, with the runtime API at `url`."""
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


def _refuse(trouble: Trouble) -> tuple[int, dict[str, str], bytes]:
    time.sleep(trouble.silent)
    headers = {"Content-Type": "application/json"} | ({"x-amzn-ErrorType": trouble.kind} if trouble.kind else {})
    return trouble.status, headers, json.dumps(trouble.members).encode()
