"""Batches of normalized clips of about the same length, padded to the longest of them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from spoter.errors import DataError, InputError
from spoter.landmarks.layouts import Layout
from spoter.landmarks.normalize import normalize
from spoter.training.augment.augmentation import Augmenter
from spoter.training.data import LabelledClip

_POOL = 8  # batches per sorted pool of clips: sorting avoids padding, pools keep batches different between epochs
_FRAMES = 128  # batches of longer clips hold fewer clips: the memory of attention grows with the square of the length


@dataclass(frozen=True)
class Batch:
    """B clips of about the same length."""

    frames: Tensor  # (B, T, 2K), padded with zeros
    lengths: Tensor  # (B,)
    labels: Tensor  # (B,)
    global_size: int  # clips in the batch over all processes; B for a single process
    is_filler: bool = False  # this process got no clip of its share, only a copy that must not count


@dataclass(frozen=True)
class EncodedClip:
    """A clip as input of a model: its points (T, K, 2) in image units, for augmentation, and its features (T, 2K)."""

    points: np.ndarray
    features: np.ndarray


class ClipEncoder:
    """Selects the points of a layout and normalizes them, once per clip; refuses more than `max_frames` frames."""

    def __init__(self, layout: Layout, scheme: str, max_frames: int):
        self.layout, self.scheme, self.max_frames = layout, scheme, max_frames
        # By id of the clip. The clip is kept, so that no other object gets its id.
        self._encoded: dict[int, tuple[LabelledClip, EncodedClip]] = {}

    def encode(self, clip: LabelledClip) -> EncodedClip:
        """Return the points and features of a clip; raise `DataError`, naming it, if it does not fit the model."""
        if id(clip) not in self._encoded:
            if len(clip.clip) > self.max_frames:
                problem = f"found {len(clip.clip)} frames"
                raise DataError(f"{clip.name}: {problem}, expected at most {self.max_frames}, the limit of the model")
            try:
                points = self.layout.select(clip.clip)
                encoded = EncodedClip(points, normalize(points, self.layout, self.scheme))
            except InputError as error:
                raise DataError(f"{clip.name}: {error}") from None
            self._encoded[id(clip)] = clip, encoded
        return self._encoded[id(clip)][1]


class ClipSet:
    """The clips of one subset of a split, as batches.

    `glosses` are in the order of the label indices. Raises `DataError`, naming the clip, if one does not fit the model.
    """

    def __init__(self, clips: Sequence[LabelledClip], glosses: Sequence[str], encoder: ClipEncoder):
        self.encoder = encoder
        self.clips = [encoder.encode(clip) for clip in clips]
        self.labels = [glosses.index(clip.gloss) for clip in clips]

    def __len__(self) -> int:
        return len(self.clips)

    def batches(self, size: int) -> list[Batch]:
        """Return all clips without augmentation, sorted by length, for validation and testing."""
        chunks = _chunks({i: len(clip.features) for i, clip in enumerate(self.clips)}, size)
        return [self._batch(chunk, lambda i: self.clips[i].features) for chunk in chunks]

    def augmented_batches(
        self, size: int, augmenter: Augmenter, seed: int, epoch: int, rank: int = 0, world: int = 1
    ) -> Iterator[Batch]:
        """Yield all clips once, augmented, in a random order that depends only on the seed and the epoch.

        Each of `world` processes augments all clips in the same way and gets every `world`-th clip of each batch.
        Together they train on the batches of a single process.
        """
        rng = np.random.default_rng([seed, epoch])
        order = rng.permutation(len(self))
        for start in range(0, len(order), size * _POOL):
            pool: dict[int, np.ndarray] = {}
            for i in order[start : start + size * _POOL].tolist():
                pool[i] = augmenter.apply(self.clips[i].points, self.encoder.layout, self.encoder.max_frames, rng)
            chunks = _chunks({i: len(points) for i, points in pool.items()}, size)
            for chunk in rng.permutation(len(chunks)):
                yield self._batch(chunks[chunk], partial(self._normalize, pool), rank, world)

    def _normalize(self, augmented: dict[int, np.ndarray], member: int) -> np.ndarray:
        """Return the features of an augmented clip, or of the original if no frame with both shoulders is left."""
        try:
            return normalize(augmented[member], self.encoder.layout, self.encoder.scheme)
        except InputError:
            return self.clips[member].features

    def _batch(
        self, chunk: Sequence[int], features_of: Callable[[int], np.ndarray], rank: int = 0, world: int = 1
    ) -> Batch:
        members = chunk[rank::world] or chunk[:1]
        features = [torch.from_numpy(features_of(i)) for i in members]
        return Batch(
            torch.nn.utils.rnn.pad_sequence(features, batch_first=True),
            torch.tensor([len(frames) for frames in features]),
            torch.tensor([self.labels[i] for i in members]),
            len(chunk),
            is_filler=rank >= len(chunk),
        )


def _chunks(lengths: dict[int, int], size: int) -> list[list[int]]:
    """Group clips by length: at most `size` clips and, with padding, `size` times `_FRAMES` frames per group."""
    chunks: list[list[int]] = [[]]
    for member in sorted(lengths, key=lambda member: lengths[member]):
        if len(chunks[-1]) == size or (chunks[-1] and (len(chunks[-1]) + 1) * lengths[member] > size * _FRAMES):
            chunks.append([])
        chunks[-1].append(member)
    return chunks
