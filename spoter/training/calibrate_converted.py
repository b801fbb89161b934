"""Calibrate a model that was trained elsewhere: temperature, prototypes and threshold, as `spoter train` fits them."""

from __future__ import annotations

from pathlib import Path

import msgspec
import torch

from spoter.errors import DataError, ModelFolderError
from spoter.files import atomic_write_bytes, exclusive_lock
from spoter.model.config import CONFIG, ModelConfig
from spoter.model.folder import (
    MEANING,
    PROTOTYPES,
    WEIGHTS,
    ModelFolder,
    file_sha256,
    load_model_folder,
    refuse_enrolled,
)
from spoter.training.batches import ClipEncoder, ClipSet
from spoter.training.calibration import fit_calibration
from spoter.training.data import DataSet, LabelledClip, Skipped, merge_presplit
from spoter.training.data.labelled import fingerprint
from spoter.training.data.split import Split


def calibrate_folder(
    folder: Path, data: DataSet, validation: DataSet | Split, device: torch.device, *, skip_bad: bool = False
) -> tuple[ModelConfig, list[Skipped]]:
    """Fit temperature, prototypes and threshold of a model, and write them into its model folder.

    The folder is locked from reading to writing.

    Parameters
    ----------
    folder : Path
        Model folder.
    data : DataSet
        Clips of each of its glosses, for the prototypes; they may be those that it was trained on.
    validation : DataSet or Split
        Other clips, for temperature and threshold; or the split of `data` whose validation side they are. With clips
        that the model was trained on, its scores would come out too high.
    device : torch.device
    skip_bad : bool
        Leave out clips of `validation` that hold the very same points as one of `data`; without it they are an error.

    Returns
    -------
    ModelConfig
        With the new `temperature` and `known_threshold`.
    list of Skipped
        Clips that were left out here, in addition to those that reading the data sets left out.

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
    with exclusive_lock(folder):
        before, loaded = _compute_digests(folder), load_model_folder(folder)
        refuse_enrolled(folder)
        config = loaded.config
        _check_data(data, loaded)
        train, held_out, left_out = _separate(data, validation, skip_bad)
        encoder = ClipEncoder(loaded.layout, config.normalize, config.max_frames)
        train_set, validation_set = (ClipSet(clips, loaded.glosses, encoder) for clips in (train, held_out))
        finished, prototypes = fit_calibration(loaded.model.to(device), train_set, validation_set, config, device)
        if changed := [name for name, sha256 in _compute_digests(folder).items() if sha256 != before[name]]:
            raise ModelFolderError(
                f"{folder}: {', '.join(changed)} changed during the calibration, so that nothing was written: "
                "run it again"
            )
        # An interruption must not leave a threshold with other prototypes than those it was fitted to.
        atomic_write_bytes(folder / CONFIG, msgspec.structs.replace(config, known_threshold=None).to_json())
        atomic_write_bytes(folder / PROTOTYPES, prototypes.to_bytes())
        atomic_write_bytes(folder / CONFIG, finished.to_json())
    return finished, left_out


def _compute_digests(folder: Path) -> dict[str, str]:
    return {name: file_sha256(folder / name) for name in (CONFIG, MEANING, WEIGHTS)}


def _check_data(data: DataSet, model: ModelFolder) -> None:
    for clip in data.clips:
        if clip.clip.estimator not in (None, model.config.estimator):
            raise DataError(
                f"{data.sources[0]}, clip {clip.name}: found landmarks of {clip.clip.estimator}, expected "
                f"{model.config.estimator}'s, as the model's"
            )
    missing = sorted(set(model.glosses) - set(data.glosses))
    unknown = sorted(set(data.glosses) - set(model.glosses))
    if missing or unknown:
        problem = "no clip of" if missing else "glosses that the model does not know:"
        raise DataError(
            f"{data.sources[0]}: found {problem} {', '.join((missing or unknown)[:10])}; expected clips of each of the "
            f"model's {len(model.glosses)} glosses and no others"
        )


def _separate(
    data: DataSet, validation: DataSet | Split, skip_bad: bool
) -> tuple[list[LabelledClip], list[LabelledClip], list[Skipped]]:
    """Return the clips for the prototypes, those for temperature and threshold, and those left out."""
    if isinstance(validation, Split):
        return validation.select(data.clips, "train"), validation.select(data.clips, "validation"), []
    merged, validation_groups, _ = merge_presplit(data, validation, skip_bad=skip_bad)
    train = [clip for clip in merged.clips if clip.group not in validation_groups]
    held_out = [clip for clip in merged.clips if clip.group in validation_groups]
    names = {fingerprint(clip): clip.name for clip in train}
    for clip in held_out:
        if (twin := names.get(fingerprint(clip))) is not None:
            raise DataError(
                f"{validation.sources[0]}, clip {clip.name}: found the very same points as in {twin}, expected clips "
                "that the prototypes are not made of; --skip-bad leaves such out"
            )
    return train, held_out, merged.skipped[len(data.skipped) + len(validation.skipped) :]
