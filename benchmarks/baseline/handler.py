"""A TorchServe handler with the original's request handling: `benchmarks.peers` puts it into an archive.

One request after the other, as the container of the original ran its code, with original-style layers of the archive's
model and random weights. The log of whole bodies goes to a file that is truncated when it is large, as a container's
log is rotated. One thread for torch, and no loaded object for the garbage collector to search, as in our handler.
"""

import gc
import json
import os
import sys
from pathlib import Path
from typing import Any

LOG = "original.log"
LARGEST_LOG = 200_000_000  # bytes


class OriginalHandler:
    """TorchServe calls `initialize` once in each worker, then `handle` for each request."""

    def initialize(self, context: Any) -> None:
        """Make the layers of the archive's sizes; their weights are random, which costs the same."""
        folder = Path(context.system_properties["model_dir"])
        sys.path.insert(0, str(folder))
        from benchmarks.baseline.layers import SPOTER
        from benchmarks.baseline.pipeline import Original, open_logger
        from spoter.runtime.device import limit_threads

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
        self.answer = Original(model, json.loads((folder / "meaning.json").read_text()), open_logger(self.log))
        gc.collect()
        gc.freeze()

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[bytes]:
        """Answer the full requests of a batch, which TorchServe is configured to limit to one."""
        answers = [self.answer(bytes(item["body"])) for item in data]
        for index in range(len(data)):
            context.set_response_content_type(index, "application/json")
        if self.log.stat().st_size > LARGEST_LOG:
            os.truncate(self.log, 0)  # the file is open for appending: further lines start at its new end
        return answers
