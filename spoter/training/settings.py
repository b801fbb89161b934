"""The options of a training run, each defined once as a field of `TrainSettings`. This module does not import torch.

`spoter train` builds its command-line options from these fields; `spoter.training.settings_file` reads them from files.
"""

import math
import shlex
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, get_origin, get_type_hints

from spoter.errors import DataError
from spoter.landmarks.layouts import BUILT_IN
from spoter.training.augment.augmentation import Augmentation, Augmenter, NoAugmentation, OriginalAugmentation

OPTIMIZERS = ("adamw", "sgd")
SCHEDULES = ("cosine", "constant")
PRECISIONS = ("fp32", "bf16")
AUGMENTATIONS: dict[str, type[Augmenter]] = dict(ours=Augmentation, original=OriginalAugmentation, none=NoAugmentation)


@dataclass(frozen=True)
class Option:
    """Help text and allowed values of a field of `TrainSettings`, for the command line and settings files."""

    help: str
    min: float | None = None  # smallest number; None: no bounds
    below: float = 2**31  # upper bound, excluded; torch accepts no larger integers
    min_open: bool = False  # `min` itself is excluded
    choices: tuple[str, ...] = ()  # empty: any text is allowed

    def check(self, name: str, value: object) -> None:
        """Raise `DataError` if `value` is out of bounds or not one of the choices."""
        if self.choices and value not in self.choices:
            choices = ", ".join(filter(None, self.choices))
            raise DataError(f"settings: found {name} {value!r}, expected one of {choices}")
        if self.min is None or not isinstance(value, int | float):
            return
        if not self.min <= value < self.below or (self.min_open and value == self.min):
            lower_bound = f"above {self.min:g}" if self.min_open else f"at least {self.min:g}"
            raise DataError(f"settings: found {name} {value!r}, expected {lower_bound} and below {self.below}")


