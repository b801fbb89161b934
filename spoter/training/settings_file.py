"""Settings of a training run from a file, a preset and the command line, the later ones of these before the earlier."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

import msgspec

from spoter.errors import DataError
from spoter.training.settings import RECIPES, TrainSettings

_GIVEN = ("data", "out")  # on the command line, always


def combine(
    given: Mapping[str, object], recipe: str = "", config: Path | None = None
) -> tuple[TrainSettings, list[str]]:
    """Return the settings of a run.

    Parameters
    ----------
    given : mapping of str to object
        Fields of `TrainSettings` by name, `data` and `out` among them; they win over all else.
    recipe : str
        A preset of `RECIPES`, over which the file wins; by default the file's own.
    config : Path, optional
        As `read_settings`.

    Returns
    -------
    TrainSettings, list of str
        And the keys of `config` that are not used.

    Raises
    ------
    DataError, ModelFolderError
        For an unknown preset, what `read_settings` raises, and settings that cannot be.
    """
    told, unused = read_settings(config) if config else ({}, [])
    preset = recipe or told.pop("recipe", "ours")
    told.pop("recipe", None)
    if preset not in RECIPES:
        raise DataError(f"found recipe {preset!r}, expected one of {', '.join(RECIPES)}")
    return TrainSettings(**{**RECIPES[preset], **told, **given}), unused


def read_settings(path: Path) -> tuple[dict[str, object], list[str]]:
    """Read settings from a TOML or JSON file.

    Parameters
    ----------
    path : Path
        Keys are `TrainSettings`' fields but `data` and `out`, or as the options spell them (``batch-size``), and
        ``recipe``; paths are as on the command line. Or the original project's config.json, told by its ``hparams``.

    Returns
    -------
    dict of str to object, list of str
        Settings by field, and, of an original config.json, the keys that mean nothing here.

    Raises
    ------
    DataError
        For a file that cannot be read, an unknown key, and a value of another type than its field's.
    """
    content = _read(path)
    if "hparams" in content:
        # Late, because it brings torch along.
        from spoter.training.original_config import settings_of_original

        return settings_of_original(path)
    types = get_type_hints(TrainSettings) | {"recipe": str}
    known = [field.name for field in fields(TrainSettings) if field.name not in _GIVEN] + ["recipe"]
    settings: dict[str, object] = {}
    for key, value in content.items():
        name = key.replace("-", "_")
        if name in _GIVEN:
            raise DataError(f"{path}: found {key}, which is given on the command line alone")
        if name not in known:
            raise DataError(f"{path}: found the unknown key {key!r}, expected some of {', '.join(known)}")
        if name in settings:
            raise DataError(f"{path}: found {name} twice")
        try:
            settings[name] = msgspec.convert(value, types[name], dec_hook=lambda kind, text: kind(text))
        except (msgspec.ValidationError, TypeError) as error:
            raise DataError(f"{path}: {key}: {error}") from None
    return settings, []


def _read(path: Path) -> dict:
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
