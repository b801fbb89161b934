"""What a model said about labelled clips: the one thing that every figure, table and picture is made of.

A clip that a server would refuse has no scores (NaN). It counts as wrong wherever rightness is counted, and takes no
part in calibration, which is about scores.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from spoter.fewshot.prototypes import softmax


@dataclass(frozen=True)
class Predictions:
    """A model's answers to labelled clips.

    Attributes
    ----------
    glosses : tuple of str
        All that the model knows, by label index.
    names, groups : tuple of str
        Of each clip.
    labels : numpy.ndarray, shape (clips,), int64
        Index of the gloss that each clip shows; -1 where the model does not know it.
    scores : numpy.ndarray, shape (clips, glosses), float64
        Probabilities; NaN in the row of a clip that was refused.
    known : numpy.ndarray, shape (clips,), float64
        1 where the model says that it knows the sign, 0 where it says that it does not, NaN where it does not tell.
    similarities : numpy.ndarray, shape (clips,), float64
        What it says so by (`Prediction.similarity`), higher for a known sign; NaN where it does not tell.
    refused : dict of str to str
        Clips that a server would refuse, by name, with the error's code.
    """

    glosses: tuple[str, ...]
    names: tuple[str, ...]
    groups: tuple[str, ...]
    labels: np.ndarray
    scores: np.ndarray
    known: np.ndarray
    similarities: np.ndarray
    refused: dict[str, str]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def answered(self) -> np.ndarray:
        """Which clips were not refused: (clips,), bool."""
        return ~np.isnan(self.scores).any(axis=1)

    @property
    def first(self) -> np.ndarray:
        """Label index of the best answer to each clip, that of equals which comes first; `len(glosses)` if refused."""
        best = np.argmax(np.where(self.answered[:, None], self.scores, -1.0), axis=1)
        return np.where(self.answered, best, len(self.glosses))

    def right(self, k: int = 1) -> np.ndarray:
        """Tell of each clip whether its gloss is among the first `k` answers: (clips,), bool."""
        own = np.take_along_axis(self.scores, np.maximum(self.labels, 0)[:, None], axis=1)
        ahead = (self.scores > own).sum(axis=1)
        # of equal scores the lower index is ranked first, as the recognizer does
        ahead += ((self.scores == own) & (np.arange(len(self.glosses)) < self.labels[:, None])).sum(axis=1)
        return self.answered & (self.labels >= 0) & (ahead < k)

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

    def confusion(self) -> np.ndarray:
        """Count clips by gloss (row) and first answer (column); the last column is of those refused."""
        table = np.zeros((len(self.glosses), len(self.glosses) + 1), dtype=np.int64)
        np.add.at(table, (self.labels, self.first), 1)
        return table

    def at_temperature(self, ratio: float) -> Predictions:
        """Return the answers with all logits divided by `ratio` once more: 1 / T undoes a temperature T."""
        logits = np.log(np.maximum(self.scores, np.finfo(np.float64).tiny)) / ratio  # up to a constant of each row
        return replace(self, scores=softmax(logits))
