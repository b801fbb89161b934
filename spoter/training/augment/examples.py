"""Each transform of the augmentation by itself, for pictures of what it does to a clip."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from spoter.errors import DataError, InputError
from spoter.landmarks.layouts import Layout
from spoter.training.augment.augmentation import Augmentation, Augmenter, OriginalAugmentation
from spoter.training.data import DataSet

NOTHING = Augmentation(**dict.fromkeys(vars(Augmentation()), 0.0) | {"slowest": 1.0, "fastest": 1.0})
_USUAL = Augmentation()


def _only(**strength: float) -> Augmentation:
    return replace(NOTHING, **strength)


EXAMPLES: dict[str, Augmentation | OriginalAugmentation] = {
    f"both ends cut,\nup to {_USUAL.crop:.0%} each": _only(crop=_USUAL.crop),
    f"faster, down to\n{_USUAL.fastest:g} x the frames": _only(fastest=_USUAL.fastest),
    f"slower, up to\n{_USUAL.slowest:g} x the frames": _only(slowest=_USUAL.slowest),
    f"stretched to any length\n({_USUAL.long:.0%} of clips)": _only(long=1.0),
    f"frames dropped,\nup to {_USUAL.drop_frames:.0%}": _only(drop_frames=_USUAL.drop_frames),
    f"rotated, up to {_USUAL.rotation:g}°": _only(rotation=_USUAL.rotation),
    f"zoomed, up to\n{1 + _USUAL.scale:g} x or 1/{1 + _USUAL.scale:g}": _only(scale=_USUAL.scale),
    f"shifted, up to {_USUAL.shift:.0%}": _only(shift=_USUAL.shift),
    f"squeezed, up to {_USUAL.squeeze:.0%}": _only(squeeze=_USUAL.squeeze),
    f"perspective, up to {_USUAL.perspective:.0%}": _only(perspective=_USUAL.perspective),
    f"arms turned at joints,\nup to {_USUAL.joints:g}° each\n(each joint: {_USUAL.joint_share:.0%})": _only(
        joints=_USUAL.joints, joint_share=_USUAL.joint_share
    ),
    f"jitter, {_USUAL.noise:.1%}": _only(noise=_USUAL.noise),
    f"a hand missing for a while\n({_USUAL.drop_hand:.0%} of clips each)": _only(drop_hand=1.0),
    "mirrored, left and right\nexchanged (off unless\nasked for)": _only(mirror=1.0),
    "all that training does": _USUAL,
    "the original's recipe,\none of four": OriginalAugmentation(share=1.0),
}
"""Captions and augmentations; a transform that training applies to some clips always applies here."""


def strongest_draw(
    augmenter: Augmenter, points: np.ndarray, layout: Layout, max_frames: int, seed: int, draws: int = 16
) -> np.ndarray:
    """Augment a clip's points (T, K, 2) several times, and return the (T', K, 2) that differ most from them."""
    rng = np.random.default_rng(seed)
    drawn = [augmenter.apply(points, layout, max_frames, rng) for _ in range(draws)]
    return max(drawn, key=lambda augmented: mean_distance(points, augmented))


def mean_distance(points: np.ndarray, augmented: np.ndarray) -> float:
    """Return the mean distance between points of equal frames; points that one of the clips lacks count as 1."""
    shared = min(len(points), len(augmented))
    distance = np.linalg.norm(points[:shared] - augmented[:shared], axis=2)
    distance[np.isnan(points[:shared, :, 0]) & np.isnan(augmented[:shared, :, 0])] = 0
    lacking = abs(len(points) - len(augmented)) * points.shape[1]
    return float((np.nan_to_num(distance, nan=1.0).clip(max=1).sum() + lacking) / points[..., 0].size)


def choose_clip(data: DataSet, name: str, layout: Layout) -> tuple[str, np.ndarray]:
    """Return name and points of a clip: the one of that name, or without a name the first with both hands, if any."""
    first = None
    for clip in data.clips:
        if name not in ("", clip.name):
            continue
        try:
            points = layout.select(clip.clip)
        except InputError as error:
            raise DataError(f"{data.place}, {clip.name}: {error}") from None
        if name or all((~np.isnan(points[:, layout.section(hand)])).any() for hand in ("leftHand", "rightHand")):
            return clip.name, points
        first = first or (clip.name, points)
    if first is None:
        raise DataError(f"{data.place}: found no clip named {name!r}; spoter data summary tells what is in it")
    return first
