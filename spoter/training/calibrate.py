"""Giving a model that was trained elsewhere what `spoter train` gives its own: temperature, prototypes, threshold."""

from __future__ import annotations

from pathlib import Path

import torch

from spoter.config import ModelConfig
from spoter.errors import DataError
from spoter.files import write_whole
from spoter.model_folder import CONFIG, PROTOTYPES, load_model_folder, refuse_enrolled
from spoter.training.batches import ClipSet
from spoter.training.datasets import DataSet, merge_sides
from spoter.training.finish import finish


def calibrate(
    folder: Path, data: DataSet, validation: DataSet, device: torch.device, *, skip_bad: bool = False
) -> ModelConfig:
    """Fit everything about a model but its weights, and write it into the model folder.

    Parameters
    ----------
    folder : Path
        Model folder.
    data : DataSet
        Clips of each of its glosses, for the prototypes; those that it was trained on will do.
    validation : DataSet
        Other clips, for temperature and threshold. Clips that the model was trained on would make it look too sure.
    device : torch.device
    skip_bad : bool
        Leave out clips of `validation` that are in `data` too; without it they are an error.

    Returns
    -------
    ModelConfig
        With the new `temperature` and `known_threshold`.

    Raises
    ------
    DataError
        Where the data have other glosses than the model, landmarks of another estimator, a clip or group in both, or a
        clip that the model cannot be fed.
    ModelFolderError
        For a folder that cannot be used, or holds enrolled glosses, which would not fit other prototypes.
    """
    folder = Path(folder)
    loaded = load_model_folder(folder)
    refuse_enrolled(folder)
    config = loaded.config
    if data.estimator != config.estimator:
        raise DataError(f"found landmarks of {data.estimator}, expected {config.estimator}'s, as the model's")
    lacking = sorted(set(loaded.glosses) - set(data.glosses))
    unknown = sorted(set(data.glosses) - set(loaded.glosses))
    if lacking or unknown:
        named = ", ".join((lacking or unknown)[:10])
        raise DataError(
            f"{data.sources[0]}: found {'no clip of' if lacking else 'glosses that the model does not know:'} {named}; "
            f"expected clips of each of the model's {len(loaded.glosses)} glosses and no others"
        )
    merged, validation_groups, _ = merge_sides(data, validation, skip_bad=skip_bad)
    held_out = set(validation_groups)
    sides = [[clip for clip in merged.clips if (clip.group in held_out) == side] for side in (False, True)]
    train, other = (ClipSet(side, loaded.glosses, loaded.layout, config.normalize, config.max_frames) for side in sides)
    config, prototypes = finish(loaded.model.to(device), train, other, config, device)
    # In this order: a threshold never stands there without prototypes.
    write_whole(folder / PROTOTYPES, prototypes.to_bytes())
    write_whole(folder / CONFIG, config.to_json())
    return config
