"""The check that a server is ready: that it answers a prediction of a clip made for its model.

TorchServe's /ping reports Healthy even while its workers fail again and again. `spoter doctor --server`, `spoter serve`
and the image's health check use this module. It imports only the standard library, because the health check has no
other packages.
"""

import http.client
import json
import math
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

TIMEOUT = 10.0  # seconds
# A prediction of such a short clip takes milliseconds; a slower server makes people wait.
SLOW = 1.0
FRAMES = 8
MOST_BYTES = 2**24  # of an answer; a description names each gloss
# The plastic number, real root of x**3 = x + 1, spreads any number of points evenly in two dimensions, like the golden
# ratio in one: M. Roberts, "The Unreasonable Effectiveness of Quasirandom Sequences", 2018.
PLASTIC = 1.324717957244746
LATE = "no answer within"
LOGS = "see the end of logs/model_log.log, or the log of the container"


@dataclass(frozen=True)
class Check:
    """Result of one check: what was found, and how to fix it if it is not `ok`."""

    name: str
    ok: bool
    found: str
    advice: str = ""


@dataclass(frozen=True)
class Reply:
    """An answer. If none came, `status` is None and `body` is the reason."""

    status: int | None
    body: str
    seconds: float = 0.0

    @property
    def document(self) -> dict[str, Any]:
        """The JSON object in `body`; empty if there is none."""
        try:
            document = json.loads(self.body)
        except (ValueError, RecursionError):
            return {}
        return document if isinstance(document, dict) else {}


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A handler that follows no redirect: the token must reach only the address that the user named."""

    def redirect_request(self, *_: object) -> None:
        return None


def send(
    url: str,
    token: str | None = None,
    body: bytes | None = None,
    content_type: str = "application/json",
    timeout: float = TIMEOUT,
    method: str | None = None,
) -> Reply:
    """Send one request, by default POST if there is a body and GET otherwise; use no proxy and follow no redirect."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    if body is not None:  # without a body, TorchServe's management API fails if there is a Content-Type
        headers["Content-Type"] = content_type
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect())
    began = time.monotonic()
    try:
        try:
            answer = opener.open(urllib.request.Request(url, body, headers, method=method), timeout=timeout)
        except urllib.error.HTTPError as error:  # also an answer
            answer = error
        with answer:
            status, text = answer.status, _read(answer, began + timeout).decode(errors="replace")
    except TimeoutError:
        status, text = None, f"{LATE} {timeout:g} s"
    except (OSError, http.client.HTTPException, ValueError) as error:
        status, text = None, _no_answer(getattr(error, "reason", error), timeout)
    return Reply(status, text, time.monotonic() - began)


def _read(answer: http.client.HTTPResponse, deadline: float) -> bytes:
    """Return the body of an answer; raise `TimeoutError` at the deadline, even while bytes still arrive."""
    body = b""
    while piece := answer.read1():
        body += piece
        if len(body) > MOST_BYTES:
            raise ValueError(f"more than {MOST_BYTES:,} bytes")
        if time.monotonic() > deadline:
            raise TimeoutError
    if answer.length:
        raise http.client.IncompleteRead(body, answer.length)
    return body


def _no_answer(reason: object, timeout: float) -> str:
    if isinstance(reason, TimeoutError):
        return f"{LATE} {timeout:g} s"
    if isinstance(reason, ConnectionRefusedError):
        return "connection refused"
    return f"no answer: {reason or type(reason).__name__}"


