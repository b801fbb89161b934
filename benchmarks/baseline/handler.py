"""A TorchServe handler that handles requests as the original system did; `benchmarks.peers` puts it into an archive.

It answers one request at a time, as the original's container did, with the original's layers in the sizes of the
archive's model and with random weights. It logs all landmarks to a file, and truncates a large file, as container logs
are rotated. Like our handler, it limits torch to one thread and hides loaded objects from the garbage collector.
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
    """A handler: TorchServe calls `initialize` once in each worker, then `handle` for each batch."""

    def initialize(self, context: Any) -> None:
        """Create a model in the sizes of the archive's config; random weights cost the same as trained weights."""
        folder = Path(context.system_properties["model_dir"])
        sys.path.insert(0, str(folder))
        from benchmarks.baseline.layers import SPOTER
        from benchmarks.baseline.pipeline import Original, open_logger
        from spoter.runtime.device import limit_threads

        limit_threads(1, "torch")
        config = json.loads((folder / "config.json").read_text())
        model = SPOTER(
            classes=config["classes"],
            width=108,  # x and y of 54 points
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
        """Answer the full requests of a batch; TorchServe is configured for batches of one."""
        answers = [self.answer(bytes(item["body"])) for item in data]
        for index in range(len(data)):
            context.set_response_content_type(index, "application/json")
        if self.log.stat().st_size > LARGEST_LOG:
            os.truncate(self.log, 0)  # the file is open for appending, so later lines start at its new end
        return answers
