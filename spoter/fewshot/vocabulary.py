"""The glosses that a clip may be named: those of training, then those enrolled in the model folder or by a request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spoter.fewshot.enrolled import EnrolledGloss
from spoter.fewshot.prototypes import Prototypes, include_enrolled
from spoter.landmarks.arrays import Float32Array


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Glosses, and the direction of each in a model's space."""

    glosses: tuple[str, ...]  # G of them, by label index
    prototypes: Prototypes | None  # the model's own; None where it has none
    directions: Float32Array  # (G, E), float32: clips are compared with them; empty without prototypes

    @classmethod
    def build(
        cls, trained: Sequence[str], prototypes: Prototypes | None, enrolled: Sequence[EnrolledGloss] = ()
    ) -> Vocabulary:
        """Combine the glosses that a model was trained on and enrolled ones; the latter need prototypes."""
        glosses = (*trained, *(gloss.gloss for gloss in enrolled))
        if prototypes is None:
            return cls(glosses, None, np.empty((0, 0), dtype=np.float32))
        # Longer by the attenuation of cosines with prototypes of few clips, so that all glosses compete as equals.
        later = [gloss.direction / prototypes.attenuation(gloss.clips) for gloss in enrolled]
        return cls(glosses, prototypes, np.concatenate([prototypes.trained, *later]))

    def score(self, probabilities: Float32Array, embeddings: Float32Array) -> tuple[Float32Array, Float32Array | None]:
        """Return the probability of each gloss, (B, G), and the cosine with its direction, (B, G).

        `probabilities` (B, C) are the head's, of the trained glosses. `embeddings` (B, E) are not used without
        prototypes; then there are no cosines.
        """
        if self.prototypes is None:
            return probabilities, None
        similarities = self.prototypes.directions(embeddings) @ self.directions.T
        if len(self.glosses) > probabilities.shape[1]:
            probabilities = include_enrolled(probabilities, similarities, self.prototypes.scale)
        return probabilities, similarities
