"""Predictions of a model for labeled clips, computed by the serving code. All figures and pictures come from them.

A clip that a server would refuse has no scores (NaN). It counts as wrong in accuracy, and is left out of figures on
scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from spoter.errors import InputError
from spoter.fewshot.prototypes import softmax
from spoter.serving.recognizer import Recognizer
from spoter.training.data import LabelledClip
from spoter.training.evaluation.robustness import Condition

_BATCH = 32


@dataclass(frozen=True)
class Predictions:
    """The predictions of a model for labeled clips."""

    glosses: tuple[str, ...]  # of the model, by label index
    names: tuple[str, ...]  # of the clips
    groups: tuple[str, ...]  # of the clips
    labels: npt.NDArray[np.int64]  # (clips,), label index of the true gloss; -1 if the model does not have it
    scores: npt.NDArray[np.floating]  # (clips, glosses), probabilities; NaN in the row of a refused clip
    known: npt.NDArray[np.float64]  # (clips,), 1 for a known sign, 0 for an unknown one, NaN if not detected
    similarities: npt.NDArray[np.float64]  # (clips,), `Prediction.similarity`, higher for a known sign; NaN if absent
    refused: dict[str, str]  # error code of each clip that a server would refuse, by name

    def __len__(self) -> int:
        return len(self.names)

    @property
    def answered(self) -> npt.NDArray[np.bool_]:
        """Whether each clip was not refused: (clips,), bool."""
        return np.asarray(~np.isnan(self.scores).any(axis=1))

    @property
    def first(self) -> npt.NDArray[np.int64]:
        """Label index of the highest score of each clip, the lowest of equal ones; `len(glosses)` if refused."""
        best = np.argmax(np.where(self.answered[:, None], self.scores, -1.0), axis=1)
        return np.where(self.answered, best, len(self.glosses))

    def right(self, k: int = 1) -> npt.NDArray[np.bool_]:
        """Return for each clip whether its gloss is among the `k` highest scores: (clips,), bool."""
        own = np.take_along_axis(self.scores, np.maximum(self.labels, 0)[:, None], axis=1)
        ahead = (self.scores > own).sum(axis=1)
        # Of equal scores, the lower index comes first, as in the recognizer.
        ahead += ((self.scores == own) & (np.arange(len(self.glosses)) < self.labels[:, None])).sum(axis=1)
        return np.asarray(self.answered & (self.labels >= 0) & (ahead < k))

    def top(self, k: int) -> float:
        """Return the share of clips whose gloss is among the `k` highest scores."""
        return float(self.right(k).mean())

    def loss(self) -> float:
        """Return the mean negative log-likelihood of the true glosses, without refused clips."""
        answered = self.answered
        own = self.scores[answered, self.labels[answered]]
        return float(-np.log(np.maximum(own, np.finfo(np.float32).tiny)).mean()) if answered.any() else float("nan")

    def brier(self) -> float:
        """Return the mean squared distance of the scores from 1 for the true gloss and 0 for all others.

        G. W. Brier, Monthly Weather Review 78, 1950; 0 is the best value, 2 the worst.
        """
        answered = self.answered
        target = np.eye(len(self.glosses))[self.labels[answered]]
        return float(((self.scores[answered] - target) ** 2).sum(axis=1).mean()) if answered.any() else float("nan")

    def confusion(self) -> npt.NDArray[np.int64]:
        """Return the number of clips by true gloss (row) and predicted gloss (column); the last column: refused."""
        table = np.zeros((len(self.glosses), len(self.glosses) + 1), dtype=np.int64)
        np.add.at(table, (self.labels, self.first), 1)
        return table

    def at_temperature(self, ratio: float) -> Predictions:
        """Return the predictions with all logits divided by `ratio`: 1 / T undoes a temperature T."""
        logits = np.log(np.maximum(self.scores, np.finfo(np.float64).tiny)) / ratio  # up to a constant per row
        return replace(self, scores=softmax(logits))


def predict(
    recognizer: Recognizer,
    clips: Sequence[LabelledClip],
    condition: Condition | None = None,
    seed: int = 0,
    bar: tqdm[Any] | None = None,
) -> Predictions:
    """Return a recognizer's predictions for clips, optionally under a condition; label -1 for glosses it lacks."""
    glosses = recognizer.glosses
    indices = {gloss: index for index, gloss in enumerate(glosses)}
    scores = np.full((len(clips), len(glosses)), np.nan)
    known, similarities = np.full((2, len(clips)), np.nan)
    refused: dict[str, str] = {}
    for start in range(0, len(clips), _BATCH):
        batch = clips[start : start + _BATCH]
        inputs = [condition.apply(member.clip, member.name, seed) if condition else member.clip for member in batch]
        for row, prediction in enumerate(recognizer.recognize(inputs, top_k=len(glosses)), start):
            if isinstance(prediction, InputError):
                refused[clips[row].name] = prediction.code
                continue
            for ranked in prediction.glosses:
                scores[row, ranked.index] = ranked.score
            known[row] = np.nan if prediction.known is None else prediction.known
            similarities[row] = np.nan if prediction.similarity is None else prediction.similarity
        if bar is not None:
            bar.update(len(batch))
    names, groups = tuple(member.name for member in clips), tuple(member.group for member in clips)
    labels = np.array([indices.get(member.gloss, -1) for member in clips], dtype=np.int64)
    return Predictions(tuple(glosses), names, groups, labels, scores, known, similarities, refused)
