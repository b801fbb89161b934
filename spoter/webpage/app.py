"""The page's web application: its files, MediaPipe's, and requests for predictions handed on to TorchServe.

With the page and the server behind one origin, no browser asks for CORS, and no token gets into the page.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import httpx
from starlette.applications import Starlette
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
"""Names that this server answers to: another name for 127.0.0.1 is another site's that wants to read this one."""

_BINARY = "application/octet-stream"
# What is served, and as what; a file of any other ending is not there. Not left to the system's own table, which
# often lacks the last five.
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
    # The browser asks each time and gets a 304: MediaPipe's 65 MB travel once, and a changed file is seen at once.
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cross-Origin-Resource-Policy": "same-origin",
    # The one part of the page's policy that a <meta> cannot say.
    "Content-Security-Policy": "frame-ancestors 'none'",
}
# The page's <meta> does not apply to its worker, which gets the camera's pictures: it may load MediaPipe, no more.
_WORKER = "engine-worker.js"
_WORKER_POLICY = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; connect-src 'self'"
_SENT = ("content-type", "accept", "content-length", "x-amzn-sagemaker-custom-attributes")
_RETURNED = ("content-type", "retry-after")
# Seconds. A worker has 60 for an answer (handler/model-config.yaml), behind others in the queue.
_TIMEOUT = httpx.Timeout(120, connect=5)


def make_site(folder: Path, url: str, max_bytes: int, token: Callable[[], str | None] = lambda: None) -> Starlette:
    """Return the application.

    Parameters
    ----------
    folder : pathlib.Path
        web/, with the packages installed.
    url : str
        Where TorchServe predicts.
    max_bytes : int
        The longest body that is handed on; a longer one is answered 413.
    token : callable
        Gives the token that TorchServe wants, or None; asked for every request.
    """
    clients: list[httpx.AsyncClient] = []

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        # No proxy of the environment stands before a server of this machine.
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
    """Adds `_HEADERS` to every answer."""

    def __init__(self, app: ASGIApp):
        self._app = app
        self._headers = [(name.lower().encode(), value.encode()) for name, value in _HEADERS.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def add(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = message | {"headers": [*message["headers"], *self._headers]}
            await send(message)

        await self._app(scope, receive, add if scope["type"] == "http" else send)


class _Files(StaticFiles):
    """Files of the endings in `_TYPES`; neither hidden ones nor installed packages."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        if any((part.startswith(".") and part != ".") or part == "node_modules" for part in PurePosixPath(path).parts):
            raise HTTPException(404)
        return await super().get_response(path, scope)

    def file_response(self, full_path: str, *args, **options) -> Response:
        media_type = _TYPES.get(Path(full_path).suffix)
        if media_type is None:
            raise HTTPException(404)
        response = super().file_response(full_path, *args, **options)
        if "content-type" in response.headers:  # a 304 has none
            response.headers["content-type"] = media_type
        if Path(full_path).name == _WORKER:
            response.headers["content-security-policy"] = _WORKER_POLICY
        return response


async def _forward(
    request: Request, client: httpx.AsyncClient, url: str, max_bytes: int, token: str | None
) -> Response:
    """Hand a request on, and its answer back."""
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        # A form or script of another site reaches this machine's ports without asking first.
        return _error(ErrorCode.OTHER_ORIGIN, f"found a request from {origin}, expected one from this page")
    headers = {name: request.headers[name] for name in _SENT if name in request.headers}
    if token is not None:
        headers["authorization"] = f"Bearer {token}"
    try:
        if int(headers.get("content-length", "0")) > max_bytes:
            async for _ in request.stream():  # else a browser reports a broken connection instead of the answer
                pass
            raise _too_large(max_bytes)
        answer = await client.post(url, content=_limited(request, max_bytes), headers=headers)
    except InputError as error:
        return JSONResponse(error.to_dict(), error.status)
    except httpx.TimeoutException:
        return _error(ErrorCode.SERVER_TIMEOUT, f"TorchServe at {url} gave no answer in time")
    except httpx.TransportError:
        return _error(ErrorCode.SERVER_DOWN, f"no TorchServe answers at {url}: start it with make serve, or make demo")
    kept = {name: answer.headers[name] for name in _RETURNED if name in answer.headers}
    return Response(answer.content, answer.status_code, kept)


async def _limited(request: Request, max_bytes: int) -> AsyncIterator[bytes]:
    """Yield the body's parts; a body that tells no length may still be too long."""
    length = 0
    async for part in request.stream():
        length += len(part)
        if length > max_bytes:
            raise _too_large(max_bytes)
        yield part


def _too_large(max_bytes: int) -> InputError:
    return InputError(ErrorCode.BODY_TOO_LARGE, f"found more than {max_bytes} bytes, expected at most that")


def _error(code: ErrorCode, message: str) -> JSONResponse:
    return JSONResponse(InputError(code, message).to_dict(), code.status)
