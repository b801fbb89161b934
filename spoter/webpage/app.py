"""The web application of the page: its files, MediaPipe's files, and predictions forwarded to TorchServe.

The page and the predictions have one origin, so CORS is not needed and the page never holds a token.
"""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import httpx
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from spoter.error_codes import ErrorCode
from spoter.errors import InputError

PREDICTIONS = "/predictions/spoter"
MEDIAPIPE = Path("node_modules", "@mediapipe", "holistic")
HOSTS = ["127.0.0.1", "localhost"]
"""Accepted Host headers. Another name for 127.0.0.1 belongs to a site that tries to read this server."""

_BINARY = "application/octet-stream"
# Content types by file extension; no other files are served. Systems often lack the last five.
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".wasm": "application/wasm",
    ".data": _BINARY,
    ".binarypb": _BINARY,
    ".tflite": _BINARY,
}
_HEADERS = {
    # The browser revalidates each time and gets a 304: MediaPipe's 65 MB travel once, and changes show at once.
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cross-Origin-Resource-Policy": "same-origin",
    # The one directive of the page's policy that a <meta> cannot set.
    "Content-Security-Policy": "frame-ancestors 'none'",
}
# The <meta> of the page does not apply to its worker, which gets the camera's pictures. It may only load MediaPipe.
_WORKER = "engine-worker.js"
_WORKER_POLICY = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; connect-src 'self'"
_SENT = ("content-type", "accept", "content-length", "x-amzn-sagemaker-custom-attributes")
_RETURNED = ("content-type", "retry-after")
# Seconds. A worker has 60 s for an answer (handler/model-config.yaml), and requests also wait in the queue.
_TIMEOUT = httpx.Timeout(120, connect=5)


def make_site(folder: Path, url: str, max_bytes: int, token: Callable[[], str | None] = lambda: None) -> Starlette:
    """Return the application that serves `folder`: web/ with its packages installed.

    Predictions are forwarded to `url`, unless their body has more than `max_bytes` (413). `token` is called for every
    request and returns TorchServe's token, or None.
    """
    clients: list[httpx.AsyncClient] = []

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        # Proxies of the environment do not apply to a server on this machine.
        async with httpx.AsyncClient(timeout=_TIMEOUT, trust_env=False) as client:
            clients.append(client)
            yield

    async def predict(request: Request) -> Response:
        return await _forward(request, clients[-1], url, max_bytes, token())

    return Starlette(
        routes=[
            Route(PREDICTIONS, predict, methods=["POST"]),
            Mount("/mp", _Files(directory=folder / MEDIAPIPE)),
            Mount("/", _Files(directory=folder, html=True)),
        ],
        middleware=[Middleware(_Headers), Middleware(TrustedHostMiddleware, allowed_hosts=HOSTS, www_redirect=False)],
        lifespan=lifespan,
    )


class _Headers:
    """Middleware that adds `_HEADERS` to every response."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():  # next to the worker's own policy
                    headers.append(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers if scope["type"] == "http" else send)


class _Files(StaticFiles):
    """Files of the extensions in `_TYPES`."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Refuse hidden files and installed packages."""
        if any((part.startswith(".") and part != ".") or part == "node_modules" for part in PurePosixPath(path).parts):
            raise HTTPException(404)
        return await super().get_response(path, scope)

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        """Send a file with the type of its extension."""
        media_type = _TYPES.get(Path(full_path).suffix)
        if media_type is None:
            raise HTTPException(404)
        response = super().file_response(full_path, stat_result, scope, status_code)
        if "content-type" in response.headers:  # a 304 has none
            response.headers["content-type"] = media_type
        if Path(full_path).name == _WORKER:
            response.headers["content-security-policy"] = _WORKER_POLICY
        return response


async def _forward(
    request: Request, client: httpx.AsyncClient, url: str, max_bytes: int, token: str | None
) -> Response:
    """Forward a request and return the answer."""
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        # A form or script of another site reaches this machine's ports without a preflight.
        return _error(ErrorCode.OTHER_ORIGIN, f"found a request from {origin}, expected one from this page")
    headers = {name: request.headers[name] for name in _SENT if name in request.headers}
    if token is not None:
        headers["authorization"] = f"Bearer {token}"
    try:
        if int(headers.get("content-length", "0")) > max_bytes:
            async for _ in request.stream():  # otherwise a browser reports a broken connection instead of the answer
                pass
            raise _too_large(max_bytes)
        answer = await client.post(url, content=_limited(request, max_bytes), headers=headers)
    except InputError as error:
        return JSONResponse(error.to_dict(), error.status)
    except httpx.TimeoutException:
        return _error(ErrorCode.SERVER_TIMEOUT, f"TorchServe at {url} did not answer in time")
    except httpx.TransportError:
        return _error(ErrorCode.SERVER_DOWN, f"found no TorchServe at {url}; start one with `spoter serve`")
    headers = {name: answer.headers[name] for name in _RETURNED if name in answer.headers}
    return Response(answer.content, answer.status_code, headers)


async def _limited(request: Request, max_bytes: int) -> AsyncIterator[bytes]:
    """Yield the parts of the body; raise `InputError` if they exceed `max_bytes`, as without Content-Length."""
    length = 0
    async for part in request.stream():
        length += len(part)
        if length > max_bytes:
            raise _too_large(max_bytes)
        yield part


def _too_large(max_bytes: int) -> InputError:
    return InputError(ErrorCode.BODY_TOO_LARGE, f"found a body of more than {max_bytes} bytes, expected at most that")


def _error(code: ErrorCode, message: str) -> JSONResponse:
    return JSONResponse(InputError(code, message).to_dict(), code.status)
