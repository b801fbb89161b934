"""`Recognizer`: clips in, ranked glosses out. Every entry point calls it.

The model's runtime computes the forward pass: `spoter.runtime.torch_runtime`, or `spoter.runtime.onnx_runtime`, which
does not import torch. All other code is the same.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spoter.error_codes import ErrorCode
from spoter.errors import InputError, ModelFolderError
from spoter.fewshot.enrolled import (
    EnrolledGloss,
    EnrolledGlosses,
    Enrolment,
    Vocabulary,
    check_enrolled,
    check_gloss,
    learn_gloss,
    merge_enrolled,
)
from spoter.fewshot.prototypes import Prototypes, softmax
from spoter.formats.request import DEFAULT_TOP_K, ClipOrError
from spoter.formats.response import ModelName, Prediction, PredictionOrError, Ranked
from spoter.landmarks.arrays import Float32Array
from spoter.landmarks.clip import Clip
from spoter.landmarks.normalize import normalize_clips
from spoter.model.config import choose_runtime
from spoter.model.folder import ModelFolder
from spoter.runtime.base import Runtime
from spoter.runtime.device import limit_threads
from spoter.runtime.loading import load_runtime

Features = Float32Array
"""The input of a model for one clip, shape (T, 2K)."""


@dataclass
class Timings:
    """Wall time of each step of a batch, in milliseconds, and the amount of work."""

    decode_ms: float = 0.0
    video_ms: float = 0.0
    normalize_ms: float = 0.0
    forward_ms: float = 0.0
    frames: int = 0
    clips: int = 0
    videos: int = 0
    bad_inputs: int = 0

    def add_forward(self, started: float, normalized: float, clips: int, features: Iterable[Features]) -> None:
        """Add a forward pass of `features` from `normalized` until now, and normalization from `started` until then."""
        self.normalize_ms += 1e3 * (normalized - started)
        self.forward_ms += 1e3 * (time.perf_counter() - normalized)
        self.frames += sum(map(len, features))
        self.clips += clips


class Recognizer:
    """A loaded model that recognizes signs; create it with `Recognizer.load`.

    Attributes
    ----------
    config : ModelConfig
        Content of the model folder's config.json.
    layout : Layout
        Landmarks that the model reads.
    limits : Limits
        Largest clips and requests that the model accepts.

    Examples
    --------
    >>> from pathlib import Path
    >>> from spoter import Recognizer
    >>> from spoter.sources.clip_files import read_clips
    >>> recognizer = Recognizer.load("models/dgs11")
    >>> [prediction] = recognizer.recognize(read_clips([Path("samples/hallo.json")], recognizer.layout))
    >>> prediction.gloss, prediction.known
    ('HALLO', True)
    """

    def __init__(self, folder: ModelFolder, runtime: Runtime):
        self.config, self.layout = folder.config, folder.layout
        self.trained = folder.glosses  # by label index
        self.prototypes = folder.prototypes  # of the trained glosses; None if the model cannot learn glosses
        self.enrolled = folder.enrolled
        # The glosses to choose from, unless a request brings further glosses.
        self.vocabulary = Vocabulary.build(self.trained, self.prototypes, self.enrolled)
        self.limits = folder.config.limits
        self.runtime = runtime
        # Run the first forward pass, which allocates memory and selects kernels, before a client waits for it.
        blank = np.zeros((min(2, self.limits.max_frames), folder.width), dtype=np.float32)
        probabilities, embeddings = self._run_model([blank])
        if not np.isfinite(self.vocabulary.score(probabilities, embeddings)[0]).all():
            raise ModelFolderError(f"model {self.config.name}: found weights with outputs that are not finite")

    @classmethod
    def load(cls, folder: Path | str, device: str = "cpu", runtime: str | None = None) -> Recognizer:
        """Load a model folder.

        Parameters
        ----------
        folder : path
            Path of the model folder.
        device : str
            A device of torch; with ONNX Runtime only "cpu".
        runtime : str, optional
            "torch", "onnx" or "onnx-int8"; by default the runtime in the model's config, or torch if not on the CPU.

        Raises
        ------
        ModelFolderError
            If the folder is invalid, or the runtime is not installed or cannot run the model.
        """
        return cls(*load_runtime(Path(folder), runtime, device))

    @property
    def glosses(self) -> tuple[str, ...]:
        """All glosses by label index: the trained ones, then the enrolled ones."""
        return self.vocabulary.glosses

    def require_prototypes(self) -> Prototypes:
        """Return the model's prototypes; raise `InputError` ``no_prototypes`` if it has none."""
        if self.prototypes is None:
            raise InputError(
                ErrorCode.NO_PROTOTYPES,
                "found no prototypes of the trained glosses in this model; `spoter calibrate` makes them from labeled "
                "clips",
            )
        return self.prototypes

    def compute_features(self, clip: Clip) -> Features:
        """Return the model's input for a clip, (T, 2K); raise `InputError` if the clip is unusable."""
        features, errors = self._compute_features([clip])
        if errors:
            raise errors[0]
        return features[0]

    def _compute_features(self, clips: Sequence[ClipOrError]) -> tuple[dict[int, Features], dict[int, InputError]]:
        """Return the features of each usable clip, and the errors of the other clips, by position."""
        errors: dict[int, InputError] = {}
        selected: dict[int, Float32Array] = {}
        for i, clip in enumerate(clips):
            if isinstance(clip, InputError):
                errors[i] = clip
                continue
            try:
                self.limits.check_frames(len(clip))
                selected[i] = self.layout.select(clip)
            except InputError as error:
                errors[i] = error
        features: dict[int, Features] = {}
        normalized = normalize_clips(list(selected.values()), self.layout, self.config.normalize)
        for i, result in zip(selected, normalized, strict=True):
            if isinstance(result, InputError):
                errors[i] = result
            else:
                features[i] = result
        return features, errors

    def embed(
        self, clips: Sequence[ClipOrError], places: Sequence[str] = (), timings: Timings | None = None
    ) -> Float32Array:
        """Return the embeddings of clips, shape (clips, E) (`spoter.fewshot.prototypes`).

        Raise the `InputError` of the first unusable clip, within its place: one of `places`, by default "clip 0" and so
        on. Add the forward pass to `timings`.
        """
        started = time.perf_counter()
        features, errors = self._compute_features(clips)
        if errors:
            i = min(errors)
            has_place = errors[i] is clips[i]  # an error of decoding
            raise errors[i] if has_place else errors[i].within(places[i] if places else f"clip {i}")
        normalized = time.perf_counter()
        _, embeddings = self.runtime.run(list(features.values()), True)
        if timings is not None:
            timings.add_forward(started, normalized, len(clips), features.values())
        return embeddings

    def combine_enrolled(self, enrolled: EnrolledGlosses) -> tuple[EnrolledGloss, ...]:
        """Return the enrolled glosses of the folder and of a request, which replace the folder's with the same name.

        Raise `InputError` ``no_prototypes``, and the errors of `spoter.fewshot.enrolled.check_enrolled`.
        """
        prototypes = self.require_prototypes()
        try:
            return merge_enrolled(self.enrolled, check_enrolled(enrolled, self.trained, prototypes))
        except InputError as error:
            raise error.within("enrolled") from None

    def enroll(
        self,
        gloss: str,
        clips: Sequence[ClipOrError],
        enrolled: Sequence[EnrolledGloss] = (),
        places: Sequence[str] = (),
        timings: Timings | None = None,
    ) -> Enrolment:
        """Learn a gloss from at least one clip and return it; the recognizer does not store it.

        Each clip shows the whole sign, as in training. The result names the nearest gloss among the trained glosses and
        `enrolled`. `places` and `timings` are those of `embed`.

        Raises
        ------
        InputError
            ``no_prototypes``; for an unusable name (`spoter.fewshot.enrolled.check_gloss`) or clip.
        """
        prototypes = self.require_prototypes()
        gloss = check_gloss(gloss, self.trained)
        return learn_gloss(gloss, self.embed(clips, places, timings), self.trained, prototypes, enrolled)

    def recognize(
        self,
        clips: Sequence[ClipOrError],
        top_k: int = DEFAULT_TOP_K,
        timings: Timings | None = None,
        vocabularies: Sequence[Vocabulary] = (),
    ) -> list[PredictionOrError]:
        """Recognize the sign in each clip; one forward pass computes all clips unless they are too many or too long.

        Parameters
        ----------
        clips : sequence of Clip or InputError
            An error is passed through to the result.
        top_k : int
            Number of glosses in a prediction, best first, at most the number of the model's glosses.
        timings : Timings, optional
            Record to which this call adds its times.
        vocabularies : sequence of Vocabulary
            Glosses to choose from, for each clip; by default the model's. Clips of one request share one object.

        Returns
        -------
        list of Prediction or InputError
            One item per clip, in order; the error of an unusable clip is in its place.
        """
        started = time.perf_counter()
        features, errors = self._compute_features(clips)
        normalized = time.perf_counter()
        probabilities, embeddings = self._run_model(list(features.values()))
        positions = list(features)
        rows_of: dict[Vocabulary, list[int]] = {}
        for row, i in enumerate(positions):
            rows_of.setdefault(vocabularies[i] if vocabularies else self.vocabulary, []).append(row)
        results: dict[int, PredictionOrError] = {**errors}
        for vocabulary, rows in rows_of.items():
            lengths = [len(features[positions[row]]) for row in rows]
            predictions = self._make_predictions(vocabulary, probabilities[rows], embeddings[rows], lengths, top_k)
            results.update(zip((positions[row] for row in rows), predictions, strict=True))
        if timings is not None:
            timings.add_forward(started, normalized, len(clips), features.values())
        return [results[i] for i in range(len(clips))]

    def _run_model(self, features: list[Features]) -> tuple[Float32Array, Float32Array]:
        """Return the head's probabilities, (clips, C), and the embeddings, (clips, E); E is 0 without prototypes."""
        logits, embeddings = self.runtime.run(features, self.prototypes is not None)
        return softmax(logits / self.config.temperature), embeddings

    def _make_predictions(
        self,
        vocabulary: Vocabulary,
        probabilities: Float32Array,
        embeddings: Float32Array,
        lengths: Sequence[int],
        top_k: int,
    ) -> Iterator[Prediction]:
        """Yield the prediction for each clip from what `_run_model` returned; `lengths` are the clips' frames."""
        probabilities, similarities = vocabulary.score(probabilities, embeddings)
        best = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k]
        model, threshold = ModelName(self.config.name, self.config.version), self.config.known_threshold
        for clip, order in enumerate(best):
            row = probabilities[clip]
            ranked = tuple(Ranked(gloss=vocabulary.glosses[k], score=float(row[k]), index=int(k)) for k in order)
            similarity = None if similarities is None else float(similarities[clip, order[0]])
            known = None if similarity is None or threshold is None else similarity >= threshold
            yield Prediction(ranked, known, lengths[clip], model, similarity)


def load_single_threaded(model: Path, runtime: str | None) -> Recognizer:
    """Load a model folder to run in one thread, as in a server's worker; raise the errors of `Recognizer.load`."""
    runtime = choose_runtime(model, runtime)
    limit_threads(1, runtime)
    return Recognizer.load(model, runtime=runtime)