_GROUPS_HELP = "groups instead of a share: names or patterns, comma-separated: 'anna*,ben'."


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """Settings of `spoter train`.

    `data` are labeled clips in any form that `spoter.training.data.read_dataset` reads. `out` is the model folder to
    write. Every other field is the option of the same name. Raises `DataError`, naming the field, for a number out of
    bounds and an unknown choice.
    """

    data: Path
    out: Path
    validation_data: Annotated[Path | None, Option("Labeled clips for validation, instead of a share of DATA.")] = None
    test_data: Annotated[Path | None, Option("Labeled clips for testing, instead of a share of DATA.")] = None
    group_regex: Annotated[
        str, Option("Regular expression searched in each clip's name; its first (…) captures the group.")
    ] = ""
    skip_bad: Annotated[bool, Option("Skip bad and duplicate clips, and list them.")] = False
    leave_out: Annotated[tuple[str, ...], Option("Glosses to leave out of training, comma-separated.")] = ()
    about: Annotated[Path | None, Option("Markdown file that opens the model card: data, license, limits.")] = None
    name: Annotated[str, Option("Name of the model. Default: the name of the folder.")] = ""
    version: Annotated[str, Option("Version of the model.")] = "1.0"
    estimator: Annotated[str, Option("Estimator that DATA must come from: mediapipe, openpose, wholepose.")] = ""
    layout: Annotated[str, Option("Landmark layout: 29, 54, 71, spoter54, or the path of a CSV.")] = "54"
    normalize: Annotated[str, Option("Normalization: box, none or bohacek.")] = "box"
    positions: Annotated[str, Option("Position embeddings: per-frame, or shared as in the original.")] = "per-frame"
    heads: Annotated[int, Option("Attention heads; 0: the most, up to 9, that the layout allows.", min=0)] = 0
    encoder_layers: Annotated[int, Option("Number of encoder layers.", min=1)] = 3
    decoder_layers: Annotated[int, Option("Number of decoder layers.", min=1)] = 2
    encoder_feedforward: Annotated[int, Option("Width of the encoder's feed-forward networks.", min=1)] = 256
    decoder_feedforward: Annotated[int, Option("Width of the decoder's feed-forward networks.", min=1)] = 256
    position_rows: Annotated[int, Option("Learned positions; per-frame: also the most frames of a clip.", min=1)] = 512
    validation: Annotated[float, Option("Share of clips for validation, in whole groups.")] = 0.15
    test: Annotated[float, Option("Share of clips for testing, in whole groups.")] = 0.15
    validation_by_clip: Annotated[
        bool, Option("Draw the validation share clip by clip from the training groups; for few signers.")
    ] = False
    val_groups: Annotated[tuple[str, ...], Option(f"Validation {_GROUPS_HELP}")] = ()
    test_groups: Annotated[tuple[str, ...], Option(f"Test {_GROUPS_HELP}")] = ()
    epochs: Annotated[int, Option("Maximum number of passes over the training clips.", min=1)] = 60
    batch_size: Annotated[int, Option("Clips per step; fewer if they are long.", min=1)] = 32
    optimizer: Annotated[str, Option(f"Optimizer: {' or '.join(OPTIMIZERS)}.", choices=OPTIMIZERS)] = "adamw"
    learning_rate: Annotated[float, Option("Peak learning rate.", min=0, below=math.inf, min_open=True)] = 1e-3
    schedule: Annotated[
        str, Option("Schedule: cosine (linear warm-up, then half a cosine) or constant.", choices=SCHEDULES)
    ] = "cosine"
    weight_decay: Annotated[float, Option("Weight decay of the weight matrices.", min=0)] = 0.05
    label_smoothing: Annotated[float, Option("Share of the target spread over all glosses.", min=0, below=1)] = 0.1
    dropout: Annotated[float, Option("Dropout probability in training.", min=0, below=1)] = 0.1
    gradient_norm: Annotated[float, Option("Clip gradients to this norm; 0: no clipping.", min=0)] = 1.0
    average: Annotated[float, Option("Decay of the weights' moving average; 0: no average.", min=0, below=1)] = 0.98
    patience: Annotated[
        int, Option("Stop after this many epochs below the best validation accuracy; 0: never.", min=0)
    ] = 30
    augmentation: Annotated[
        str, Option(f"Augmentation of training clips: {', '.join(AUGMENTATIONS)}.", choices=tuple(AUGMENTATIONS))
    ] = "ours"
    seed: Annotated[int, Option("Seed of the split, the initial weights and training.", min=0, below=2**63)] = 0
    folds: Annotated[int, Option("Then cross-validate with this many folds of groups; 0: none.", min=0)] = 0
    fold_epochs: Annotated[int, Option("Epochs per fold; 0: as many as --epochs.", min=0)] = 0
    precision: Annotated[
        str, Option(f"{' or '.join(PRECISIONS)}. Default: bf16 on CUDA, else fp32.", choices=("", *PRECISIONS))
    ] = ""
    threads: Annotated[int, Option("CPU threads of torch; 0: the default of torch.", min=0)] = 0
    device: Annotated[str, Option("torch device: cpu, cuda, cuda:1.")] = "cpu"
    tensorboard: Annotated[Path | None, Option("Folder for TensorBoard's event files.")] = None

    def __post_init__(self) -> None:
        for name, option in OPTIONS.items():
            option.check(name, getattr(self, name))

    @property
    def augmenter(self) -> Augmenter:
        """The augmentation of training clips."""
        return AUGMENTATIONS[self.augmentation]()

    def command(self) -> str:
        """Return the command that repeats this run, with only the names of absolute paths and paths with ``..``."""
        words = ["spoter", "train", _portable(self.data), "--out", _portable(self.out)]
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name not in OPTIONS or field.name == "tensorboard" or value == field.default:
                continue
            words.append(f"--{field.name.replace('_', '-')}")
            if isinstance(value, Path) or (field.name == "layout" and value not in BUILT_IN):
                words.append(_portable(Path(value)))
            elif value is not True:
                words.append(",".join(value) if isinstance(value, tuple) else str(value))
        return shlex.join(words)


OPTIONS: dict[str, Option] = {
    name: hint.__metadata__[0]
    for name, hint in get_type_hints(TrainSettings, include_extras=True).items()
    if get_origin(hint) is Annotated
}
"""The options by field name: all fields of `TrainSettings` except `data` and `out`."""

RECIPES: dict[str, dict[str, object]] = {
    "ours": {},
    # matyasbohacek/spoter: train.py (SGD without momentum, learning rate 0.001, batch size 1, 100 epochs; it creates a
    # ReduceLROnPlateau and never steps it), spoter_model.py (9 heads, 6 + 6 layers, widths 2048 and 256, one learned
    # position). The Peruvian variant has 1024 rows of positions instead of 50; both use only the first row.
    "original": {
        **dict(positions="shared", position_rows=50, encoder_layers=6, decoder_layers=6),
        **dict(encoder_feedforward=2048, decoder_feedforward=256, dropout=0.1),
        **dict(epochs=100, batch_size=1, patience=0, augmentation="original"),
        **dict(optimizer="sgd", learning_rate=0.001, schedule="constant"),
        **dict(weight_decay=0.0, label_smoothing=0.0, gradient_norm=0.0, average=0.0),
    },
}
"""Settings of each preset by the name of the recipe. Settings that a preset does not name keep their defaults."""


def _portable(path: Path) -> str:
    return path.name if path.is_absolute() or ".." in path.parts else path.as_posix()
