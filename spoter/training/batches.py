"""Clips as batches: padded to the longest of each, which is of about the same length as the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from spoter.errors import DataError, InputError
from spoter.landmarks.layouts import Layout
from spoter.landmarks.normalize import normalize
from spoter.training.augment.base import Augmenter
from spoter.training.augment.transforms import resample_time
from spoter.training.data import LabelledClip

_POOL = 8  # batches that are filled from one sorted pool: little padding, and batches still differ between epochs
_FRAMES = 128  # a batch of longer clips than this holds fewer of them: attention costs memory by the square of length


@dataclass(frozen=True)
class Batch:
    """Clips of about the same length.

    Attributes
    ----------
    frames : torch.Tensor, shape (B, T, 2K)
        Padded with zeros.
    lengths, labels : torch.Tensor, shape (B,)
    global_size : int
        Clips of the batch before it was dealt out to several processes; B where there is one.
    stand_in : bool
        The batch had no clip for this process, so that it got another's, which must not count.
    """

    frames: Tensor
    lengths: Tensor
    labels: Tensor
    global_size: int
    is_filler: bool = False


class ClipSet:
    """One side of a split, ready to be fed to a model.

    Parameters
    ----------
    clips : sequence of LabelledClip
    glosses : sequence of str
        In the order of the label indices.
    layout : Layout
    scheme : str
        Of `spoter.landmarks.normalize`.
    max_frames : int
        No clip gets longer than this by augmentation.

    Raises
    ------
    DataError
        For a clip that cannot be normalised or is longer than `max_frames`, naming it.
    """

    def __init__(
        self, clips: Sequence[LabelledClip], glosses: Sequence[str], layout: Layout, scheme: str, max_frames: int
    ):
        self.layout, self.scheme, self.max_frames = layout, scheme, max_frames
        self.points = [checked_points(clip, layout, scheme, max_frames) for clip in clips]
        self.labels = [glosses.index(clip.gloss) for clip in clips]

    def __len__(self) -> int:
        return len(self.points)

    def batches(self, size: int, tempo: float = 1.0) -> list[Batch]:
        """Return all clips, the shorter first, for validation and testing: as they are, or in `tempo` x the frames."""
        points = self.points
        if tempo != 1.0:
            points = [resample_time(clip, min(max(round(tempo * len(clip)), 1), self.max_frames)) for clip in points]
        chunks = _chunks({i: len(clip) for i, clip in enumerate(points)}, size)
        return [self._batch(chunk, points.__getitem__) for chunk in chunks]

    def augmented_batches(
        self, size: int, changes: Augmenter, seed: int, epoch: int, rank: int = 0, world: int = 1
    ) -> Iterator[Batch]:
        """Yield all clips once, changed, in a random order; the same for the same seed and epoch.

        Of several processes (`world`) each changes all clips alike and gets every `world`-th of each batch, so that
        together they train on what one would.
        """
        rng = np.random.default_rng([seed, epoch])
        order = rng.permutation(len(self))
        for start in range(0, len(order), size * _POOL):
            pool = {}
            for i in order[start : start + size * _POOL].tolist():
                pool[i] = changes.apply(self.points[i], self.layout, self.max_frames, rng)
            chunks = _chunks({i: len(points) for i, points in pool.items()}, size)
            for chunk in rng.permutation(len(chunks)):
                yield self._batch(chunks[chunk], pool.__getitem__, rank, world)

    def _normalize(self, points: np.ndarray, member: int) -> np.ndarray:
        """Normalise a changed clip, or the clip itself where the change took the only frames with both shoulders."""
        try:
            return normalize(points, self.layout, self.scheme)
        except InputError:
            return normalize(self.points[member], self.layout, self.scheme)

    def _batch(self, whole: list[int], points: Callable[[int], np.ndarray], rank: int = 0, world: int = 1) -> Batch:
        members = whole[rank::world] or whole[:1]
        inputs = [torch.from_numpy(self._normalize(points(i), i)) for i in members]
        return Batch(
            torch.nn.utils.rnn.pad_sequence(inputs, batch_first=True),
            torch.tensor([len(frames) for frames in inputs]),
            torch.tensor([self.labels[i] for i in members]),
            len(whole),
            is_filler=rank >= len(whole),
        )


def checked_points(clip: LabelledClip, layout: Layout, scheme: str, max_frames: int) -> np.ndarray:
    """Return a clip's points (T, K, 2) of a layout; raise `DataError`, naming it, where a model cannot be fed it."""
    if len(clip.clip) > max_frames:
        raise DataError(f"{clip.name}: found {len(clip.clip)} frames, but the model is to take {max_frames} at most")
    try:
        points = layout.select(clip.clip)
        normalize(points, layout, scheme)
    except InputError as error:
        raise DataError(f"{clip.name}: {error}") from None
    return points


def _chunks(lengths: dict[int, int], size: int) -> list[list[int]]:
    """Group clips of about the same length, at most `size` of them and `size` times `_FRAMES` frames with padding."""
    chunks: list[list[int]] = [[]]
    for member in sorted(lengths, key=lengths.get):
        if len(chunks[-1]) == size or (chunks[-1] and (len(chunks[-1]) + 1) * lengths[member] > size * _FRAMES):
            chunks.append([])
        chunks[-1].append(member)
    return chunks
