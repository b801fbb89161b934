"""Everything a training run is told, as one value that its model card can repeat. It needs no torch."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field, fields
from pathlib import Path

from spoter.training.augment import Augmentation


@dataclass(frozen=True)
class Recipe:
    """How a model is trained.

    Attributes
    ----------
    epochs, batch_size : int
    learning_rate, weight_decay : float
        Of AdamW. The rate rises over the first tenth of the steps and falls along half a cosine. Biases, norms,
        positions and the class query do not decay.
    label_smoothing, dropout, gradient_norm : float
    average : float
        Decay of the moving average of the weights, which is what is validated and kept; 0 for none.
    patience : int
        Stop after so many epochs without a better validation.
    seed : int
        Of the first weights, dropout, the order of clips and augmentation.
    """

    epochs: int = 60
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    label_smoothing: float = 0.1
    dropout: float = 0.1
    gradient_norm: float = 1.0
    average: float = 0.98
    patience: int = 30
    seed: int = 0
    changes: Augmentation = field(default_factory=Augmentation)


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """Settings of `spoter train`; each field but `data` is an option of that name.

    Attributes
    ----------
    data : Path
        ConnectingPoints HDF5 file.
    out : Path
        Model folder to write.
    about : Path or None
        Markdown text on data, licence, use and limits that opens the model card.
    name, version : str
        What the model calls itself; by default the folder's name.
    heads : int
        Attention heads; 0 for the most, up to the original's 9, that divide the width.
    layout, normalize, positions, encoder_layers, decoder_layers, encoder_feedforward, decoder_feedforward, \
    position_rows
        As in `spoter.config.ModelConfig`.
    validation, test, val_groups, test_groups
        As in `spoter.training.split.split_groups`; `val_groups` are its validation groups.
    epochs, batch_size, learning_rate, weight_decay, label_smoothing, dropout, average, patience, seed
        As in `Recipe`; the seed is also the split's.
    folds : int
        If above 0, the recipe is tried on that many folds of whole groups afterwards, for the model card.
    fold_epochs : int
        Epochs of each fold; 0 for `epochs`.
    threads : int
        Of torch on the CPU; 0 leaves them to torch.
    device : str
        A torch device: cpu, cuda, cuda:1.
    """

    data: Path
    out: Path
    about: Path | None = None
    name: str = ""
    version: str = "1.0"
    layout: str = "54"
    normalize: str = "box"
    positions: str = "per-frame"
    heads: int = 0
    encoder_layers: int = 3
    decoder_layers: int = 2
    encoder_feedforward: int = 256
    decoder_feedforward: int = 256
    position_rows: int = 512
    validation: float = 0.15
    test: float = 0.15
    val_groups: tuple[str, ...] = ()
    test_groups: tuple[str, ...] = ()
    epochs: int = Recipe.epochs
    batch_size: int = Recipe.batch_size
    learning_rate: float = Recipe.learning_rate
    weight_decay: float = Recipe.weight_decay
    label_smoothing: float = Recipe.label_smoothing
    dropout: float = Recipe.dropout
    average: float = Recipe.average
    patience: int = Recipe.patience
    seed: int = Recipe.seed
    folds: int = 0
    fold_epochs: int = 0
    threads: int = 0
    device: str = "cpu"

    @property
    def recipe(self) -> Recipe:
        """The part of the settings that the training loop needs."""
        names = {option.name for option in fields(Recipe)} & {option.name for option in fields(self)}
        return Recipe(**{name: getattr(self, name) for name in names})

    def command(self) -> str:
        """Return the command line that repeats this run; of paths that lie elsewhere it holds the names alone."""
        words = ["spoter", "train", _shown(self.data), "--out", _shown(self.out)]
        for option in fields(self):
            value = getattr(self, option.name)
            if option.name in ("data", "out") or value == option.default:
                continue
            if isinstance(value, Path):
                value = _shown(value)
            words += [f"--{option.name.replace('_', '-')}", ",".join(value) if isinstance(value, tuple) else str(value)]
        return shlex.join(words)


def _shown(path: Path) -> str:
    return path.name if path.is_absolute() or ".." in path.parts else path.as_posix()
