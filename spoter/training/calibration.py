"""Calibration of a trained model: temperature, prototypes and threshold.

`spoter train` calibrates the model that it has trained; `spoter calibrate` calibrates a model from elsewhere.

All three are fitted to the final weights. The prototypes are computed from the training clips and augmented copies, so
that a different tempo or a dropped frame counts as variation within a sign. Everything else is computed from validation
clips: temperature and scale from the original clips, the threshold from augmented copies too, because the validation
clips come from few cameras.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from spoter.errors import DataError, ModelFolderError
from spoter.fewshot.prototypes import Prototypes, to_unit_vectors
from spoter.files import atomic_write_bytes, exclusive_lock, file_sha256
from spoter.model.config import CONFIG, ModelConfig
from spoter.model.folder import MEANING, PROTOTYPES, WEIGHTS, load_model_folder, refuse_enrolled
from spoter.model.network import Spoter, embed
from spoter.training.augment.augmentation import Augmentation, Augmenter
from spoter.training.batches import Batch, ClipEncoder, ClipSet
from spoter.training.data import DataSet, LabelledClip, Skipped, merge_presplit
from spoter.training.data.labelled import fingerprint
from spoter.training.data.split import Split, join_first

FloatArray = npt.NDArray[np.floating]

# Share of validation clips that the threshold accepts as known. The rest is the cost of refusing unknown signs.
KNOWN_SHARE = 0.9
# Shrinkage of the within-gloss scatter toward a multiple of the identity: there are fewer clips than dimensions.
# Between 0.05 and 0.2, no metric on left-out glosses of dgs11 changed by more than 0.005.
_SHRINKAGE = 0.1
_COPIES = 3  # augmented copies of each clip
_BATCH = 32
_TEMPERATURES = (0.01, 100.0)  # bounds of ModelConfig


def fit_calibration(
    model: Spoter,
    train: ClipSet,
    validation: ClipSet,
    config: ModelConfig,
    device: torch.device,
    augmenter: Augmenter = Augmentation(),  # noqa: B008  frozen
    seed: int = 0,
) -> tuple[ModelConfig, Prototypes]:
    """Fit temperature, prototypes and threshold; return the updated config and the prototypes.

    `model` has its final weights and is on `device`. Both clip sets use the label indices of the model; `train` has a
    clip of each gloss. `augmenter` and `seed` are those of training: clips are used both as recorded and augmented.
    """
    _, embeddings, labels = _compute(model, train, device, augmenter, seed)
    prototypes = fit_prototypes(embeddings, labels, config.classes)
    logits, embeddings, labels = _compute(model, validation, device)
    similarities = prototypes.directions(embeddings) @ prototypes.trained.T
    own = similarities[np.arange(len(labels)), labels]
    prototypes = replace(
        prototypes,
        scale=1 / fit_temperature(similarities, labels),  # scale * cosine = logit / temperature
        typical=float(np.clip(np.median(own), 0.1, 1)),
    )
    temperature = fit_temperature(logits, labels)
    logits, embeddings, _ = _compute(model, validation, device, augmenter, seed)
    similarities = prototypes.directions(embeddings) @ prototypes.trained.T
    of_predicted = np.take_along_axis(similarities, logits.argmax(axis=1)[:, None], axis=1)
    threshold = float(np.quantile(of_predicted, 1 - KNOWN_SHARE))
    config = msgspec.structs.replace(config, temperature=round(temperature, 4), known_threshold=round(threshold, 4))
    return config, prototypes


def fit_temperature(logits: FloatArray, labels: npt.NDArray[np.int64]) -> float:
    """Return the temperature that maximizes the likelihood of validation clips.

    `logits` are (clips, classes), `labels` (clips,).

    Temperature scaling: C. Guo, G. Pleiss, Y. Sun and K. Weinberger, "On Calibration of Modern Neural Networks", ICML
    2017. If all clips are classified correctly, the maximum is at temperature 0, which means certainty. Therefore the
    target of the true gloss is (n + 1) / (n + 2) for n clips instead of 1, and the other glosses share the rest:
    J. Platt, "Probabilistic Outputs for Support Vector Machines", 1999, section 2.2.
    """
    count, classes = logits.shape
    target = np.full((count, classes), 1 / (count + 2) / max(classes - 1, 1))
    target[np.arange(count), labels] = (count + 1) / (count + 2)

    def loss(log_temperature: float) -> float:
        return float(-(target * log_softmax(logits / np.exp(log_temperature), axis=1)).sum())

    return float(np.exp(minimize_scalar(loss, bounds=np.log(_TEMPERATURES), method="bounded").x))


def fit_prototypes(embeddings: FloatArray, labels: npt.NDArray[np.int64], classes: int) -> Prototypes:
    """Return the prototypes of `classes` glosses, with `scale` and `typical` set to 1.

    `embeddings` are (clips, E); `labels` (clips,) contain each of 0 … `classes` - 1 at least once.
    """
    embeddings = embeddings.astype(np.float64)
    means = np.stack([embeddings[labels == label].mean(axis=0) for label in range(classes)])
    center = means.mean(axis=0)
    within = embeddings - means[labels]
    scatter = within.T @ within / len(within)
    size = len(scatter)
    sphere = max(np.trace(scatter) / size, 1e-9) * np.eye(size)  # with one clip per gloss the scatter is 0
    scatter = (1 - _SHRINKAGE) * scatter + _SHRINKAGE * sphere
    whitening = np.linalg.cholesky(np.linalg.inv(scatter))
    directions = to_unit_vectors((means - center) @ whitening)
    center32, whitening32, directions32 = (array.astype(np.float32) for array in (center, whitening, directions))
    return Prototypes(center32, whitening32, directions32, scale=1.0, typical=1.0)


@torch.inference_mode()
def _compute(
    model: Spoter, clips: ClipSet, device: torch.device, augmenter: Augmenter | None = None, seed: int = 0
) -> tuple[FloatArray, FloatArray, npt.NDArray[np.int64]]:
    """Return logits (N, classes), embeddings (N, E) and labels (N,) of all clips and, with `augmenter`, of copies."""
    batches: Iterable[Batch] = clips.batches(_BATCH)
    if augmenter:
        copies = (clips.augmented_batches(_BATCH, augmenter, seed, epoch) for epoch in range(_COPIES))
        batches = chain(batches, chain.from_iterable(copies))
    model.eval()
    logits, embeddings, labels = [], [], []
    for batch in batches:
        lengths = batch.lengths.to(device)
        batch_logits, hidden = model.logits_and_first_layer(batch.frames.to(device), lengths)
        logits.append(batch_logits.cpu())
        embeddings.append(embed(hidden, lengths).cpu())
        labels.append(batch.labels)
    return torch.cat(logits).numpy(), torch.cat(embeddings).numpy(), torch.cat(labels).numpy()


def calibrate_folder(
    folder: Path, data: DataSet, validation: DataSet | Split, device: torch.device, *, skip_bad: bool = False
) -> tuple[ModelConfig, list[Skipped]]:
    """Fit temperature, prototypes and threshold of a model, and write them into its model folder.

    `data` are clips of each gloss of the model, for the prototypes; the model may have been trained on them.
    `validation` are other clips, for temperature and threshold, or a split of `data` with a validation subset. Clips
    that the model was trained on would make its scores too high. `skip_bad` skips clips of `validation` with the same
    points as a clip of `data`; without it they are an error. The folder stays locked during the calibration.

    Returns the config with the new `temperature` and `known_threshold`, and the clips skipped here, without those that
    were skipped when the data sets were read.

    Raises `DataError` for other glosses, another estimator, a clip or group in both data sets, and a clip that does
    not fit the model; `ModelFolderError` for an unusable folder, enrolled glosses (they would not fit new prototypes),
    and a model edited meanwhile; `SpoterError` if another command is writing into the folder.
    """
    with exclusive_lock(folder):
        before, loaded = _compute_digests(folder), load_model_folder(folder)
        refuse_enrolled(folder)
        config = loaded.config
        _check_data(data, config.estimator, loaded.glosses)
        train, held_out, skipped = _separate(data, validation, skip_bad)
        encoder = ClipEncoder(loaded.layout, config.normalize, config.max_frames)
        train_set, validation_set = (ClipSet(clips, loaded.glosses, encoder) for clips in (train, held_out))
        finished, prototypes = fit_calibration(loaded.model.to(device), train_set, validation_set, config, device)
        if changed := [name for name, sha256 in _compute_digests(folder).items() if sha256 != before[name]]:
            raise ModelFolderError(
                f"{folder}: {', '.join(changed)} changed during the calibration. Nothing was written; "
                "run the command again"
            )
        # After an interruption, the folder must not combine new prototypes with the old threshold.
        atomic_write_bytes(folder / CONFIG, msgspec.structs.replace(config, known_threshold=None).to_json())
        atomic_write_bytes(folder / PROTOTYPES, prototypes.to_bytes())
        atomic_write_bytes(folder / CONFIG, finished.to_json())
    return finished, skipped


def _compute_digests(folder: Path) -> dict[str, str]:
    return {name: file_sha256(folder / name) for name in (CONFIG, MEANING, WEIGHTS)}


def _check_data(data: DataSet, estimator: str, glosses: Sequence[str]) -> None:
    for clip in data.clips:
        if clip.clip.estimator not in (None, estimator):
            raise DataError(
                f"{data.sources[0]}, clip {clip.name}: found landmarks of {clip.clip.estimator}, "
                f"expected landmarks of {estimator}, like the model"
            )
    for problem, names in (
        ("no clip of", set(glosses) - set(data.glosses)),
        ("glosses that the model does not know:", set(data.glosses) - set(glosses)),
    ):
        if names:
            raise DataError(
                f"{data.sources[0]}: found {problem} {join_first(sorted(names))}; expected clips of each of the "
                f"model's {len(glosses)} glosses and of no other gloss"
            )


def _separate(
    data: DataSet, validation: DataSet | Split, skip_bad: bool
) -> tuple[list[LabelledClip], list[LabelledClip], list[Skipped]]:
    """Return the clips for the prototypes, the clips for temperature and threshold, and the skipped clips."""
    if isinstance(validation, Split):
        return validation.select(data.clips, "train"), validation.select(data.clips, "validation"), []
    merged, validation_groups, _ = merge_presplit(data, validation, skip_bad=skip_bad)
    train = [clip for clip in merged.clips if clip.group not in validation_groups]
    held_out = [clip for clip in merged.clips if clip.group in validation_groups]
    names = {fingerprint(clip): clip.name for clip in train}
    for clip in held_out:
        if (twin := names.get(fingerprint(clip))) is not None:
            raise DataError(
                f"{validation.sources[0]}, clip {clip.name}: found the same points as in {twin}, expected other "
                "clips than those of the prototypes; --skip-bad skips duplicates"
            )
    return train, held_out, merged.skipped[len(data.skipped) + len(validation.skipped) :]
