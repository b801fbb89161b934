"""A model's config.json: all settings that the weights need to run, checked when the file is read."""

import json
from collections import Counter
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import msgspec

from spoter.errors import ModelFolderError
from spoter.files import read_text
from spoter.landmarks.estimators import ESTIMATORS
from spoter.landmarks.layouts import BUILT_IN
from spoter.limits import Limits

CONFIG = "config.json"
POSITIONS = ("shared", "per-frame")
RUNTIMES = ("torch", "onnx", "onnx-int8")


@dataclass(frozen=True)
class Sizes:
    """All sizes of a SPOTER; all except the width are also fields of `ModelConfig`."""

    width: int  # 2K: two coordinates per landmark of the layout
    heads: int
    encoder_layers: int
    decoder_layers: int
    encoder_feedforward: int
    decoder_feedforward: int
    position_rows: int
    classes: int

    def __post_init__(self) -> None:
        if self.heads < 1 or self.width % self.heads:
            divisors = ", ".join(str(n) for n in range(1, min(self.width, 64) + 1) if self.width % n == 0)
            raise ValueError(f"width {self.width} is not divisible by {self.heads} heads, expected one of {divisors}")

    def config_fields(self) -> dict[str, Any]:
        """Return the sizes that are fields of `ModelConfig`: all except the width, which depends on the layout."""
        return {name: size for name, size in asdict(self).items() if name != "width"}


class ModelConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The fields of config.json; an unknown field or a wrong type is an error."""

    name: str  # the model's name in predictions
    version: str = "1.0"  # the version in predictions and of the archive that `spoter pack` builds
    layout: str  # 29, 54, 71, spoter54, or the name of a layout's CSV file in the model folder
    estimator: str = "mediapipe"  # the source of the landmarks that the model was trained on
    normalize: str = "box"  # a scheme of `spoter.landmarks.normalize`
    # `shared` adds one learned row to all frames (the original: ignores the order of frames), `per-frame` one to each.
    positions: str = "shared"
    heads: int  # the transformer's width is twice the layout's number of landmarks
    encoder_layers: int
    decoder_layers: int
    encoder_feedforward: int
    decoder_feedforward: int
    # Rows of the learned positions. For `per-frame`, the largest number of frames. For `shared`, which does not use
    # them: 50 (upstream) or 1024 (the Peruvian variant).
    position_rows: int
    classes: int  # number of glosses
    temperature: float = 1.0  # divides logits before the softmax; training fits it on validation clips
    # A sign is known if the cosine of its clip with the prototype of the best gloss reaches this value. None if the
    # model cannot detect unknown signs, because it has no prototypes.npz.
    known_threshold: float | None = None
    runtime: str = "torch"  # or ONNX Runtime with a graph of `spoter export`: `onnx` (float32) or `onnx-int8`
    max_frames: int = Limits.max_frames  # limits of a request: this field and all that follow
    max_clips: int = Limits.max_clips
    max_bytes: int = Limits.max_bytes
    max_enrolled: int = Limits.max_enrolled
    max_video_seconds: float = Limits.max_video_seconds
    max_video_pixels: int = Limits.max_video_pixels

    def __post_init__(self) -> None:
        for name, allowed in (("positions", POSITIONS), ("runtime", RUNTIMES), ("estimator", tuple(ESTIMATORS))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"found {name} {getattr(self, name)!r}, expected one of {', '.join(allowed)}")
        plain = self.layout.endswith(".csv") and Path(self.layout).name == self.layout and self.layout.isprintable()
        if self.layout not in BUILT_IN and not plain:
            expected = f"one of {', '.join(BUILT_IN)}, or the name of a .csv file in the model folder"
            raise ValueError(f"found layout {self.layout!r}, expected {expected}")
        for field in msgspec.structs.fields(self):
            value = getattr(self, field.name)
            number = isinstance(value, (int, float)) and field.name != "known_threshold"
            if number and not 0 < value < 2**31:  # False for NaN
                raise ValueError(f"found {field.name} {value}, expected a number above 0 and below 2**31")
            if value == "":
                raise ValueError(f"found an empty {field.name}, expected text")
        # Below 0.01 one gloss is certain for any clip; above 100 all glosses are equally likely.
        if not 0.01 <= self.temperature <= 100:
            raise ValueError(f"found temperature {self.temperature}, expected 0.01 to 100")
        if self.known_threshold is not None and not -1 <= self.known_threshold <= 1:
            raise ValueError(f"found known_threshold {self.known_threshold}, expected a cosine, -1 to 1")
        if self.positions == "per-frame" and self.max_frames > self.position_rows:
            problem = f"found max_frames {self.max_frames}, but only {self.position_rows} position_rows"
            raise ValueError(f"{problem}: lower max_frames, because later frames would have no position")

    def sizes(self, width: int) -> Sizes:
        """Return the sizes of a model with this config and a layout of `width` / 2 landmarks."""
        names = [field.name for field in fields(Sizes) if field.name != "width"]
        return Sizes(width, **{name: getattr(self, name) for name in names})

    @property
    def limits(self) -> Limits:
        """The limits on a request to the model."""
        return Limits(**{limit.name: getattr(self, limit.name) for limit in fields(Limits)})

    def to_json(self) -> bytes:
        """Return the content of config.json: every field, in this order."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"


def default_max_frames(positions: str, position_rows: int) -> int:
    """Return the `max_frames` of a new model: the default, but with per-frame positions at most `position_rows`."""
    return min(Limits.max_frames, position_rows) if positions == "per-frame" else Limits.max_frames


def read_config(folder: Path) -> ModelConfig:
    """Read a model folder's config.json; raises `ModelFolderError`."""
    return parse_config(read_text(folder / CONFIG), str(folder / CONFIG))


def choose_runtime(folder: Path, requested: str | None = None) -> str:
    """Return the requested runtime, or else the model folder's; raises `ModelFolderError`.

    Returns ``torch`` for a folder that does not exist: loading it raises an error that names the expected files.
    """
    return requested or (read_config(folder).runtime if folder.is_dir() else "torch")


def parse_config(text: str | bytes, place: str) -> ModelConfig:
    """Read the text of a config.json; raises `ModelFolderError` with `place` in its message."""
    try:
        return msgspec.convert(json.loads(text, object_pairs_hook=reject_duplicate_keys), ModelConfig)
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise ModelFolderError(f"{place}: {error}") from None


def reject_duplicate_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Return the object of these pairs; raise `ValueError` for duplicates. An ``object_pairs_hook`` of `json.loads`.

    json and msgspec silently keep the last of two equal keys.
    """
    repeated = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
    if repeated:
        raise ValueError(f"found key {repeated[0]!r} more than once")
    return dict(pairs)
