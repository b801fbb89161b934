"""The command `spoter train`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from spoter.training.commands.options import Data, Device, Threads, names_of
from spoter.training.settings import TrainSettings

# torch and all that needs it is imported by the command: `spoter --help` shall not wait for it.

Layers = Annotated[int, typer.Option(min=1, help="Layers of the transformer's half.")]
Feedforward = Annotated[int, typer.Option(min=1, help="Width of the feed-forward parts of that half.")]


def add_to(app: typer.Typer) -> None:
    """Register the command with a typer application."""
    app.command()(train)


def train(
    data: Data,
    out: Annotated[Path, typer.Option(help="Model folder to write.")],
    about: Annotated[
        Path | None, typer.Option(help="Markdown that opens the model card: data, licence, limits.")
    ] = None,
    name: Annotated[
        str, typer.Option(help="What the model calls itself; the folder's name by default.")
    ] = TrainSettings.name,
    version: Annotated[str, typer.Option(help="The model's version.")] = TrainSettings.version,
    layout: Annotated[
        str, typer.Option(help="29, 54, 71, spoter54, or the path of a layout's CSV.")
    ] = TrainSettings.layout,
    normalize: Annotated[str, typer.Option(help="box, none or bohacek.")] = TrainSettings.normalize,
    positions: Annotated[str, typer.Option(help="per-frame, or shared as in the original.")] = TrainSettings.positions,
    heads: Annotated[
        int, typer.Option(min=0, help="Attention heads; 0 for the most, up to 9, that the layout allows.")
    ] = TrainSettings.heads,
    encoder_layers: Layers = TrainSettings.encoder_layers,
    decoder_layers: Layers = TrainSettings.decoder_layers,
    encoder_feedforward: Feedforward = TrainSettings.encoder_feedforward,
    decoder_feedforward: Feedforward = TrainSettings.decoder_feedforward,
    position_rows: Annotated[
        int, typer.Option(min=1, help="Learned positions; with per-frame the most frames.")
    ] = TrainSettings.position_rows,
    validation: Annotated[
        float, typer.Option(help="Share of clips for validation, in whole groups.")
    ] = TrainSettings.validation,
    test: Annotated[float, typer.Option(help="Share of clips for testing, in whole groups.")] = TrainSettings.test,
    val_groups: Annotated[
        str, typer.Option(help="Validation groups by name, comma-separated, instead of a share.")
    ] = "",
    test_groups: Annotated[str, typer.Option(help="Test groups by name, comma-separated, instead of a share.")] = "",
    epochs: Annotated[int, typer.Option(min=1, help="Times that training looks at all clips.")] = TrainSettings.epochs,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Clips of each step; fewer where they are long.")
    ] = TrainSettings.batch_size,
    learning_rate: Annotated[
        float, typer.Option(min=0, help="Highest rate: a warm-up comes before, half a cosine after.")
    ] = TrainSettings.learning_rate,
    weight_decay: Annotated[
        float, typer.Option(min=0, help="Of AdamW, on the matrices of layers.")
    ] = TrainSettings.weight_decay,
    label_smoothing: Annotated[
        float, typer.Option(min=0, max=0.9, help="Share of the target spread over all glosses.")
    ] = TrainSettings.label_smoothing,
    dropout: Annotated[
        float, typer.Option(min=0, max=0.9, help="Share of activations left out in training.")
    ] = TrainSettings.dropout,
    average: Annotated[
        float, typer.Option(min=0, max=0.9999, help="Decay of the weights' moving average; 0 for none.")
    ] = TrainSettings.average,
    patience: Annotated[
        int, typer.Option(min=1, help="Stop after so many epochs without a better validation.")
    ] = TrainSettings.patience,
    seed: Annotated[
        int, typer.Option(min=0, help="Of the split, the first weights and all that is random.")
    ] = TrainSettings.seed,
    folds: Annotated[
        int, typer.Option(min=0, help="Then try the recipe on so many folds of groups, for the card.")
    ] = TrainSettings.folds,
    fold_epochs: Annotated[
        int, typer.Option(min=0, help="Epochs of each fold; 0 for --epochs.")
    ] = TrainSettings.fold_epochs,
    threads: Threads = TrainSettings.threads,
    device: Device = TrainSettings.device,
) -> None:
    """Train a SPOTER on DATA, split by whole groups, and write its model folder."""
    options = dict(locals())
    for key in ("val_groups", "test_groups"):
        options[key] = names_of(options[key])

    from spoter.training.train import train as run

    trained = run(TrainSettings(**options), progress=sys.stderr.isatty())
    for side in ("validation", "test"):
        scores = getattr(trained.figures, side)
        print(f"{side}: top-1 {scores.top(1):.4f}, top-5 {scores.top(5):.4f} of {len(scores.labels)} clips")
    print(f"wrote {out}: epoch {trained.fitted.epoch} of {len(trained.fitted.history)}, {trained.fitted.seconds:.0f} s")
