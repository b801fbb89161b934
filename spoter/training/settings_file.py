"""Settings of a training run: the command line overrides a file, and a file overrides a preset."""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints

import msgspec

from spoter.errors import DataError
from spoter.landmarks.layouts import BUILT_IN
from spoter.model.convert import HPARAMS_TO_SIZES, read_original_config
from spoter.training.settings import OPTIONS, RECIPES, TrainSettings

# Setting for each key of the original project's config.json; the keys are options of its train.py (Diccionario-LSP/
# Spoter-LSP-IA-Model, JoeNatan30/Spoter-SL).
_ORIGINAL_KEYS = {"lr": "learning_rate", "epochs": "epochs", "seed": "seed", "keypoints_model": "estimator"}
_ORIGINAL_KEYS |= {key: name for key, name in HPARAMS_TO_SIZES.items() if name != "classes"}


def build_settings(
    overrides: Mapping[str, Any], recipe: str = "", config: Path | None = None
) -> tuple[TrainSettings, list[str]]:
    """Return the settings of a run, and the unused keys of `config`.

    `overrides` are fields of `TrainSettings`, including `data` and `out`; they come first. `config` is a file for
    `read_settings`; it overrides `recipe`, a preset of `RECIPES`. Without `recipe`, the preset is that of the file.
    Raises `DataError` or `ModelFolderError` for an unknown preset, settings out of bounds, and as `read_settings`.
    """
    from_file, unused = read_settings(config) if config else ({}, [])
    preset = from_file.pop("recipe", "ours")
    if (recipe := recipe or preset) not in RECIPES:
        raise DataError(f"found recipe {recipe!r}, expected one of {', '.join(RECIPES)}")
    return TrainSettings(**{**RECIPES[recipe], **from_file, **overrides}), unused


def read_settings(path: Path) -> tuple[dict[str, Any], list[str]]:
    """Read settings by field from a TOML or JSON file; return also its unused keys.

    Keys are the options of `TrainSettings`, spelled as fields or as on the command line (``batch-size``), and
    ``recipe``. The file may also be the original project's config.json, recognized by the key ``hparams``; only this
    file may have unused keys. Raises `DataError` or `ModelFolderError` for a file that cannot be read, an unknown key,
    and a value of the wrong type.
    """
    content = _read_file(path)
    if "hparams" in content:
        return _convert_original(path)
    types = get_type_hints(TrainSettings) | {"recipe": str}
    settings: dict[str, Any] = {}
    for key, value in content.items():
        name = key.replace("-", "_")
        if name in ("data", "out"):
            raise DataError(f"{path}: found the key {key!r}; give it on the command line only")
        if name not in types:
            raise DataError(f"{path}: found the unknown key {key!r}, expected one of {', '.join(OPTIONS)}, recipe")
        if name in settings:
            raise DataError(f"{path}: found {name} twice, expected it once")
        try:
            settings[name] = msgspec.convert(value, types[name], dec_hook=lambda kind, text: kind(text))
        except (msgspec.ValidationError, TypeError) as error:
            raise DataError(f"{path}: {key}: {error}") from None
    return settings, []


def _read_file(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        content = tomllib.loads(text) if path.suffix.lower() == ".toml" else json.loads(text)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: found a {type(content).__name__}, expected settings by name")
    return content


def _convert_original(path: Path) -> tuple[dict[str, Any], list[str]]:
    """Return the settings of an original config.json with the recipe "original", and its unused keys, sorted.

    ``dim_feedforward`` sets the width of encoder and decoder. ``keypoints_number`` selects the built-in layout with
    that many landmarks or half as many: the original's server counts coordinates.
    """
    original: dict[str, Any] = read_original_config(path)
    settings = {"recipe": "original"} | {name: original[key] for key, name in _ORIGINAL_KEYS.items() if key in original}
    if (width := original.get("dim_feedforward")) is not None:
        settings |= {"encoder_feedforward": width, "decoder_feedforward": width}
    if (number := original.get("keypoints_number")) is not None:
        layouts = [f"{points:g}" for points in (number, number / 2) if f"{points:g}" in BUILT_IN]
        if not layouts:
            expected = ", ".join(f"{name} or {2 * int(name)}" for name in BUILT_IN if name.isdigit())
            raise DataError(f"{path}: found keypoints_number {number}, expected {expected}")
        settings["layout"] = layouts[0]
    return settings, sorted(original.keys() - {*_ORIGINAL_KEYS, "dim_feedforward", "keypoints_number"})