def key(file: Path, kind: str) -> str | None:
    """Return the key ``inference``, ``management`` or ``API`` of TorchServe's key_file.json.

    Return None if there is no file, because tokens are off, or if TorchServe is just writing it.
    """
    try:
        value = json.loads(Path(file).read_text())[kind]["key"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return value if isinstance(value, str) else None


def refused_token(reply: Reply) -> bool:
    """Return whether TorchServe (0.12.0) refused a request because its token is missing or wrong."""
    return reply.status in (401, 403) or (
        reply.status == 400 and reply.document.get("type") in ("InvalidKeyException", "TokenAuthorizationException")
    )


def made_clip(description: Mapping[str, Any]) -> bytes:
    """Return a request with a clip of points spread over the picture, for the model that `description` describes.

    `description` is the response to ``{"describe": true}``; its ``layout`` and ``limits`` are used. Raises `KeyError`
    or `TypeError` for another document.
    """
    layout, frames = description["layout"], min(FRAMES, description["limits"]["max_frames"])

    def at(point: int, frame: int) -> list[float]:
        x, y = ((0.5 + point / PLASTIC ** (axis + 1)) % 1 for axis in range(2))
        shift = 0.05 * math.sin(frame + point)  # so that the points move
        return [round(0.2 + 0.6 * x + shift, 4), round(0.2 + 0.6 * y - shift, 4)]

    points = [[at(point, frame) for point in range(len(layout["landmarks"]))] for frame in range(frames)]
    return json.dumps({"layout": layout["name"], "points": points, "top_k": 1}).encode()


def prediction(url: str, token: str | None = None, timeout: float = TIMEOUT) -> tuple[Check, float]:
    """Ask for the description of the model, then for a prediction; also return the seconds of the prediction, or 0."""
    described = send(url, token, b'{"describe":true}', timeout=timeout)
    if described.status != 200:
        return _refusal("prediction", described, url), 0.0
    model = described.document
    try:
        body = made_clip(model)
    except (KeyError, TypeError, AttributeError):
        problem = f"status 200, but not an answer of SPOTER: {described.body[:80]!r}"
        return Check("prediction", False, problem, f"check the URL {url}: TorchServe's is …/predictions/spoter"), 0.0
    answer = send(url, token, body, timeout=timeout)
    glosses = answer.document.get("instances")
    if answer.status == 200 and isinstance(glosses, list) and glosses:
        success = f"answered by {model.get('name')} {model.get('version')} in {1000 * answer.seconds:.0f} ms"
        return Check("prediction", True, success), answer.seconds
    return _refusal("prediction", answer, url), 0.0


def worker_states(reply: Reply) -> list[str] | None:
    """Return the states of the workers in the reply to ``GET /models/NAME`` of the management API, or None."""
    try:
        return [worker["status"] for worker in json.loads(reply.body)[0]["workers"]]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        return None


def workers(management: str, model: str, token: str | None = None, timeout: float = TIMEOUT) -> Check:
    """Check with TorchServe's management API that all workers are READY."""
    reply = send(f"{management.rstrip('/')}/models/{model}", token, timeout=timeout)
    if reply.status != 200:
        return _refusal("workers", reply, management)
    states = worker_states(reply)
    if states is None:
        return Check("workers", False, "status 200, but not an answer of TorchServe", f"check the URL {management}")
    ready = states.count("READY")
    return Check("workers", 0 < ready == len(states), f"{ready} of {len(states)} READY", LOGS)


def _refusal(name: str, reply: Reply, url: str) -> Check:
    """Return the check of a refused request, with advice for the errors of TorchServe 0.12.0 and this handler."""
    document = reply.document
    error = document.get("error")
    reason = (error.get("message") if isinstance(error, dict) else None) or document.get("message") or ""
    problem = reply.body if reply.status is None else f"status {reply.status}{f': {reason}' if reason else ''}"
    if reply.body.startswith(LATE):
        advice = f"the workers are failing or busy (requests wait in the queue), or the server hangs: {LOGS}"
    elif reply.status is None:
        advice = f"check that a server runs at {urlsplit(url).netloc}; `spoter serve` starts one"
    elif refused_token(reply):
        advice = "send a valid token with --token, or use --keys with TorchServe's key_file.json; tokens expire"
    elif reply.status in (404, 405):
        advice = f"check the URL {url} and the name of the model in it; GET :8081/models lists the names"
    elif reply.status == 503:
        advice = f"no worker is ready, or the queue is full: {LOGS}"
    elif reply.status in (500, 507):
        advice = f"a worker failed or died during the request: {LOGS}"
    else:
        advice = f"check the URL {url}; if it is right, {LOGS}"
    return Check(name, False, problem, advice)


def checks(
    url: str, management: str | None = None, tokens: Mapping[str, str | None] | None = None, timeout: float = TIMEOUT
) -> list[Check]:
    """Check a server as its clients see it.

    `url` is the full URL of predictions, `management` the root of TorchServe's management API, if it can be reached.
    `tokens` are by kind (``inference``, ``management``). `timeout` is the number of seconds to wait for each answer.
    """
    tokens = tokens or {}
    parts = urlsplit(url)
    results: list[Check] = []
    model = "spoter"
    if parts.path.startswith("/predictions/"):  # a port of TorchServe, without a proxy
        model = parts.path.split("/")[2]
        ping = send(f"{parts.scheme}://{parts.netloc}/ping", tokens.get("inference"), timeout=timeout)
        health = f"{ping.document.get('status', 'answered')}, which does not prove that workers run"
        results.append(Check("ping", True, health) if ping.status == 200 else _refusal("ping", ping, url))
    if management is not None:
        results.append(workers(management, model, tokens.get("management"), timeout))
    first, seconds = prediction(url, tokens.get("inference"), timeout)
    results.append(first)
    if first.ok:
        again = [prediction(url, tokens.get("inference"), timeout) for _ in range(2)]
        failed = [check for check, _ in again if not check.ok]
        if failed:
            results.append(Check("again", False, f"then {failed[0].found}", failed[0].advice))
        fastest = min([seconds, *(took for check, took in again if check.ok)])
        advice = "the server or its machine is overloaded: use fewer clients, more workers or more cores"
        results.append(Check("speed", fastest < SLOW, f"{1000 * fastest:.0f} ms, the fastest of three", advice))
    return results
