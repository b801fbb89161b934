"""The image's HEALTHCHECK: exits with 0 only if a worker has just answered a real request.

/ping is not enough: TorchServe reports Healthy even while a worker keeps failing. `spoter doctor --server` sends the
same requests.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

WORK = Path("/tmp/spoter")  # as in start.py
# Seconds for /ping, and for each of the two requests of a prediction. Together they take less than HEALTHCHECK's limit
# of 15 seconds, so that the reason of a failure is printed.
PING, ANSWER = 2, 6


def main() -> int:
    """Request a prediction; print the health in one line, and return the exit status."""
    sys.path.append(str(Path(__file__).resolve().parent.parent))  # the image contains only the needed parts of spoter
    from spoter.ops.readiness import key, prediction, refused_token, send

    keys = WORK / "key_file.json"
    try:
        addresses = json.loads((WORK / "addresses.json").read_text())
        inference, management = addresses["inference"].replace("//0.0.0.0:", "//127.0.0.1:"), addresses["management"]
    except (OSError, ValueError, KeyError) as error:  # TorchServe is not up yet, or is writing a file
        print(f"not healthy: {error}")
        return 1
    token = key(keys, "inference")
    if token is not None and refused_token(send(f"{inference}/ping", token, timeout=PING)):
        # The token has expired: request a new one, which TorchServe writes to key_file.json.
        send(f"{management}/token?type=inference", key(keys, "API"), timeout=PING)
        token = key(keys, "inference")
    check, _ = prediction(f"{inference}/predictions/spoter", token, timeout=ANSWER)
    print(f"{'healthy' if check.ok else 'not healthy'}: {check.found}")
    return 0 if check.ok else 1


if __name__ == "__main__":
    sys.exit(main())
