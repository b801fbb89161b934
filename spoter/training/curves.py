"""Metrics of a run, written during training: metrics.jsonl, curves.png and TensorBoard's event files."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from spoter.files import atomic_write, atomic_write_bytes

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

METRICS, CURVES = "metrics.jsonl", "curves.png"
_REDRAW_INTERVAL_S = 20.0  # between two drawings during a run: drawing takes as long as a small epoch


def metrics_lines(history: Sequence[dict[str, float]]) -> bytes:
    """Return the content of metrics.jsonl: one JSON object per epoch."""
    rounded = ({k: v if isinstance(v, int) else float(f"{v:.6g}") for k, v in line.items()} for line in history)
    return "".join(f"{json.dumps(line)}\n" for line in rounded).encode()


def draw_curves(path: Path, history: Sequence[dict[str, float]]) -> None:
    """Draw loss, top-1 and learning rate by epoch into a PNG file."""
    epochs = [line["epoch"] for line in history]
    figure = Figure(figsize=(12, 3.6))
    loss, top1, rate = figure.subplots(1, 3)
    figure.subplots_adjust(left=0.05, right=0.98, bottom=0.14, top=0.9, wspace=0.28)  # an automatic layout draws twice
    for axes, name, title in ((loss, "loss", "Loss"), (top1, "top1", "Top-1")):
        for side in ("train", "validation"):
            if f"{side}_{name}" in history[0]:
                axes.plot(epochs, [line[f"{side}_{name}"] for line in history], label=side, marker=".")
        axes.set(title=title, xlabel="Epoch")
        axes.legend()
    top1.set_ylim(0, 1.02)
    rate.plot(epochs, [line["learning_rate"] for line in history], marker=".")
    rate.set(title="Learning rate at the end of the epoch", xlabel="Epoch")
    for axes in (loss, top1, rate):
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)


class MetricsWriter:
    """Writes metrics.jsonl and curves.png into `folder`, and events into the folder `tensorboard`, after each epoch.

    Events that are already in the folder, from an earlier or an interrupted run, are dropped, and the whole history is
    written again.
    """

    def __init__(self, folder: Path, tensorboard: Path | None) -> None:
        self.folder = folder
        self._board: SummaryWriter | None = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(tensorboard, purge_step=1)
        self._epochs_on_board = 0
        self._drawn = time.monotonic()

    def __call__(self, history: Sequence[dict[str, float]]) -> None:
        """Write `history`, which starts with the lines of the previous call."""
        atomic_write_bytes(self.folder / METRICS, metrics_lines(history))
        if time.monotonic() - self._drawn >= _REDRAW_INTERVAL_S:
            draw_curves(self.folder / CURVES, history)
            self._drawn = time.monotonic()
        if self._board:
            for line in history[self._epochs_on_board :]:
                for name, value in line.items():
                    if name != "epoch":
                        self._board.add_scalar(name.replace("_", "/", 1), value, line["epoch"])
            self._epochs_on_board = len(history)
            self._board.flush()

    def close(self) -> None:
        """Close TensorBoard's files."""
        if self._board:
            self._board.close()
