"""The image's HEALTHCHECK: ends with 0 only where a worker has just answered a real request.

/ping would not do: TorchServe says Healthy while a worker fails again and again. `spoter doctor
--server` asks the same.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

WORK = Path("/tmp/spoter")  # as in start.py
# Seconds for /ping, and for each of a prediction's two requests; together less than HEALTHCHECK's 15, so that the
# reason is told.
PING, ANSWER = 2, 6


def main() -> int:
    """Ask for a prediction; tell the health in a line and as an exit status."""
    sys.path.append(str(Path(__file__).resolve().parent.parent))  # the image holds no more of spoter than this needs
    from spoter.ops.readiness import key, prediction, refused_token, send

    keys = WORK / "key_file.json"
    try:
        addresses = json.loads((WORK / "addresses.json").read_text())
        inference, management = addresses["inference"].replace("//0.0.0.0:", "//127.0.0.1:"), addresses["management"]
    except (OSError, ValueError, KeyError) as error:  # before TorchServe is up, or while it writes a file
        print(f"not healthy: {error}")
        return 1
    token = key(keys, "inference")
    if token is not None and refused_token(send(f"{inference}/ping", token, timeout=PING)):
        # Tokens expire. A new one is written to key_file.json; the old one is of no use to anyone any more.
        send(f"{management}/token?type=inference", key(keys, "API"), timeout=PING)
        token = key(keys, "inference")
    check, _ = prediction(f"{inference}/predictions/spoter", token, timeout=ANSWER)
    print(f"{'healthy' if check.ok else 'not healthy'}: {check.found}")
    return 0 if check.ok else 1


if __name__ == "__main__":
    sys.exit(main())
