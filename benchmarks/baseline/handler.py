"""TorchServe's door to the original's request handling, for comparison: `benchmarks.peers` puts it into an archive.

The three functions of `benchmarks.baseline.pipeline` in the place of our handler: one request after the other, as the container
of the original ran its code, with original-style layers of the archive's model and random weights. The log of whole
bodies goes to a file, which is cut off when it has grown, as a container's log is rotated. Torch gets one thread here,
which the original did not see to: with a worker for each core it is faster that way. So it is with what is loaded
kept from the garbage collector, as our handler keeps it.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from pathlib import Path

LOG = "original.log"
LARGEST_LOG = 200_000_000  # bytes


class OriginalHandler:
    """What TorchServe calls: `initialize` once in each worker, then `handle` for each request."""

    def initialize(self, context) -> None:
        """Make the layers of the archive's sizes; without their weights, which cost nothing other than others."""
        folder = Path(context.system_properties["model_dir"])
        sys.path.insert(0, str(folder))
        from benchmarks.baseline.layers import SPOTER
        from benchmarks.baseline.pipeline import Original, logger_to
        from spoter.runtime.threads import limit_threads

        limit_threads(1, "torch")
        config = json.loads((folder / "config.json").read_text())
        model = SPOTER(
            classes=config["classes"],
            width=108,  # of its 54 points
            heads=config["heads"],
            layers=(config["encoder_layers"], config["decoder_layers"]),
            feedforward=(config["encoder_feedforward"], config["decoder_feedforward"]),
            rows=config["position_rows"],
        ).eval()
        self.log = Path(os.environ["LOG_LOCATION"], f"{os.getpid()}-{LOG}")
        self.answer = Original(model, json.loads((folder / "meaning.json").read_text()), logger_to(self.log))
        gc.collect()
        gc.freeze()

    def handle(self, data: list[dict], context) -> list[bytes]:
        """Answer the full requests of a batch, of which TorchServe is told to make none larger than one."""
        answers = [self.answer(bytes(item["body"])) for item in data]
        for index in range(len(data)):
            context.set_response_content_type(index, "application/json")
        if self.log.stat().st_size > LARGEST_LOG:
            os.truncate(self.log, 0)  # the file is open for appending: what follows starts at its new end
        return answers
