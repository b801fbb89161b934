"""The options of a training run. Each is written once, as a field of `TrainSettings`; the module needs no torch.

`spoter train` makes its command-line options from these fields, `spoter.training.settings_file` the keys of a file.
"""

from __future__ import annotations

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
    """What the command line, settings files and the bounds check need to know about a field of `TrainSettings`."""

    help: str
    min: float | None = None  # least number; without it there are no bounds
    below: float = 2**31  # exclusive; torch takes no larger integers
    min_open: bool = False  # `min` itself is excluded
    choices: tuple[str, ...] = ()  # all texts are allowed where it is empty

    def check(self, name: str, value: object) -> None:
        """Raise `DataError` where `value` is out of bounds, or no choice."""
        if self.choices and value not in self.choices:
            choices = ", ".join(filter(None, self.choices))
            raise DataError(f"settings: found {name} {value!r}, expected one of {choices}")
        if self.min is None or not isinstance(value, int | float):
            return
        if not self.min <= value < self.below or (self.min_open and value == self.min):
            least = f"above {self.min:g}" if self.min_open else f"at least {self.min:g}"
            raise DataError(f"settings: found {name} {value!r}, expected {least}, below {self.below}")


_GROUPS_HELP = "groups instead of a share: names or patterns, comma-separated: 'anna*,ben'."
_LAYERS = Option("Layers of the transformer's half.", min=1)
_FEEDFORWARD = Option("Width of the feed-forward parts of that half.", min=1)


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """Settings of `spoter train`; `DataError` for a number out of its bounds or an unknown choice, naming the field.

    `data` are labelled clips in any form that `spoter.training.data.read_dataset` reads, `out` is the model folder to
    write. Each other field is an option of its name.
    """

    data: Path
    out: Path
    validation_data: Annotated[Path | None, Option("Labelled clips for validation, instead of a share of DATA.")] = None
    test_data: Annotated[Path | None, Option("Labelled clips for testing, instead of a share of DATA.")] = None
    group_regex: Annotated[
        str, Option("Regular expression searched in each clip's name; its first (…) is the clip's group.")
    ] = ""
    skip_bad: Annotated[bool, Option("Leave bad and duplicate clips out, and list them.")] = False
    leave_out: Annotated[tuple[str, ...], Option("Glosses not to train on, comma-separated: unknown ones.")] = ()
    about: Annotated[Path | None, Option("Markdown that opens the model card: data, licence, limits.")] = None
    name: Annotated[str, Option("What the model calls itself; the folder's name by default.")] = ""
    version: Annotated[str, Option("The model's version.")] = "1.0"
    estimator: Annotated[str, Option("Whose landmarks DATA must be: mediapipe, openpose, wholepose.")] = ""
    layout: Annotated[str, Option("29, 54, 71, spoter54, or the path of a layout's CSV.")] = "54"
    normalize: Annotated[str, Option("box, none or bohacek.")] = "box"
    positions: Annotated[str, Option("per-frame, or shared as in the original.")] = "per-frame"
    heads: Annotated[int, Option("Attention heads; 0 for the most, up to 9, that the layout allows.", min=0)] = 0
    encoder_layers: Annotated[int, _LAYERS] = 3
    decoder_layers: Annotated[int, _LAYERS] = 2
    encoder_feedforward: Annotated[int, _FEEDFORWARD] = 256
    decoder_feedforward: Annotated[int, _FEEDFORWARD] = 256
    position_rows: Annotated[int, Option("Learned positions; with per-frame the most frames.", min=1)] = 512
    validation: Annotated[float, Option("Share of clips for validation, in whole groups.")] = 0.15
    test: Annotated[float, Option("Share of clips for testing, in whole groups.")] = 0.15
    validation_by_clip: Annotated[
        bool, Option("Draw the validation share clip by clip from the training groups: for few signers.")
    ] = False
    val_groups: Annotated[tuple[str, ...], Option(f"Validation {_GROUPS_HELP}")] = ()
    test_groups: Annotated[tuple[str, ...], Option(f"Test {_GROUPS_HELP}")] = ()
    epochs: Annotated[int, Option("Times that training looks at all clips.", min=1)] = 60
    batch_size: Annotated[int, Option("Clips of each step; fewer where they are long.", min=1)] = 32
    optimizer: Annotated[str, Option(" or ".join(OPTIMIZERS), choices=OPTIMIZERS)] = "adamw"
    learning_rate: Annotated[float, Option("Highest rate of the schedule.", min=0, below=math.inf, min_open=True)] = (
        1e-3
    )
    schedule: Annotated[
        str, Option(f"{' or '.join(SCHEDULES)}; cosine: a warm-up, then half a cosine.", choices=SCHEDULES)
    ] = "cosine"
    weight_decay: Annotated[float, Option("On the matrices of layers.", min=0)] = 0.05
    label_smoothing: Annotated[float, Option("Share of the target spread over all glosses.", min=0, below=1)] = 0.1
    dropout: Annotated[float, Option("Share of activations left out in training.", min=0, below=1)] = 0.1
    gradient_norm: Annotated[float, Option("Longer gradients are cut to this; 0 leaves them alone.", min=0)] = 1.0
    average: Annotated[float, Option("Decay of the weights' moving average; 0 for none.", min=0, below=1)] = 0.98
    patience: Annotated[
        int, Option("Stop after so many epochs with a worse validation than the best; 0 for never.", min=0)
    ] = 30
    augmentation: Annotated[
        str, Option(f"How clips are changed: {', '.join(AUGMENTATIONS)}.", choices=tuple(AUGMENTATIONS))
    ] = "ours"
    seed: Annotated[int, Option("Of the split, the first weights and all that is random.", min=0, below=2**63)] = 0
    folds: Annotated[int, Option("Then try the recipe on so many folds of groups, for the card.", min=0)] = 0
    fold_epochs: Annotated[int, Option("Epochs of each fold; 0 for --epochs.", min=0)] = 0
    precision: Annotated[
        str, Option(f"{' or '.join(PRECISIONS)}. Default: bf16 on CUDA, else fp32.", choices=("", *PRECISIONS))
    ] = ""
    threads: Annotated[int, Option("Threads of torch on the CPU; 0 leaves them to torch.", min=0)] = 0
    device: Annotated[str, Option("torch device: cpu, cuda, cuda:1.")] = "cpu"
    tensorboard: Annotated[Path | None, Option("Folder for TensorBoard's event files.")] = None

    def __post_init__(self) -> None:
        for name, option in OPTIONS.items():
            option.check(name, getattr(self, name))

    @property
    def augmenter(self) -> Augmenter:
        """The augmentation that training applies to clips."""
        return AUGMENTATIONS[self.augmentation]()

    def command(self) -> str:
        """Return the command line that repeats this run; of paths that lie elsewhere it holds the names alone."""
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
"""The options of `TrainSettings` by field: all fields but `data` and `out`."""

RECIPES: dict[str, dict[str, object]] = {
    "ours": {},
    # matyasbohacek/spoter: train.py (SGD without momentum, 0.001, batch 1, 100 epochs; its ReduceLROnPlateau is made
    # and never stepped), spoter_model.py (9 heads, 6 + 6 layers, 2048 and 256 wide, one learned position). The Peruvian
    # variant has 1024 rows of positions instead of 50; both use the first alone.
    "original": {
        **dict(positions="shared", position_rows=50, encoder_layers=6, decoder_layers=6),
        **dict(encoder_feedforward=2048, decoder_feedforward=256, dropout=0.1),
        **dict(epochs=100, batch_size=1, patience=0, augmentation="original"),
        **dict(optimizer="sgd", learning_rate=0.001, schedule="constant"),
        **dict(weight_decay=0.0, label_smoothing=0.0, gradient_norm=0.0, average=0.0),
    },
}
"""Presets: settings by the name of a recipe. What a preset does not name is the default."""


def _portable(path: Path) -> str:
    return path.name if path.is_absolute() or ".." in path.parts else path.as_posix()
