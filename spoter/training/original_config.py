"""The original project's config.json as settings of a training run.

Its ``hparams`` name what its train.py takes as options (Diccionario-LSP/Spoter-LSP-IA-Model, JoeNatan30/Spoter-SL); the
seed stands beside them, or among them. What they do not name is the original's recipe.
"""

from __future__ import annotations

from pathlib import Path

from spoter.errors import DataError
from spoter.landmarks.layouts import BUILT_IN
from spoter.model.convert import ORIGINAL_SIZES, read_original_config

_SETTINGS = {"lr": "learning_rate", "epochs": "epochs", "seed": "seed", "keypoints_model": "estimator"}
_SETTINGS |= {key: field for key, field in ORIGINAL_SIZES.items() if field != "classes"}


def settings_of_original(path: Path) -> tuple[dict[str, object], list[str]]:
    """Return the settings that an original config.json asks for, and its keys that mean nothing here, sorted.

    ``dim_feedforward`` becomes the width of both halves; ``keypoints_number`` the built-in layout of so many landmarks,
    or half as many, as the server's code counts coordinates.

    Raises
    ------
    ModelFolderError, DataError
        Where it is no such file, or a value is of another type than it should be.
    """
    said = read_original_config(path)
    settings: dict[str, object] = {"recipe": "original"}
    settings |= {field: said[key] for key, field in _SETTINGS.items() if key in said}
    if "dim_feedforward" in said:
        settings |= {"encoder_feedforward": said["dim_feedforward"], "decoder_feedforward": said["dim_feedforward"]}
    if "keypoints_number" in said:
        settings["layout"] = _layout(said["keypoints_number"], path)
    used = {*_SETTINGS, "dim_feedforward", "keypoints_number"}
    return settings, sorted(said.keys() - used)


def _layout(number: int, path: Path) -> str:
    for points in (number, number / 2):
        if f"{points:g}" in BUILT_IN:
            return f"{points:g}"
    expected = ", ".join(f"{name} or {2 * int(name)}" for name in BUILT_IN if name.isdigit())
    raise DataError(f"{path}: found keypoints_number {number}, expected {expected}")
