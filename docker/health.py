"""The image's HEALTHCHECK: ends with 0 only where a worker has just answered a real request.

/ping would not do: TorchServe says Healthy while a worker fails again and again.
"""

from __future__ import annotations

import http.client
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path

SAMPLE = Path(__file__).resolve().parent.parent / "samples" / "zeigen-compact.json"
WORK = Path("/tmp/spoter")  # as in start.py
TIMEOUT = 10  # seconds; less than HEALTHCHECK's, so that the reason is told


def answered(status: int | None, body: str) -> bool:
    """Tell whether a reply is a worker's: a prediction, or our own refusal of a sample that has not its landmarks.

    Parameters
    ----------
    status : int or None
        None where no answer came.
    body : str
        TorchServe's own refusals are JSON too, without ``error``.
    """
    if status == 200:
        return True
    if status is None or not 400 <= status < 500:
        return False
    try:
        reply = json.loads(body)
    except ValueError:
        return False
    return isinstance(reply, dict) and isinstance(reply.get("error"), dict) and "code" in reply["error"]


def refused_token(status: int | None, body: str) -> bool:
    """Tell whether TorchServe (0.12.0) wants another token."""
    return status == 400 and "InvalidKeyException" in body


def _key(kind: str) -> str | None:
    """Return a key that TorchServe has written; None where tokens are off."""
    try:
        return json.loads((WORK / "key_file.json").read_text())[kind]["key"]
    except FileNotFoundError:
        return None


def _send(url: str, key: str | None, body: bytes | None = None) -> tuple[int | None, str]:
    headers = {"Content-Type": "application/json"} | ({} if key is None else {"Authorization": f"Bearer {key}"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # never through a proxy
    try:
        with opener.open(urllib.request.Request(url, body, headers), timeout=TIMEOUT) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return None, ""


def main() -> int:
    """Ask for a prediction; tell the health in a line and as an exit status."""
    try:
        addresses = json.loads((WORK / "addresses.json").read_text())
        inference = addresses["inference"].replace("//0.0.0.0:", "//127.0.0.1:") + "/predictions/spoter"
        sample = SAMPLE.read_bytes()
        status, body = _send(inference, _key("inference"), sample)
        if refused_token(status, body):
            # Tokens expire. A new one is written to key_file.json; the old one is of no use to anyone any more.
            _send(addresses["management"] + "/token?type=inference", _key("API"))
            status, body = _send(inference, _key("inference"), sample)
    except (OSError, ValueError, KeyError) as error:  # before TorchServe is up, or while it writes a file
        print(f"not healthy: {error}")
        return 1
    if answered(status, body):
        print(f"healthy: a prediction was answered with status {status}")
        return 0
    print(f"not healthy: {'no answer' if status is None else f'a prediction was answered with status {status}'}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
