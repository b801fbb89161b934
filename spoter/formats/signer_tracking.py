"""Which of several people in the frames of one clip is the signer.

OpenPose and MMPose list everybody they see, in an order that changes from frame to frame.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from spoter.landmarks.arrays import Float64Array as Points

_P = TypeVar("_P")

MAX_PEOPLE = 32
"""People of a frame that are tracked: it bounds the memory that a crowd takes."""

_STARTS = 4  # tracks that are tried: from the largest people who are in none yet


def signer_points(
    frames: Sequence[Sequence[_P]], points_of: Callable[[Sequence[_P], int], Points], size: int
) -> Points:
    """Return the points of one person through all frames, (T, `size`, 2) with NaN where missing.

    `points_of` reads the people of a frame, which has a number, as an array (P, `size`, 2).
    """
    points = np.full((len(frames), size, 2), np.nan)
    people = [points_of(persons[:MAX_PEOPLE], i) for i, persons in enumerate(frames)]
    for i, person in enumerate(choose_signer(people)):
        if person is not None:
            points[i] = people[i][person]
    return points


def choose_signer(frames: Sequence[Points]) -> list[int | None]:
    """Choose a person in each frame of a clip: the one who is largest for longest.

    From the largest person of all frames a track goes forwards and backwards, in each frame to the person nearest to
    the last place, and to nobody where the nearest is farther away than a quarter of the person's size: that is another
    person. Of the tracks from the largest people the one with the greatest sum of sizes is the signer. Where no frame
    has two people, each is chosen.

    Each frame is an array (P, N, 2) in any units, NaN = missing; P may differ. None = nobody.
    """
    if all(len(people) < 2 for people in frames):
        return [0 if len(people) else None for people in frames]
    sizes = [_sizes(people) for people in frames]
    free = [size.copy() for size in sizes]
    best: list[int | None] = [None] * len(frames)
    best_weight = 0.0
    for _ in range(_STARTS):
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
    """Return the diagonal of the box around each person's known points: (P,), 0 where there is none."""
    absent = np.isnan(people)
    low = np.where(absent, np.inf, people).min(axis=1)
    high = np.where(absent, -np.inf, people).max(axis=1)
    diagonals: Points = np.linalg.norm(np.where(high > low, high - low, 0), axis=1)
    return diagonals


def _track(frames: Sequence[Points], sizes: Sequence[Points], start: int, person: int) -> dict[int, int]:
    """Follow `person` of frame `start` both ways; return the person of each frame that has them."""
    track = {start: person}
    for way in (range(start + 1, len(frames)), range(start - 1, -1, -1)):
        last, size = frames[start][person], sizes[start][person]
        for i in way:
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
