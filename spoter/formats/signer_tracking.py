"""Finds the signer among several people in a clip.

OpenPose and MMPose list all people in a frame, in an order that changes from frame to frame.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from spoter.landmarks.arrays import Float64Array as Points

_P = TypeVar("_P")

MAX_PEOPLE = 32
"""The most people per frame that are tracked; it bounds the memory that a crowd takes."""

_MAX_TRACKS = 4  # each track starts from the largest person who is in no track yet


def signer_points(
    frames: Sequence[Sequence[_P]], points_of: Callable[[Sequence[_P], int], Points], size: int
) -> Points:
    """Return the points of the signer in all frames, (T, `size`, 2), NaN = missing.

    `points_of` converts the people of a frame, given with its number, to an array (P, `size`, 2).
    """
    points = np.full((len(frames), size, 2), np.nan)
    people = [points_of(persons[:MAX_PEOPLE], i) for i, persons in enumerate(frames)]
    for i, person in enumerate(choose_signer(people)):
        if person is not None:
            points[i] = people[i][person]
    return points


def choose_signer(frames: Sequence[Points]) -> list[int | None]:
    """Choose the signer in each frame of a clip: the person with the largest total size over the frames.

    A track starts from the largest person of all frames and extends forwards and backwards. In each frame it continues
    with the person nearest to the last position. If the nearest person is farther away than a quarter of the last size,
    it is another person, and the track skips the frame. More tracks start from the largest people in no track; the
    signer is the track with the greatest sum of sizes. If no frame has two people, all people are chosen.

    Each frame is an array (P, N, 2) in any units, NaN = missing; P may differ. None means no person.
    """
    if all(len(people) < 2 for people in frames):
        return [0 if len(people) else None for people in frames]
    sizes = [_sizes(people) for people in frames]
    free = [size.copy() for size in sizes]
    best: list[int | None] = [None] * len(frames)
    best_weight = 0.0
    for _ in range(_MAX_TRACKS):
        largest = [size.max(initial=0) for size in free]
        start = int(np.argmax(largest))
        if largest[start] == 0:
            break
        track = _track(frames, sizes, start, int(np.argmax(free[start])))
        weight = sum(sizes[i][person] for i, person in track.items())
        if weight > best_weight:
            best, best_weight = [track.get(i) for i in range(len(frames))], weight
        for i, person in track.items():
            free[i][person] = 0
    return best


def _sizes(people: Points) -> Points:
    """Return the diagonal of the box around each person's known points: (P,), 0 without known points."""
    absent = np.isnan(people)
    low = np.where(absent, np.inf, people).min(axis=1)
    high = np.where(absent, -np.inf, people).max(axis=1)
    diagonals: Points = np.linalg.norm(np.where(high > low, high - low, 0), axis=1)
    return diagonals


def _track(frames: Sequence[Points], sizes: Sequence[Points], start: int, person: int) -> dict[int, int]:
    """Track `person` of frame `start` in both directions; return the index of the person in each frame of the track."""
    track = {start: person}
    for direction in (range(start + 1, len(frames)), range(start - 1, -1, -1)):
        last, size = frames[start][person], sizes[start][person]
        for i in direction:
            if not len(sizes[i]):
                continue
            distances = np.linalg.norm(frames[i] - last, axis=2)
            shared = ~np.isnan(distances)
            count = shared.sum(axis=1)
            mean = np.where(count > 0, np.where(shared, distances, 0).sum(axis=1) / np.maximum(count, 1), np.inf)
            nearest = int(np.argmin(mean))
            if mean[nearest] > size / 4:
                continue
            track[i] = nearest
            points = frames[i][nearest]
            last, size = np.where(np.isnan(points), last, points), sizes[i][nearest]
    return track
