"""Several people in the frames of one clip: which of them is the signer.

OpenPose and MMPose list everybody they see, in an order that changes from frame to frame.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

_P = TypeVar("_P")

MOST = 32
"""So many people of a frame are looked at: a crowd shall cost no server its memory."""

_STARTS = 4  # tracks that are tried: from the largest people who are in none yet


def points_of_signer(
    frames: Sequence[Sequence[_P] | None], points_of: Callable[[Sequence[_P], int], np.ndarray], size: int
) -> np.ndarray:
    """Return the points of one person through all frames, (T, `size`, 2) with NaN where missing.

    Parameters
    ----------
    frames : sequence of sequence, or None
        The people of each frame in a wire format's own form.
    points_of : callable
        Reads the people of a frame, whose number it is told too, as an array (P, `size`, 2).
    size : int
    """
    points = np.full((len(frames), size, 2), np.nan)
    everybody = [points_of(people[:MOST], i) if people else None for i, people in enumerate(frames)]
    for i, person in enumerate(follow(everybody)):
        if person is not None:
            points[i] = everybody[i][person]
    return points


def follow(frames: Sequence[np.ndarray | None]) -> list[int | None]:
    """Choose a person in each frame of a clip: the one who is largest for longest.

    From the largest person of all frames a track goes forwards and backwards, in each frame to whoever is nearest to
    the last place, and to nobody where the nearest is farther away than a quarter of the person's size: that is
    somebody else. Of the tracks from the largest people the one with the greatest sum of sizes is the signer. Where no
    frame has two people there is nothing to choose.

    Parameters
    ----------
    frames : sequence of numpy.ndarray, shape (P, N, 2), or None
        The people of each frame in any units, NaN = missing; P may differ, and None is nobody.

    Returns
    -------
    list of int or None
        The chosen person of each frame; None = nobody.
    """
    if all(people is None or len(people) < 2 for people in frames):
        return [None if people is None or len(people) == 0 else 0 for people in frames]
    sizes = [np.zeros(0) if people is None else _sizes(people) for people in frames]
    free = [size.copy() for size in sizes]
    best, most = [None] * len(frames), 0.0
    for _ in range(_STARTS):
        largest = [size.max(initial=0) for size in free]
        start = int(np.argmax(largest))
        if largest[start] == 0:
            break
        track = _track(frames, sizes, start, int(np.argmax(free[start])))
        weight = sum(sizes[i][person] for i, person in enumerate(track) if person is not None)
        if weight > most:
            best, most = track, weight
        for i, person in enumerate(track):
            if person is not None:
                free[i][person] = 0
    return best


def _sizes(people: np.ndarray) -> np.ndarray:
    """Return the diagonal of the box around each person's known points: (P,), 0 where there is none."""
    absent = np.isnan(people)
    low = np.where(absent, np.inf, people).min(axis=1)
    high = np.where(absent, -np.inf, people).max(axis=1)
    return np.linalg.norm(np.where(high > low, high - low, 0), axis=1)


def _track(frames: Sequence[np.ndarray | None], sizes: list[np.ndarray], start: int, person: int) -> list[int | None]:
    """Follow `person` of frame `start` both ways."""
    track: list[int | None] = [None] * len(frames)
    track[start] = person
    for way in (range(start + 1, len(frames)), range(start - 1, -1, -1)):
        last, size = frames[start][person], sizes[start][person]
        for i in way:
            if not len(sizes[i]):
                continue
            apart = np.linalg.norm(frames[i] - last, axis=2)
            shared = ~np.isnan(apart)
            count = shared.sum(axis=1)
            mean = np.where(count > 0, np.where(shared, apart, 0).sum(axis=1) / np.maximum(count, 1), np.inf)
            nearest = int(np.argmin(mean))
            if mean[nearest] > size / 4:
                continue
            track[i] = nearest
            found = frames[i][nearest]
            last, size = np.where(np.isnan(found), last, found), sizes[i][nearest]
    return track
