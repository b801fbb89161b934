"""Whether a server is ready: it has just answered a prediction of a clip that was made for its model.

TorchServe's /ping says Healthy while its workers fail again and again. `spoter doctor --server` and `make serve` use
this module, as does the image's health check, which has nothing but Python's own library: so no other is imported.
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
# A prediction of so short a clip takes milliseconds; a server that is this slow keeps people waiting.
SLOW = 1.0
FRAMES = 8
MOST_BYTES = 2**24  # of an answer; a description names each gloss
# The golden ratio and its like in two dimensions spread points evenly, whatever their number: M. Roberts, "The
# Unreasonable Effectiveness of Quasirandom Sequences", 2018; the real root of x**3 = x + 1.
PLASTIC = 1.324717957244746
LATE = "no answer within"
LOGS = "the end of logs/model_log.log says why (of a container, its log)"


@dataclass(frozen=True)
class Check:
    """One thing looked at: what was found, and what to do where that is not `ok`."""

    name: str
    ok: bool
    found: str
    advice: str = ""


@dataclass(frozen=True)
class Reply:
    """An answer; its status is None, and `body` the reason, where none came."""

    status: int | None
    body: str
    seconds: float = 0.0

    @property
    def document(self) -> dict[str, Any]:
        """The JSON object in it; empty where it holds none."""
        try:
            document = json.loads(self.body)
        except (ValueError, RecursionError):
            return {}
        return document if isinstance(document, dict) else {}


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirection: the token is for the address that was named, and for no other."""

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
    """Send one request, POST where there is a body; never through a proxy, never on to another address."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    if body is not None:  # where there is none TorchServe's management API fails over a type of it
        headers["Content-Type"] = content_type
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect())
    began = time.monotonic()
    try:
        try:
            answer = opener.open(urllib.request.Request(url, body, headers, method=method), timeout=timeout)
        except urllib.error.HTTPError as error:  # an answer, too
            answer = error
        with answer:
            status, text = answer.status, _read(answer, began + timeout).decode(errors="replace")
    except TimeoutError:
        status, text = None, f"{LATE} {timeout:g} s"
    except (OSError, http.client.HTTPException, ValueError) as error:
        status, text = None, _broken(getattr(error, "reason", error), timeout)
    return Reply(status, text, time.monotonic() - began)


def _read(answer: http.client.HTTPResponse, deadline: float) -> bytes:
    """Return an answer's body; `TimeoutError` at the deadline even where a little comes again and again."""
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


def _broken(reason: object, timeout: float) -> str:
    if isinstance(reason, TimeoutError):
        return f"{LATE} {timeout:g} s"
    if isinstance(reason, ConnectionRefusedError):
        return "nobody listens"
    return f"no answer: {reason or type(reason).__name__}"


def key(file: Path, kind: str) -> str | None:
    """Return the key ``inference``, ``management`` or ``API`` of TorchServe's key_file.json.

    None where there is no such file, as with tokens off, or TorchServe is just writing it.
    """
    try:
        found = json.loads(Path(file).read_text())[kind]["key"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, str) else None


def refused_token(reply: Reply) -> bool:
    """Tell whether TorchServe (0.12.0) wants another token, or one at all."""
    return reply.status in (401, 403) or (
        reply.status == 400 and reply.document.get("type") in ("InvalidKeyException", "TokenAuthorizationException")
    )


def made_clip(description: Mapping[str, Any]) -> bytes:
    """Return a request with a clip of points spread over the picture, for the model of a description.

    `description` is the response to ``{"describe": true}``, whose ``layout`` and ``limits`` are used. Raises `KeyError`
    or `TypeError` for another document.
    """
    layout, frames = description["layout"], min(FRAMES, description["limits"]["max_frames"])

    def at(point: int, frame: int) -> list[float]:
        x, y = ((0.5 + point / PLASTIC ** (axis + 1)) % 1 for axis in range(2))
        turned = 0.05 * math.sin(frame + point)  # so that it moves
        return [round(0.2 + 0.6 * x + turned, 4), round(0.2 + 0.6 * y - turned, 4)]

    points = [[at(point, frame) for point in range(len(layout["landmarks"]))] for frame in range(frames)]
    return json.dumps({"layout": layout["name"], "points": points, "top_k": 1}).encode()


