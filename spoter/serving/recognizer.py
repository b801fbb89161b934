"""Recognizer: clips in, ranked glosses out. Every door calls it.

What computes is handed to it, by the config's runtime: SPOTER in torch (`spoter.runtime.torch_runtime`) or the same as an ONNX
graph (`spoter.runtime.onnx_runtime`), for doors that do without torch. All else is the same code.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from spoter.error_codes import ErrorCode
from spoter.errors import InputError, ModelFolderError
from spoter.fewshot.enrolled import Enrolled, EnrolledGlosses, Enrolment, check_enrolled, check_gloss, learn, merged
from spoter.fewshot.prototypes import softmax
from spoter.fewshot.vocabulary import Vocabulary
from spoter.formats import Limits
from spoter.formats.response import Answer, Ranked
from spoter.landmarks.clip import Clip
from spoter.landmarks.normalize import normalize_clips
from spoter.model.config import RUNTIMES, runtime_of
from spoter.model.folder import ModelFolder, load_model_folder
from spoter.runtime.base import Forward
from spoter.runtime.loading import load_onnx_folder

if TYPE_CHECKING:
    from spoter.serving.recognizer import Recognizer

if TYPE_CHECKING:
    import torch

NO_PROTOTYPES = (
    "found no prototypes, expected those of the trained glosses to compare with: `spoter calibrate` makes them from "
    "labelled clips"
)
"""What is said of a model in which nothing can be enrolled."""


@dataclass
class Timings:
    """What answering took: wall milliseconds of each step, and how much there was to do."""

    decode_ms: float = 0.0
    video_ms: float = 0.0
    normalize_ms: float = 0.0
    forward_ms: float = 0.0
    frames: int = 0
    clips: int = 0
    videos: int = 0
    bad_inputs: int = 0

    def add(self, normalizing: float, forward: float, features: Iterable[np.ndarray]) -> None:
        """Add what a forward took: the seconds before it, its own, and the features (T, 2K) of each clip."""
        self.normalize_ms += 1e3 * normalizing
        self.forward_ms += 1e3 * forward
        self.frames += sum(map(len, features))


class Recognizer:
    """A loaded model folder.

    Parameters
    ----------
    folder : spoter.model.folder.ModelFolder
    forward : spoter.runtime.base.Forward
        What computes, of the folder's own weights.

    Attributes
    ----------
    config : spoter.model.config.ModelConfig
    trained : tuple of str
        The glosses the model was trained on, by label index.
    prototypes : spoter.fewshot.prototypes.Prototypes or None
        Where they lie; None for a model in which nothing can be enrolled.
    enrolled : tuple of spoter.fewshot.enrolled.Enrolled
        The model folder's.
    vocabulary : spoter.fewshot.vocabulary.Vocabulary
        All of them, and what clips are named with unless a request brings glosses of its own.
    layout : spoter.landmarks.layouts.Layout
    limits : spoter.formats.Limits
        How much a request may hold.
    forward : spoter.runtime.base.Forward
    """

    def __init__(self, folder: ModelFolder, forward: Forward):
        self.config = folder.config
        self.trained, self.prototypes, self.enrolled = folder.glosses, folder.prototypes, folder.enrolled
        self.vocabulary = Vocabulary.of(self.trained, self.prototypes, self.enrolled)
        self.layout = folder.layout
        self.limits = Limits(**{field.name: getattr(folder.config, field.name) for field in fields(Limits)})
        self.forward = forward
        # Also the first forward, which allocates and picks kernels: no client shall wait for that.
        blank = np.zeros((min(2, self.limits.max_frames), 2 * len(self.layout)), dtype=np.float32)
        probabilities, embeddings = self._forward([blank])
        if not np.isfinite(self.vocabulary.judge(probabilities, embeddings)[0]).all():
            raise ModelFolderError(f"model {self.config.name}: found weights whose answer is not finite")

    @classmethod
    def load(cls, folder: Path | str, device: str | torch.device = "cpu", runtime: str | None = None) -> Recognizer:
        """Load a model folder.

        Parameters
        ----------
        folder : Path or str
        device : str or torch.device
            Torch's; ONNX Runtime's graphs are for the CPU.
        runtime : str, optional
            One of `spoter.model.config.RUNTIMES`; unless given the config's own on the CPU, and ``torch`` on other devices.
            Only ``torch`` imports torch.

        Raises
        ------
        ModelFolderError
            Where the folder is unfit, or lacks the runtime's file.
        """
        folder, on_cpu = Path(folder), str(device) == "cpu"
        runtime = runtime_of(folder, runtime) if on_cpu else runtime or "torch"
        if runtime not in RUNTIMES:
            raise ModelFolderError(f"found runtime {runtime!r}, expected one of {', '.join(RUNTIMES)}")
        if runtime != "torch":
            if not on_cpu:
                raise ModelFolderError(f"{folder}: found runtime {runtime} and device {device}, expected cpu for it")
            loaded = load_onnx_folder(folder, runtime)
            return cls(loaded, loaded.model)
        from spoter.formats import csv_format  # noqa: F401  with it pandas: no client shall wait for that, too
        from spoter.runtime.torch_runtime import TorchForward

        loaded = load_model_folder(folder)
        return cls(loaded, TorchForward(loaded.model, device))

    @property
    def glosses(self) -> tuple[str, ...]:
        """By label index: those the model was trained on, then those that were enrolled."""
        return self.vocabulary.glosses

    def features(self, clip: Clip) -> np.ndarray:
        """Return what SPOTER is fed for a clip: shape (T, 2K), float32; raises `InputError` for an unusable clip."""
        [features] = self._features([clip])
        if isinstance(features, InputError):
            raise features
        return features

    def _features(self, clips: Sequence[Clip | InputError]) -> list[np.ndarray | InputError]:
        """Return what SPOTER is fed for each clip, or what is wrong with it; errors are handed through."""
        results: list = list(clips)
        chosen: dict[int, np.ndarray] = {}
        for i, clip in enumerate(clips):
            if isinstance(clip, Clip):
                try:
                    self.limits.check_frames(len(clip))
                    chosen[i] = self.layout.select(clip)
                except InputError as error:
                    results[i] = error
        fed = normalize_clips(list(chosen.values()), self.layout, self.config.normalize)
        for i, found in zip(chosen, fed, strict=True):
            results[i] = found
        return results

    def embed(self, clips: Sequence[Clip], places: Sequence[str] = (), timings: Timings | None = None) -> np.ndarray:
        """Return the embeddings of clips, shape (clips, E), float32 (`spoter.fewshot.prototypes`).

        Raises as `features` does, with the clip's place: that of `places`, or else its number.
        """
        timings = timings if timings is not None else Timings()
        started = time.perf_counter()
        features = self._features(clips)
        for i, found in enumerate(features):
            if isinstance(found, InputError):
                raise found.within(places[i] if places else f"clip {i}")
        normalized = time.perf_counter()
        embeddings = self.forward(features, True)[1]
        timings.add(normalized - started, time.perf_counter() - normalized, features)
        timings.clips += len(clips)
        return embeddings

    def check_enrolled(self, enrolled: EnrolledGlosses) -> tuple[Enrolled, ...]:
        """Return the folder's enrolled glosses and those that a request brings, which go before the folder's.

        Raises
        ------
        InputError
            ``no_prototypes``, and those of `spoter.fewshot.enrolled.check_enrolled`.
        """
        if enrolled is None:
            return self.enrolled
        if self.prototypes is None:
            raise InputError(ErrorCode.NO_PROTOTYPES, NO_PROTOTYPES)
        try:
            return merged(self.enrolled, check_enrolled(enrolled, self.trained, self.prototypes))
        except InputError as error:
            raise error.within("enrolled") from None

    def enroll(
        self,
        gloss: str,
        clips: Sequence[Clip],
        enrolled: Sequence[Enrolled] = (),
        places: Sequence[str] = (),
        timings: Timings | None = None,
    ) -> Enrolment:
        """Learn a gloss from a few clips; nothing is kept.

        Parameters
        ----------
        gloss : str
        clips : sequence of Clip
            Of that sign, at least one, each of one whole sign as in training.
        enrolled : sequence of Enrolled
            Glosses beside the trained ones that it is compared with.
        places : sequence of str
            As for `embed`.
        costs : Timings, optional
            Added to.

        Raises
        ------
        InputError
            ``no_prototypes``; those of `spoter.fewshot.enrolled.check_gloss`; and for the first clip that cannot be used.
        """
        if self.prototypes is None:
            raise InputError(ErrorCode.NO_PROTOTYPES, NO_PROTOTYPES)
        gloss = check_gloss(gloss, self.trained)
        return learn(gloss, self.embed(clips, places, timings), self.trained, self.prototypes, enrolled)

    def recognize(
        self,
        clips: Sequence[Clip | InputError],
        top_k: int = 5,
        timings: Timings | None = None,
        vocabularies: Sequence[Vocabulary] = (),
    ) -> list[Answer | InputError]:
        """Name the sign in each clip, all of them in one forward as long as they are not very many or very long.

        Parameters
        ----------
        clips : sequence of Clip or InputError
            An error, as decoding leaves it in a bad clip's place, is handed through.
        top_k : int
            Glosses an answer holds, best first; fewer where the model knows fewer.
        costs : Timings, optional
            Added to.
        vocabularies : sequence of Vocabulary
            What each clip is named with; the model's own unless given. Clips of one request share one, by identity.

        Returns
        -------
        list of Answer or InputError
            One for each clip, in order; a clip that cannot be used leaves its neighbours alone.
        """
        timings = timings if timings is not None else Timings()
        started = time.perf_counter()
        results: list = self._features(clips)  # errors stay, features give way to what becomes of them
        features = {i: found for i, found in enumerate(results) if isinstance(found, np.ndarray)}
        normalized = time.perf_counter()
        probabilities, embeddings = self._forward(list(features.values()))
        places = list(features)
        said = [vocabularies[i] if vocabularies else self.vocabulary for i in places]
        for vocabulary in dict.fromkeys(said):
            rows = [row for row, its in enumerate(said) if its is vocabulary]
            ranked = self._rank(
                vocabulary, probabilities[rows], embeddings if embeddings is None else embeddings[rows], top_k
            )
            for row, (instances, known, similarity) in zip(rows, ranked, strict=True):
                i, frames = places[row], len(features[places[row]])
                results[i] = Answer(instances, frames, self.config.name, self.config.version, known, similarity)
        timings.add(normalized - started, time.perf_counter() - normalized, features.values())
        timings.clips += len(clips)
        return results

    def _forward(self, features: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the head's probabilities, (clips, C), and embeddings, (clips, E), of each (T, 2K) of `features`.

        Embeddings are None in a model without prototypes, which has nothing to compare them with.
        """
        logits, embeddings = self.forward(features, self.prototypes is not None)
        return softmax(logits / self.config.temperature), embeddings

    def _rank(
        self, vocabulary: Vocabulary, probabilities: np.ndarray, embeddings: np.ndarray | None, top_k: int
    ) -> Iterator[tuple[list[Ranked], bool | None, float | None]]:
        """Yield what an `Answer` says of each clip: its best glosses, whether its sign is known, and the similarity."""
        probabilities, similarities = vocabulary.judge(probabilities, embeddings)
        best = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k]
        for number, order in enumerate(best):
            row = probabilities[number]
            ranked = [Ranked(gloss=vocabulary.glosses[k], score=float(row[k]), index=int(k)) for k in order]
            similarity = known = None
            if similarities is not None:
                similarity = float(similarities[number, order[0]])
                if self.config.known_threshold is not None:
                    known = similarity >= self.config.known_threshold
            yield ranked, known, similarity


def load(model: Path, runtime: str | None) -> Recognizer:
    """Load a model folder to compute in one thread, as a server's worker does; raises as `Recognizer.load`."""
    from spoter.model.config import runtime_of
    from spoter.runtime.threads import compute_with
    from spoter.serving.recognizer import Recognizer

    runtime = runtime_of(model, runtime)
    compute_with(1, runtime)
    return Recognizer.load(model, runtime=runtime)
