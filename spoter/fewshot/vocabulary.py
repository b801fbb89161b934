"""What a clip may be named: the glosses a model was trained on, then those enrolled in its folder or by a request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spoter.fewshot.enrolled import EnrolledGloss
from spoter.fewshot.prototypes import Prototypes, include_enrolled


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Glosses, and where each lies in a model's space.

    Attributes
    ----------
    glosses : tuple of str, length G
        By label index.
    prototypes : Prototypes or None
        The model's own; None where it has none.
    directions : numpy.ndarray or None, shape (G, E), float32
        What clips are compared with; None without prototypes.
    """

    glosses: tuple[str, ...]
    prototypes: Prototypes | None
    directions: np.ndarray | None

    @classmethod
    def build(
        cls, trained: Sequence[str], prototypes: Prototypes | None, enrolled: Sequence[EnrolledGloss] = ()
    ) -> Vocabulary:
        """Put the glosses that a model was trained on and enrolled ones together; the latter need prototypes."""
        glosses = (*trained, *(gloss.gloss for gloss in enrolled))
        if prototypes is None:
            return cls(glosses, None, None)
        # Longer by what the few clips of a prototype make a cosine smaller, so that all glosses compete as equals.
        later = [gloss.direction / prototypes.attenuation(gloss.clips) for gloss in enrolled]
        return cls(glosses, prototypes, np.concatenate([prototypes.trained, *later]))

    def score(self, probabilities: np.ndarray, embeddings: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
        """Compare clips with all glosses.

        Parameters
        ----------
        probabilities : numpy.ndarray, shape (B, C)
            The head's, among the glosses it was trained on.
        embeddings : numpy.ndarray, shape (B, E)
            Not needed without prototypes.

        Returns
        -------
        numpy.ndarray, shape (B, G)
            The probability of each gloss; rows sum to 1.
        numpy.ndarray or None, shape (B, G)
            The cosine with each gloss's direction; None without prototypes.
        """
        if self.prototypes is None:
            return probabilities, None
        similarities = self.prototypes.directions(embeddings) @ self.directions.T
        if len(self.glosses) > probabilities.shape[1]:
            probabilities = include_enrolled(probabilities, similarities, self.prototypes.scale)
        return probabilities, similarities
