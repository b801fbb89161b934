"""Everything a training run is told, as one value that its model card can repeat. It needs no torch."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field, fields
from pathlib import Path

from spoter.errors import DataError
from spoter.landmarks.layouts import BUILT_IN
from spoter.training.augment.augmentation import Augmentation
from spoter.training.augment.base import Changes, Unchanged
from spoter.training.augment.paper import OriginalAugmentation

OPTIMIZERS = ("adamw", "sgd")
SCHEDULES = ("cosine", "constant")
PRECISIONS = ("fp32", "bf16")


AUGMENTATIONS = {"ours": Augmentation, "original": OriginalAugmentation, "none": Unchanged}


@dataclass(frozen=True)
class Recipe:
    """How a model is trained.

    Attributes
    ----------
    epochs, batch_size : int
    optimizer : str
        ``adamw``, or ``sgd`` without momentum.
    learning_rate : float
    schedule : str
        ``cosine``: the rate rises over the first tenth of the steps and falls along half a cosine; ``constant``.
    weight_decay : float
        Biases, norms, positions and the class query do not decay.
    label_smoothing, dropout : float
    gradient_norm : float
        Gradients longer than this are cut to it; 0 leaves them alone.
    average : float
        Decay of the moving average of the weights, which is what is validated and kept; 0 for none.
    patience : int
        Stop after so many epochs with a worse validation than the best; 0 for never.
    seed : int
        Of the first weights, dropout, the order of clips and augmentation.
    changes : Changes
    """

    epochs: int = 60
    batch_size: int = 32
    optimizer: str = "adamw"
    learning_rate: float = 1e-3
    schedule: str = "cosine"
    weight_decay: float = 0.05
    label_smoothing: float = 0.1
    dropout: float = 0.1
    gradient_norm: float = 1.0
    average: float = 0.98
    patience: int = 30
    seed: int = 0
    changes: Changes = field(default_factory=Augmentation)


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """Settings of `spoter train`; each field but `data` is an option of that name.

    Attributes
    ----------
    data : Path
        Labelled clips, in any form `spoter.training.data.read_dataset` reads.
    out : Path
        Model folder to write.
    validation_data, test_data : Path or None
        Clips of these sides in files of their own; else they are split from `data`.
    group_regex : str
        Regular expression searched in each clip's name; what its first pair of brackets matches is the clip's group.
    skip_bad : bool
        Leave out clips that cannot be used instead of stopping at the first.
    leave_out : tuple of str
        Glosses whose clips are not trained on, to measure how signs that a model does not know are told and enrolled.
    about : Path or None
        Markdown text on data, licence, use and limits that opens the model card.
    name, version : str
        What the model calls itself; by default the folder's name.
    estimator : str
        Whose landmarks the data must be; by default whatever they are.
    heads : int
        Attention heads; 0 for the most, up to the original's 9, that divide the width.
    layout, normalize, positions, encoder_layers, decoder_layers, encoder_feedforward, decoder_feedforward, \
    position_rows
        As in `spoter.model.config.ModelConfig`.
    validation, test, val_groups, test_groups
        As in `spoter.training.data.split.split_groups`; `val_groups` are its validation groups.
    epochs, batch_size, optimizer, learning_rate, schedule, weight_decay, label_smoothing, dropout, gradient_norm, \
    average, patience, seed
        As in `Recipe`; the seed is also the split's.
    augmentation : str
        ``ours``, ``original`` (the SPOTER paper's own code) or ``none``.
    folds : int
        If above 0, the recipe is tried on that many folds of whole groups afterwards, for the model card.
    fold_epochs : int
        Epochs of each fold; 0 for `epochs`.
    precision : str
        ``fp32`` or ``bf16`` (autocast; weights stay fp32); by default bf16 on CUDA and fp32 elsewhere.
    threads : int
        Of torch on the CPU; 0 leaves them to torch.
    device : str
        A torch device: cpu, cuda, cuda:1.
    tensorboard : Path or None
        Folder for TensorBoard's event files.

    Raises
    ------
    DataError
        For a number outside its bounds or an unknown word, naming the field.
    """

    data: Path
    out: Path
    validation_data: Path | None = None
    test_data: Path | None = None
    group_regex: str = ""
    skip_bad: bool = False
    leave_out: tuple[str, ...] = ()
    about: Path | None = None
    name: str = ""
    version: str = "1.0"
    estimator: str = ""
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
    validation_by_clip: bool = False
    val_groups: tuple[str, ...] = ()
    test_groups: tuple[str, ...] = ()
    epochs: int = Recipe.epochs
    batch_size: int = Recipe.batch_size
    optimizer: str = Recipe.optimizer
    learning_rate: float = Recipe.learning_rate
    schedule: str = Recipe.schedule
    weight_decay: float = Recipe.weight_decay
    label_smoothing: float = Recipe.label_smoothing
    dropout: float = Recipe.dropout
    gradient_norm: float = Recipe.gradient_norm
    average: float = Recipe.average
    patience: int = Recipe.patience
    augmentation: str = "ours"
    seed: int = Recipe.seed
    folds: int = 0
    fold_epochs: int = 0
    precision: str = ""
    threads: int = 0
    device: str = "cpu"
    tensorboard: Path | None = None

    def __post_init__(self) -> None:
        for name, low in _AT_LEAST.items():
            bits = 63 if name == "seed" else 31  # torch takes no more
            self._expect(name, low <= getattr(self, name) < 2**bits, f"at least {low}, below 2**{bits}")
        for name in ("label_smoothing", "dropout", "average"):
            self._expect(name, 0 <= getattr(self, name) < 1, "a share from 0 to below 1")
        self._expect("learning_rate", 0 < self.learning_rate < float("inf"), "a number above 0")
        for name, words in _ONE_OF.items():
            self._expect(name, getattr(self, name) in words, f"one of {', '.join(filter(None, words))}")

    def _expect(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise DataError(f"settings: found {name} {getattr(self, name)!r}, expected {expected}")

    @property
    def recipe(self) -> Recipe:
        """The part of the settings that the training loop needs."""
        names = {option.name for option in fields(Recipe)} & {option.name for option in fields(self)}
        return Recipe(**{name: getattr(self, name) for name in names}, changes=AUGMENTATIONS[self.augmentation]())

    def command(self) -> str:
        """Return the command line that repeats this run; of paths that lie elsewhere it holds the names alone."""
        words = ["spoter", "train", _shown(self.data), "--out", _shown(self.out)]
        for option in fields(self):
            value = getattr(self, option.name)
            if option.name in ("data", "out", "tensorboard") or value == option.default:
                continue
            words.append(f"--{option.name.replace('_', '-')}")
            if isinstance(value, Path):
                words.append(_shown(value))
            elif option.name == "layout" and value not in BUILT_IN:
                words.append(_shown(Path(value)))
            elif value is not True:
                words.append(",".join(value) if isinstance(value, tuple) else str(value))
        return shlex.join(words)


_AT_LEAST = (
    dict.fromkeys(("encoder_layers", "decoder_layers", "encoder_feedforward", "decoder_feedforward"), 1)
    | dict.fromkeys(("position_rows", "epochs", "batch_size"), 1)
    | dict.fromkeys(("heads", "weight_decay", "gradient_norm", "patience", "seed", "folds", "fold_epochs"), 0)
    | {"threads": 0}
)
_ONE_OF = {
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "augmentation": tuple(AUGMENTATIONS),
    "precision": ("", *PRECISIONS),
}

RECIPES: dict[str, dict[str, object]] = {
    "ours": {},
    # matyasbohacek/spoter: train.py (SGD without momentum, 0.001, batch 1, 100 epochs; its ReduceLROnPlateau is made
    # and never stepped), spoter_model.py (9 heads, 6 + 6 layers, 2048 and 256 wide, one learned position). The Peruvian
    # variant has 1024 rows of positions instead of 50; both use the first alone.
    "original": dict(
        positions="shared",
        encoder_layers=6,
        decoder_layers=6,
        encoder_feedforward=2048,
        decoder_feedforward=256,
        position_rows=50,
        epochs=100,
        batch_size=1,
        optimizer="sgd",
        learning_rate=0.001,
        schedule="constant",
        weight_decay=0.0,
        label_smoothing=0.0,
        dropout=0.1,
        gradient_norm=0.0,
        average=0.0,
        patience=0,
        augmentation="original",
    ),
}
"""Presets: settings by the name of a recipe. What a preset does not name is the default."""


def _shown(path: Path) -> str:
    return path.name if path.is_absolute() or ".." in path.parts else path.as_posix()
