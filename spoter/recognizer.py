"""Recognizer: clips in, ranked glosses out. Every door calls it.

What computes is handed to it: SPOTER in torch (`spoter.torch_forward`) or the same as an ONNX graph
(`spoter.onnx_forward`), so that a door which must start fast does without torch. All else is the same code.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from spoter.clip import Clip
from spoter.embedding import softmax, with_enrolled
from spoter.errors import InputError, ModelFolderError
from spoter.formats import Limits
from spoter.formats.answers import Answer, Ranked
from spoter.model_folder import ModelFolder, load_model_folder, load_onnx_folder
from spoter.normalize import normalize

if TYPE_CHECKING:
    import torch

Forward = Callable[[list[np.ndarray]], tuple[np.ndarray, np.ndarray]]
"""Features, (T, 2K) float32 of each clip -> logits (clips, classes) and embeddings (clips, E), both float32."""


@dataclass
class Costs:
    """What answering took: wall milliseconds of each step, and how much there was to do."""

    decode_ms: float = 0.0
    normalize_ms: float = 0.0
    forward_ms: float = 0.0
    frames: int = 0
    clips: int = 0
    bad_inputs: int = 0


class Recognizer:
    """A loaded model folder.

    Parameters
    ----------
    folder : spoter.model_folder.ModelFolder
    forward : callable
        What computes, a `Forward` of the folder's own weights.

    Attributes
    ----------
    config : spoter.config.ModelConfig
    glosses : tuple of str
        By label index: those the model was trained on, then those that were enrolled.
    layout : spoter.layouts.Layout
    limits : spoter.formats.Limits
        How much a request may hold.
    forward : callable
    """

    def __init__(self, folder: ModelFolder, forward: Forward):
        self.config = folder.config
        self.glosses = (*folder.glosses, *(gloss.gloss for gloss in folder.enrolled))
        self.layout = folder.layout
        self.limits = Limits(folder.config.max_frames, folder.config.max_clips, folder.config.max_bytes)
        self.forward = forward
        self._prototypes = folder.prototypes
        if folder.prototypes:
            # Longer by what the few clips of a prototype make a cosine smaller, so that all glosses compete as equals.
            later = [g.direction / folder.prototypes.attenuation(g.clips) for g in folder.enrolled]
            self._directions = np.concatenate([folder.prototypes.trained, *later])
        # Also the first forward, which allocates and picks kernels: no client shall wait for that.
        blank = np.zeros((min(2, self.limits.max_frames), 2 * len(self.layout)), dtype=np.float32)
        if not np.isfinite(self._judge([blank])[0]).all():
            raise ModelFolderError(f"model {self.config.name}: found weights whose answer is not finite")

    @classmethod
    def load(cls, folder: Path | str, device: str | torch.device = "cpu") -> Recognizer:
        """Load a model folder onto a torch device; raises `spoter.errors.ModelFolderError` where it is unfit."""
        from spoter.formats import csv_format  # noqa: F401  with it pandas: no client shall wait for that, too
        from spoter.torch_forward import TorchForward

        loaded = load_model_folder(Path(folder))
        return cls(loaded, TorchForward(loaded.model, device))

    @classmethod
    def load_onnx(cls, folder: Path | str) -> Recognizer:
        """Load a model folder with a model.onnx in place of its model.pth; raises as `load` does."""
        loaded = load_onnx_folder(Path(folder))
        return cls(loaded, loaded.model)

    def features(self, clip: Clip) -> np.ndarray:
        """Return what SPOTER is fed for a clip: shape (T, 2K), float32; raises `InputError` for an unusable clip."""
        self.limits.check_frames(len(clip))
        return normalize(self.layout.select(clip), self.layout, self.config.normalize)

    def embed(self, clips: Sequence[Clip], places: Sequence[str] = ()) -> np.ndarray:
        """Return the embeddings of clips, shape (clips, E), float32 (`spoter.embedding`).

        Raises as `features` does, with the clip's place: that of `places`, or else its number.
        """
        features = []
        for i, clip in enumerate(clips):
            try:
                features.append(self.features(clip))
            except InputError as error:
                raise error.within(places[i] if places else f"clip {i}") from None
        return self.forward(features)[1]

    def recognize(
        self, clips: Sequence[Clip | InputError], top_k: int = 5, costs: Costs | None = None
    ) -> list[Answer | InputError]:
        """Name the sign in each clip, all of them in one forward as long as they are not very many or very long.

        Parameters
        ----------
        clips : sequence of Clip or InputError
            An error, as decoding leaves it in a bad clip's place, is handed through.
        top_k : int
            Glosses an answer holds, best first; fewer where the model knows fewer.
        costs : Costs, optional
            Added to.

        Returns
        -------
        list of Answer or InputError
            One for each clip, in order; a clip that cannot be used leaves its neighbours alone.
        """
        costs = costs if costs is not None else Costs()
        started = time.perf_counter()
        results: list = list(clips)  # errors stay, clips give way to what becomes of them
        features: dict[int, np.ndarray] = {}
        for i, clip in enumerate(clips):
            if isinstance(clip, Clip):
                try:
                    features[i] = self.features(clip)
                except InputError as error:
                    results[i] = error
        normalized = time.perf_counter()
        probabilities, similarities = self._judge(list(features.values()))
        best = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k]
        for number, (i, order) in enumerate(zip(features, best, strict=True)):
            row = probabilities[number]
            ranked = [Ranked(gloss=self.glosses[k], score=float(row[k]), index=int(k)) for k in order]
            similarity = known = None
            if similarities is not None:
                similarity = float(similarities[number, order[0]])
                if self.config.known_threshold is not None:
                    known = similarity >= self.config.known_threshold
            results[i] = Answer(ranked, len(features[i]), self.config.name, self.config.version, known, similarity)
        costs.normalize_ms += 1e3 * (normalized - started)
        costs.forward_ms += 1e3 * (time.perf_counter() - normalized)
        costs.frames += sum(map(len, features.values()))
        costs.clips += len(clips)
        return results

    def _judge(self, features: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the probability of each gloss for each (T, 2K) of `features`, and its cosine with each prototype.

        Both have the shape (clips, glosses); there are no cosines without prototypes.
        """
        logits, embeddings = self.forward(features)
        probabilities = softmax(logits / self.config.temperature)
        if self._prototypes is None:
            return probabilities, None
        similarities = self._prototypes.directions(embeddings) @ self._directions.T
        if len(self.glosses) > self.config.classes:
            probabilities = with_enrolled(probabilities, similarities, self._prototypes.scale)
        return probabilities, similarities
