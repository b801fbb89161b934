"""A model's predictions for labelled clips, by the path that serves requests. Every figure and picture comes from them.

A clip that a server would refuse has no scores (NaN). It counts as wrong wherever right predictions are counted, and
takes no part in figures of the scores themselves.
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
    """A model's predictions for labelled clips."""

    glosses: tuple[str, ...]  # of the model, by label index
    names: tuple[str, ...]  # of the clips
    groups: tuple[str, ...]  # of the clips
    labels: npt.NDArray[np.int64]  # (clips,), index of the gloss that each clip shows; -1 where the model lacks it
    scores: npt.NDArray[np.floating]  # (clips, glosses), probabilities; NaN in the row of a clip that was refused
    known: npt.NDArray[np.float64]  # (clips,), 1 where the model knows the sign, 0 where not, NaN where it cannot tell
    similarities: npt.NDArray[np.float64]  # (clips,), `Prediction.similarity`, higher for a known sign; NaN if absent
    refused: dict[str, str]  # clips that a server would refuse, by name, with the error's code

    def __len__(self) -> int:
        return len(self.names)

    @property
    def answered(self) -> npt.NDArray[np.bool_]:
        """Which clips were not refused: (clips,), bool."""
        return np.asarray(~np.isnan(self.scores).any(axis=1))

    @property
    def first(self) -> npt.NDArray[np.int64]:
        """Label index of the best answer to each clip, that of equals which comes first; `len(glosses)` if refused."""
        best = np.argmax(np.where(self.answered[:, None], self.scores, -1.0), axis=1)
        return np.where(self.answered, best, len(self.glosses))

    def right(self, k: int = 1) -> npt.NDArray[np.bool_]:
        """Tell of each clip whether its gloss is among the first `k` answers: (clips,), bool."""
        own = np.take_along_axis(self.scores, np.maximum(self.labels, 0)[:, None], axis=1)
        ahead = (self.scores > own).sum(axis=1)
        # of equal scores the lower index is ranked first, as the recognizer does
        ahead += ((self.scores == own) & (np.arange(len(self.glosses)) < self.labels[:, None])).sum(axis=1)
        return np.asarray(self.answered & (self.labels >= 0) & (ahead < k))

    def top(self, k: int) -> float:
        """Return the share of clips whose gloss is among the first `k` answers."""
        return float(self.right(k).mean())

    def loss(self) -> float:
        """Return the mean negative log-likelihood of the right glosses of the clips that were answered."""
        kept = self.answered
        own = self.scores[kept, self.labels[kept]]
        return float(-np.log(np.maximum(own, np.finfo(np.float32).tiny)).mean()) if kept.any() else float("nan")

    def brier(self) -> float:
        """Return the mean squared distance of the scores from 1 for the right gloss and 0 for all else.

        G. W. Brier, Monthly Weather Review 78, 1950; 0 is best, 2 worst.
        """
        kept = self.answered
        wanted = np.eye(len(self.glosses))[self.labels[kept]]
        return float(((self.scores[kept] - wanted) ** 2).sum(axis=1).mean()) if kept.any() else float("nan")

    def confusion(self) -> npt.NDArray[np.int64]:
        """Count clips by gloss (row) and first answer (column); the last column is of those refused."""
        table = np.zeros((len(self.glosses), len(self.glosses) + 1), dtype=np.int64)
        np.add.at(table, (self.labels, self.first), 1)
        return table

    def at_temperature(self, ratio: float) -> Predictions:
        """Return the answers with all logits divided by `ratio` once more: 1 / T undoes a temperature T."""
        logits = np.log(np.maximum(self.scores, np.finfo(np.float64).tiny)) / ratio  # up to a constant of each row
        return replace(self, scores=softmax(logits))


def predict(
    recognizer: Recognizer,
    clips: Sequence[LabelledClip],
    condition: Condition | None = None,
    seed: int = 0,
    bar: tqdm[Any] | None = None,
) -> Predictions:
    """Let a recognizer name labelled clips, as they are or under a condition; a gloss it does not know has label -1."""
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
