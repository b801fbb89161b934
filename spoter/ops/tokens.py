"""New keys from TorchServe, for `spoter token`."""

import json
import re
import time
from datetime import UTC, datetime
from pathlib import Path

from spoter.errors import SpoterError
from spoter.ops.readiness import key, refused_token, send

KINDS = ("inference", "management")
UNITS = {"s": 1, "m": 60, "h": 3600}
# Seconds to wait for the new key: TorchServe writes the file before it answers, but a slow disk may show it later.
WRITTEN = 2.0
# Seconds until the next attempt after a failure; a restarted server is ready by then.
AGAIN = 30.0


def rotate(management: str, keys: Path, kind: str = "inference") -> str:
    """Request a new key from TorchServe and return it; the old key of that kind stops working at once.

    `management` is the root of the management API. `keys` is TorchServe's key_file.json, whose API key authorizes the
    request. Raises `SpoterError` if the file has no API key, or if TorchServe creates no key.
    """
    if kind not in KINDS:
        raise SpoterError(f"found kind {kind!r}, expected {' or '.join(KINDS)}")
    api, before = key(keys, "API"), key(keys, kind)
    if api is None:
        raise SpoterError(f"{keys}: found no API key, expected the key_file.json that TorchServe writes at its start")
    reply = send(f"{management.rstrip('/')}/token?type={kind}", api)
    if refused_token(reply):
        raise SpoterError(f"{management}: the server refused the API key in {keys}; use the key file of this server")
    if reply.status != 200:
        problem = reply.body if reply.status is None else f"status {reply.status}"
        raise SpoterError(f"{management}: {problem}, expected TorchServe's management API with tokens on")
    deadline = time.monotonic() + WRITTEN
    while (after := key(keys, kind)) in (None, before):
        if time.monotonic() > deadline:
            raise SpoterError(f"{keys}: found no new {kind} key, expected one from the server at {management}")
        time.sleep(0.01)
    return after


def seconds_left(keys: Path, kind: str) -> float | None:
    """Return the seconds until a key of key_file.json expires; None if the file does not contain it."""
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
