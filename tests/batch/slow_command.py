"""The command line with a delay in each shard of `spoter predict --out`, so that a test can stop it during a run.

Its worker processes import this file as their main module and unpickle `Slow` from it.
"""

from __future__ import annotations

import time

from spoter.batch import predictor
from spoter.cli.main import main

DELAY_S = 0.3


class Slow(predictor.ShardPredictor):
    """Waits before it computes a shard."""

    def __call__(self, *arguments) -> bytes:
        time.sleep(DELAY_S)
        return super().__call__(*arguments)


if __name__ == "__main__":
    predictor.ShardPredictor = Slow
    main()
