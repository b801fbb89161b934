"""`spoter token`: a new key of TorchServe's before the old one expires, in a file for clients to read."""

from __future__ import annotations

import json
import re
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from spoter.errors import SpoterError
from spoter.files import write_whole
from spoter.ops.readiness import key, refused_token, send

KINDS = ("inference", "management")
UNITS = {"s": 1, "m": 60, "h": 3600}
# TorchServe writes the file before it answers; a slow disk may show it a moment later.
WRITTEN = 2.0
# Seconds until another attempt where one failed: a server that starts anew is up by then.
AGAIN = 30.0


def rotate(management: str, keys: Path, kind: str = "inference") -> str:
    """Have TorchServe make a new key, and return it; the old one of that kind stops working at once.

    Parameters
    ----------
    management : str
        Root of the management API.
    keys : pathlib.Path
        TorchServe's key_file.json, whose API key may ask for others.
    kind : str
        ``inference`` or ``management``.

    Raises
    ------
    SpoterError
        Where there is no such file, or TorchServe gives none.
    """
    if kind not in KINDS:
        raise SpoterError(f"found the kind {kind!r} of key, expected {' or '.join(KINDS)}")
    api, before = key(keys, "API"), key(keys, kind)
    if api is None:
        raise SpoterError(
            f"{keys}: found no API key, expected the key_file.json that TorchServe writes where it is started"
        )
    reply = send(f"{management.rstrip('/')}/token?type={kind}", api)
    if refused_token(reply):
        raise SpoterError(
            f"{management}: refused the API key of {keys}, expected the file of the server that runs there"
        )
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


def add_to(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command(name="token")(_token)


def _token(
    keys: Annotated[Path, typer.Option(metavar="FILE", help="TorchServe's key_file.json.")] = Path("key_file.json"),
    management: Annotated[
        str, typer.Option(metavar="URL", help="The management API's address.")
    ] = "http://127.0.0.1:8081",
    kind: Annotated[str, typer.Option(help="inference or management.")] = "inference",
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the key there, mode 600, instead of printing it.")
    ] = None,
    every: Annotated[
        str | None, typer.Option(metavar="TIME", help="Go on until Ctrl-C, with a new key after each 50m, 90s or 1h.")
    ] = None,
) -> None:
    """Get a new key of a TorchServe with tokens, before the old one expires; the old one stops working at once."""
    if every is None:
        return _give(rotate(management, keys, kind), kind, out)
    wait = seconds(every)
    if out is None:
        raise SpoterError("found --every without --out, expected a file that clients read the key from")
    given = False
    while True:
        try:
            _give(rotate(management, keys, kind), kind, out)
            given = True
        except (SpoterError, OSError) as error:
            if isinstance(error, OSError) and not given:  # a wrong place, and not one that is full just now
                raise
            print(f"error: {error}; the next attempt is in {AGAIN:g} s", file=sys.stderr, flush=True)
            time.sleep(min(wait, AGAIN))
            continue
        left = seconds_left(keys, kind)
        if left is not None and left <= wait:
            raise SpoterError(
                f"found --every {every}, but a key holds for {left:.0f} s only, expected less; token_expiration_min in "
                "config.properties is its time"
            )
        time.sleep(wait)


def _give(new: str, kind: str, out: Path | None) -> None:
    if out is None:
        print(new)
    else:
        write_whole(out, f"{new}\n".encode(), mode=0o600)
        print(f"{out}: a new {kind} key", flush=True)
