"""The command `spoter token`."""

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from spoter.errors import SpoterError
from spoter.files import atomic_write_bytes


def token(
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
    from spoter.ops.tokens import AGAIN, rotate, seconds, seconds_left

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
        atomic_write_bytes(out, f"{new}\n".encode(), mode=0o600)
        print(f"{out}: a new {kind} key", flush=True)
