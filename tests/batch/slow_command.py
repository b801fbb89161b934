"""The command line, but that each part of `spoter predict --out` takes a while: whoever strikes it midway is in time.

Processes that it starts import this file, as they do any main module, and unpickle `Slow` from it.
"""

from __future__ import annotations

import time

from spoter.batch import predictor
from spoter.cli.main import main

PART_S = 0.3


class Slow(predictor.ShardPredictor):
    """Waits before it answers a part."""

    def __call__(self, *given) -> bytes:
        time.sleep(PART_S)
        return super().__call__(*given)


if __name__ == "__main__":
    predictor.ShardPredictor = Slow
    main()
