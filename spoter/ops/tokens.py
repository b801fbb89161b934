"""`spoter token`: a new key of TorchServe's before the old one expires, in a file for clients to read."""

import json
import re
import time
from datetime import UTC, datetime
from pathlib import Path

from spoter.errors import SpoterError
from spoter.ops.readiness import key, refused_token, send

KINDS = ("inference", "management")
UNITS = {"s": 1, "m": 60, "h": 3600}
# TorchServe writes the file before it answers; a slow disk may show it a moment later.
WRITTEN = 2.0
# Seconds until another attempt where one failed: a server that starts anew is up by then.
AGAIN = 30.0


def rotate(management: str, keys: Path, kind: str = "inference") -> str:
    """Have TorchServe make a new key of a kind, and return it; the old one of that kind stops working at once.

    `management` is the root of the management API, and `keys` TorchServe's key_file.json, whose API key may ask for
    others. Raises `SpoterError` where there is no such file, and where TorchServe makes no key.
    """
    if kind not in KINDS:
        raise SpoterError(f"found the kind {kind!r} of key, expected {' or '.join(KINDS)}")
    api, before = key(keys, "API"), key(keys, kind)
    if api is None:
        raise SpoterError(f"{keys}: found no API key, expected the key_file.json that TorchServe writes at its start")
    reply = send(f"{management.rstrip('/')}/token?type={kind}", api)
    if refused_token(reply):
        raise SpoterError(f"{management}: refused the API key of {keys}; expected the file of the server there")
    if reply.status != 200:
        found = reply.body if reply.status is None else f"status {reply.status}"
        raise SpoterError(f"{management}: {found}, expected TorchServe's management API with tokens on")
    deadline = time.monotonic() + WRITTEN
    while (after := key(keys, kind)) in (None, before):
        if time.monotonic() > deadline:
            raise SpoterError(f"{keys}: found no new {kind} key in it, expected one from the server at {management}")
        time.sleep(0.01)
    return after


def seconds_left(keys: Path, kind: str) -> float | None:
    """Return how long a key of key_file.json holds; None where that is not told."""
    try:
        expires = datetime.fromisoformat(json.loads(Path(keys).read_text())[kind]["expiration time"])
        return (expires - datetime.now(UTC)).total_seconds()
    except (OSError, ValueError, KeyError, TypeError):
        return None


def seconds(text: str) -> float:
    """Return the seconds of "90s", "50m" or "1h"."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if match is None or float(match[1]) == 0:
        raise SpoterError(f"found {text!r}, expected a time such as 50m, 90s or 1h")
    return float(match[1]) * UNITS[match[2]]
