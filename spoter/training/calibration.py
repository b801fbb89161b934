"""What makes a trained model's answers mean something: its temperature, its prototypes and its threshold.

All three come after the weights are final. The prototypes come from the clips that were trained on, as they are and
augmented, so that another tempo or a dropped frame counts as what differs between two clips of one sign. All else comes
from validation clips, the nearest thing to a stranger's that may be looked at before testing: temperature and scale
from the clips as they are; the threshold from them augmented, too, for validation has few cameras and the field many.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain

import msgspec
import numpy as np
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from spoter.fewshot.prototypes import Prototypes, to_unit_vectors
from spoter.model.config import ModelConfig
from spoter.model.network import Spoter, embed
from spoter.training.augment.augmentation import Augmentation
from spoter.training.augment.base import Augmenter
from spoter.training.batches import Batch, ClipSet

# Of validation clips, the share that an answer is to call known: the rest is the price of refusing unknown signs.
KEPT = 0.9
# Weight of the round matrix that the scatter within glosses is mixed with: there are fewer clips than directions.
# Between 0.05 and 0.2 nothing changed by more than 0.005 on left-out glosses of dgs11.
_SHRINKAGE = 0.1
_AUGMENTED = 3  # times that each clip is looked at augmented
_BATCH = 32
_TEMPERATURES = (0.01, 100.0)  # what ModelConfig allows


def finish(
    model: Spoter,
    train: ClipSet,
    validation: ClipSet,
    config: ModelConfig,
    device: torch.device,
    augmenter: Augmenter = Augmentation(),  # noqa: B008  frozen
    seed: int = 0,
) -> tuple[ModelConfig, Prototypes]:
    """Fit everything about a model but its weights.

    Parameters
    ----------
    model : Spoter
        With its final weights, on `device`.
    train, validation : ClipSet
        Label indices are the model's own; `train` has a clip of each gloss.
    config : ModelConfig
    device : torch.device
    augmenter : Augmenter
        What clips are looked at under, too: what training did to them.
    seed : int
        Of these changes.

    Returns
    -------
    ModelConfig, Prototypes
        The config with `temperature` and `known_threshold`.
    """
    looked_at = chain(train.batches(_BATCH), _augmented(train, augmenter, seed))
    _, embeddings, labels = _answers(model, looked_at, device)
    prototypes = fit_prototypes(embeddings, labels, config.classes)
    logits, embeddings, labels = _answers(model, validation.batches(_BATCH), device)
    similarities = prototypes.directions(embeddings) @ prototypes.trained.T
    own = similarities[np.arange(len(labels)), labels]
    prototypes = replace(
        prototypes,
        scale=1 / fit_temperature(similarities, labels),  # a cosine times a scale is a logit over a temperature
        typical=float(np.clip(np.median(own), 0.1, 1)),
    )
    temperature = fit_temperature(logits, labels)
    looked_at = chain(validation.batches(_BATCH), _augmented(validation, augmenter, seed))
    logits, embeddings, _ = _answers(model, looked_at, device)
    similarities = prototypes.directions(embeddings) @ prototypes.trained.T
    named = np.take_along_axis(similarities, logits.argmax(axis=1)[:, None], axis=1)
    threshold = float(np.quantile(named, 1 - KEPT))
    config = msgspec.structs.replace(config, temperature=round(temperature, 4), known_threshold=round(threshold, 4))
    return config, prototypes


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the temperature under which validation clips are likeliest.

    Temperature scaling: C. Guo, G. Pleiss, Y. Sun and K. Weinberger, "On Calibration of Modern Neural Networks", ICML
    2017. Where all clips are named right the likeliest temperature would be 0, that is, certainty. So the right gloss
    gets not 1 for its target but (n + 1) / (n + 2) of n clips, and the other glosses share the rest: J. Platt,
    "Probabilistic Outputs for Support Vector Machines", 1999, section 2.2.

    Parameters
    ----------
    logits : numpy.ndarray, shape (clips, classes)
    labels : numpy.ndarray, shape (clips,), integer
    """
    count, classes = logits.shape
    target = np.full((count, classes), 1 / (count + 2) / max(classes - 1, 1))
    target[np.arange(count), labels] = (count + 1) / (count + 2)

    def loss(log_temperature: float) -> float:
        return -(target * log_softmax(logits / np.exp(log_temperature), axis=1)).sum()

    return float(np.exp(minimize_scalar(loss, bounds=np.log(_TEMPERATURES), method="bounded").x))


def fit_prototypes(embeddings: np.ndarray, labels: np.ndarray, classes: int) -> Prototypes:
    """Return the prototypes of `classes` glosses, with `scale` and `typical` 1.

    Parameters
    ----------
    embeddings : numpy.ndarray, shape (clips, E)
    labels : numpy.ndarray, shape (clips,), integer
        Each of 0 … `classes` - 1 at least once.
    """
    embeddings = embeddings.astype(np.float64)
    means = np.stack([embeddings[labels == label].mean(axis=0) for label in range(classes)])
    centre = means.mean(axis=0)
    within = embeddings - means[labels]
    scatter = within.T @ within / len(within)
    size = len(scatter)
    round_part = max(np.trace(scatter) / size, 1e-9) * np.eye(size)  # of one clip a gloss there is no scatter
    scatter = (1 - _SHRINKAGE) * scatter + _SHRINKAGE * round_part
    whitening = np.linalg.cholesky(np.linalg.inv(scatter))
    directions = to_unit_vectors((means - centre) @ whitening)
    return Prototypes(*(array.astype(np.float32) for array in (centre, whitening, directions)), scale=1.0, typical=1.0)


def _augmented(clips: ClipSet, augmenter: Augmenter, seed: int) -> Iterator[Batch]:
    for epoch in range(_AUGMENTED):
        yield from clips.augmented_batches(_BATCH, augmenter, seed, epoch)


@torch.inference_mode()
def _answers(
    model: Spoter, batches: Iterable[Batch], device: torch.device
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return logits (clips, classes), embeddings (clips, E) and labels (clips,)."""
    model.eval()
    logits, embeddings, labels = [], [], []
    for batch in batches:
        lengths = batch.lengths.to(device)
        answer, seen = model.forward_and_embed(batch.frames.to(device), lengths)
        logits.append(answer.cpu())
        embeddings.append(embed(seen, lengths).cpu())
        labels.append(batch.labels)
    return tuple(torch.cat(parts).numpy() for parts in (logits, embeddings, labels))
