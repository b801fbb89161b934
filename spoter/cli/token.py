"""The command `spoter token`."""

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from spoter.errors import SpoterError
from spoter.files import atomic_write_bytes


def token(
    keys: Annotated[
        Path, typer.Option(envvar="SPOTER_KEY_FILE", metavar="FILE", help="TorchServe's key_file.json.")
    ] = Path("key_file.json"),
    management: Annotated[
        str, typer.Option(metavar="URL", help="URL of the management API.")
    ] = "http://127.0.0.1:8081",
    kind: Annotated[str, typer.Option(help="Kind of key: inference or management.")] = "inference",
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the key to FILE, mode 600, instead of printing it.")
    ] = None,
    every: Annotated[
        str | None, typer.Option(metavar="TIME", help="Repeat until Ctrl-C at this interval: 90s, 50m or 1h.")
    ] = None,
) -> None:
    """Renew a key of a TorchServe with tokens; the old key stops working at once."""
    from spoter.ops.tokens import AGAIN, rotate, seconds, seconds_left

    if every is None:
        return _write(rotate(management, keys, kind), kind, out)
    wait = seconds(every)
    if out is None:
        raise SpoterError("--every needs --out FILE, from which clients read the key")
    written = False
    while True:
        try:
            _write(rotate(management, keys, kind), kind, out)
            written = True
        except (SpoterError, OSError) as error:
            if isinstance(error, OSError) and not written:  # a wrong path, not a disk that is full for a while
                raise
            print(f"error: {error}; the next attempt is in {AGAIN:g} s", file=sys.stderr, flush=True)
            time.sleep(min(wait, AGAIN))
            continue
        left = seconds_left(keys, kind)
        if left is not None and left <= wait:
            raise SpoterError(
                f"found --every {every}, expected less than {left:.0f} s, after which a key expires "
                "(token_expiration_min in config.properties)"
            )
        time.sleep(wait)


def _write(key: str, kind: str, out: Path | None) -> None:
    if out is None:
        print(key)
    else:
        atomic_write_bytes(out, f"{key}\n".encode(), mode=0o600)
        print(f"{out}: new {kind} key", flush=True)