def prediction(url: str, token: str | None = None, timeout: float = TIMEOUT) -> tuple[Check, float]:
    """Ask what the model takes, and then for a prediction of just that; also return its seconds, 0 where none came."""
    described = send(url, token, b'{"describe":true}', timeout=timeout)
    if described.status != 200:
        return _refusal("prediction", described, url), 0.0
    model = described.document
    try:
        body = made_clip(model)
    except (KeyError, TypeError, AttributeError):
        found = f"status 200, but no answer of SPOTER's: {described.body[:80]!r}"
        return Check("prediction", False, found, f"is {url} the address? TorchServe's is …/predictions/spoter"), 0.0
    answer = send(url, token, body, timeout=timeout)
    glosses = answer.document.get("instances")
    if answer.status == 200 and isinstance(glosses, list) and glosses:
        found = f"answered by {model.get('name')} {model.get('version')} in {1000 * answer.seconds:.0f} ms"
        return Check("prediction", True, found), answer.seconds
    return _refusal("prediction", answer, url), 0.0


def worker_states(reply: Reply) -> list[str] | None:
    """Return the workers' states that ``GET /models/NAME`` of the management API tells; None where it tells none."""
    try:
        return [worker["status"] for worker in json.loads(reply.body)[0]["workers"]]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        return None


def workers(management: str, model: str, token: str | None = None, timeout: float = TIMEOUT) -> Check:
    """Ask TorchServe's management API for workers that are READY."""
    reply = send(f"{management.rstrip('/')}/models/{model}", token, timeout=timeout)
    if reply.status != 200:
        return _refusal("workers", reply, management)
    states = worker_states(reply)
    if states is None:
        return Check("workers", False, "status 200, but no answer of TorchServe's", f"is {management} the address?")
    ready = states.count("READY")
    return Check("workers", 0 < ready == len(states), f"{ready} of {len(states)} READY", LOGS)


def _refusal(name: str, reply: Reply, url: str) -> Check:
    """Say what a refusal means, as TorchServe 0.12.0 and our own handler word theirs."""
    document = reply.document
    error = document.get("error")
    reason = (error.get("message") if isinstance(error, dict) else None) or document.get("message") or ""
    found = reply.body if reply.status is None else f"status {reply.status}{f': {reason}' if reason else ''}"
    place = urlsplit(url).netloc
    if reply.body.startswith(LATE):
        advice = f"its workers are dying or busy (requests wait in the queue), or it hangs: {LOGS}"
    elif reply.status is None:
        advice = f"is a server up at {place}? make serve starts one"
    elif refused_token(reply):
        advice = "send a token that holds: --token, or --keys with TorchServe's key_file.json; tokens expire"
    elif reply.status in (404, 405):
        advice = f"is {url} the address, and is the model named so? GET :8081/models lists them"
    elif reply.status == 503:
        advice = f"no worker is up, or the queue is full: {LOGS}"
    elif reply.status in (500, 507):
        advice = f"a worker failed or died over the request: {LOGS}"
    else:
        advice = f"is {url} the address? Where it is, {LOGS}"
    return Check(name, False, found, advice)


def checks(
    url: str, management: str | None = None, tokens: Mapping[str, str | None] | None = None, timeout: float = TIMEOUT
) -> list[Check]:
    """Look at a server from a client's side.

    `url` is the whole address of predictions, `management` the root of TorchServe's management API where it can be
    reached, `tokens` are by kind (``inference``, ``management``), and `timeout` is the seconds to wait for each answer.
    """
    tokens = tokens or {}
    parts = urlsplit(url)
    found: list[Check] = []
    model = "spoter"
    if parts.path.startswith("/predictions/"):  # TorchServe's own port
        model = parts.path.split("/")[2]
        ping = send(f"{parts.scheme}://{parts.netloc}/ping", tokens.get("inference"), timeout=timeout)
        health = f"{ping.document.get('status', 'answered')}, which it says of dying workers, too"
        found.append(Check("ping", True, health) if ping.status == 200 else _refusal("ping", ping, url))
    if management is not None:
        found.append(workers(management, model, tokens.get("management"), timeout))
    first, seconds = prediction(url, tokens.get("inference"), timeout)
    found.append(first)
    if first.ok:
        again = [prediction(url, tokens.get("inference"), timeout) for _ in range(2)]
        failed = [check for check, _ in again if not check.ok]
        if failed:
            found.append(Check("again", False, f"then {failed[0].found}", failed[0].advice))
        fastest = min([seconds, *(took for check, took in again if check.ok)])
        advice = "it is overloaded, or its machine is: fewer clients, more workers or cores (docs/operations.md)"
        found.append(Check("speed", fastest < SLOW, f"{1000 * fastest:.0f} ms, the fastest of three", advice))
    return found
