"""Giving a model that was trained elsewhere what `spoter train` gives its own: temperature, prototypes, threshold."""

from __future__ import annotations

from pathlib import Path

import msgspec
import torch

from spoter.errors import DataError, ModelFolderError
from spoter.files import atomic_write_bytes, exclusive_lock
from spoter.model.config import ModelConfig
from spoter.model.folder import CONFIG, MEANING, PROTOTYPES, WEIGHTS, file_sha256, load_model_folder, refuse_enrolled
from spoter.training.batches import ClipSet
from spoter.training.calibration import finish
from spoter.training.data import DataSet, LabelledClip, Skipped, merge_presplit
from spoter.training.data.labelled import fingerprint
from spoter.training.data.split import Split


def calibrate(
    folder: Path, data: DataSet, validation: DataSet | Split, device: torch.device, *, skip_bad: bool = False
) -> tuple[ModelConfig, list[Skipped]]:
    """Fit everything about a model but its weights, and write it into the model folder.

    The folder is locked for the whole time.

    Parameters
    ----------
    folder : Path
        Model folder.
    data : DataSet
        Clips of each of its glosses, for the prototypes; those that it was trained on will do.
    validation : DataSet or Split
        Other clips, for temperature and threshold; or the split of `data` whose validation side they are. Clips that
        the model was trained on would make it look too sure.
    device : torch.device
    skip_bad : bool
        Leave out clips of `validation` that hold the very same points as one of `data`; without it they are an error.

    Returns
    -------
    ModelConfig
        With the new `temperature` and `known_threshold`.
    list of Skipped
        Clips that were left out here, beyond those that reading the data sets left out.

    Raises
    ------
    DataError
        Where the data have other glosses than the model, landmarks of another estimator, a clip or group in both, or a
        clip that the model cannot be fed.
    ModelFolderError
        For a folder that cannot be used, or holds enrolled glosses, which would not fit other prototypes; and where
        the model was edited meanwhile.
    SpoterError
        Where another command is writing into the folder.
    """
    with exclusive_lock(Path(folder)):
        return _calibrate(Path(folder), data, validation, device, skip_bad)


def _calibrate(
    folder: Path, data: DataSet, validation: DataSet | Split, device: torch.device, skip_bad: bool
) -> tuple[ModelConfig, list[Skipped]]:
    before, loaded = _digests(folder), load_model_folder(folder)
    refuse_enrolled(folder)
    config = loaded.config
    for clip in data.clips:
        if clip.clip.estimator not in (None, config.estimator):
            raise DataError(
                f"{data.sources[0]}, clip {clip.name}: found landmarks of {clip.clip.estimator}, expected "
                f"{config.estimator}'s, as the model's"
            )
    lacking = sorted(set(loaded.glosses) - set(data.glosses))
    unknown = sorted(set(data.glosses) - set(loaded.glosses))
    if lacking or unknown:
        named = ", ".join((lacking or unknown)[:10])
        raise DataError(
            f"{data.sources[0]}: found {'no clip of' if lacking else 'glosses that the model does not know:'} {named}; "
            f"expected clips of each of the model's {len(loaded.glosses)} glosses and no others"
        )
    left_out: list[Skipped] = []
    if isinstance(validation, Split):
        sides = [validation.select(data.clips, side) for side in ("train", "validation")]
    else:
        merged, validation_groups, _ = merge_presplit(data, validation, skip_bad=skip_bad)
        held_out = set(validation_groups)
        sides = [[clip for clip in merged.clips if (clip.group in held_out) == side] for side in (False, True)]
        _check_apart(*sides, validation)
        left_out = merged.skipped[len(data.skipped) + len(validation.skipped) :]
    train, other = (ClipSet(side, loaded.glosses, loaded.layout, config.normalize, config.max_frames) for side in sides)
    finished, prototypes = finish(loaded.model.to(device), train, other, config, device)
    if changed := [name for name, found in _digests(folder).items() if found != before[name]]:  # by an editor
        raise ModelFolderError(
            f"{folder}: {', '.join(changed)} changed during the calibration, so that nothing was written: run it again"
        )
    # In this order: whenever it is interrupted, no threshold is there without the prototypes that it was fitted to.
    atomic_write_bytes(folder / CONFIG, msgspec.structs.replace(config, known_threshold=None).to_json())
    atomic_write_bytes(folder / PROTOTYPES, prototypes.to_bytes())
    atomic_write_bytes(folder / CONFIG, finished.to_json())
    return finished, left_out


def _digests(folder: Path) -> dict[str, str]:
    return {name: file_sha256(folder / name) for name in (CONFIG, MEANING, WEIGHTS)}


def _check_apart(train: list[LabelledClip], held_out: list[LabelledClip], validation: DataSet) -> None:
    seen = {fingerprint(clip): clip.name for clip in train}
    for clip in held_out:
        if (twin := seen.get(fingerprint(clip))) is not None:
            raise DataError(
                f"{validation.sources[0]}, clip {clip.name}: found the very same points as in {twin}, expected clips "
                "that the prototypes are not made of; --skip-bad leaves such out"
            )
