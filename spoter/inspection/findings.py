"""Statistics of a clip's points, and checks for common faults.

The thresholds lie outside the range of 678 webcam clips of signs, the data of models/dgs11. There the distance between
the shoulders is 22 to 49 % of the picture's width, 0.5 to 23 % of points lie outside the picture, at most 80 % of
frames have no hand, and clips have 47 to 182 frames.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from spoter.landmarks.arrays import BoolArray, Float32Array, FloatArray
from spoter.landmarks.layouts import Layout

_HANDS = {"left": "leftHand", "right": "rightHand"}


def describe_points(points: Float32Array, layout: Layout) -> Iterator[str]:
    """Yield lines of statistics: hands, body, position in the picture.

    `points` (T, K, 2) are the layout's points in image units, y down, NaN = missing.
    """
    clip = _Clip(points, layout, None)
    for side in _HANDS:
        has_hand, wrist = clip.has_hand(side), clip.track(f"pose_{side}_wrist")
        inside = ((wrist >= 0) & (wrist <= 1)).all(axis=1)  # False for NaN
        line = f"{side + ' hand':12}found in {has_hand.mean():.0%} of frames"
        if inside.any():
            line += f", and in {has_hand[inside].mean():.0%} of frames with its wrist in the picture"
        yield line
    body = clip.known[~clip.empty][:, layout.section("pose", "face")]
    yield (
        f"{'body':12}both shoulders found in {clip.has_shoulders.mean():.0%} of frames, "
        f"{_share(body):.0%} of body points in frames with a person, no person in {clip.empty.sum()} frames"
    )
    if clip.known.any():
        low, high = np.nanmin(points, axis=(0, 1)), np.nanmax(points, axis=(0, 1))
        yield (
            f"{'picture':12}x {low[0]:.2f} to {high[0]:.2f}, y {low[1]:.2f} to {high[1]:.2f}; "
            f"{clip.outside:.0%} of points outside the picture; signer {clip.width:.0%} of its width"
        )


def find_problems(points: Float32Array, layout: Layout, fps: float | None) -> list[str]:
    """Return one line per probable fault, the most fundamental first; parameters as in `describe_points`."""
    clip = _Clip(points, layout, fps)
    if not clip.known.any():
        return ["no person in any frame: no landmark of the layout was found"]
    checks = (_check_zeros, _check_orientation, _check_hands_exchanged, _check_place, _check_gaps, _check_hands)
    return [line for check in (*checks, _check_length) for line in check(clip)]


@dataclass(frozen=True)
class _Clip:
    """Points (T, K, 2), and values that several checks derive from them."""

    points: Float32Array
    layout: Layout
    fps: float | None

    def track(self, name: str) -> FloatArray:
        """Return the coordinates of a landmark (T, 2); NaN if the layout lacks it."""
        column = self.layout.column(name)
        return np.full((len(self.points), 2), np.nan) if column is None else self.points[:, column]

    def has_hand(self, side: str) -> BoolArray:
        """Return which frames have a point of a hand: (T,)."""
        has_hand: BoolArray = self.known[:, self.layout.section(_HANDS[side])].sum(axis=1) > 0
        return has_hand

    @cached_property
    def known(self) -> BoolArray:
        return ~np.isnan(self.points[..., 0])

    @cached_property
    def empty(self) -> BoolArray:
        empty: BoolArray = self.known.sum(axis=1) == 0
        return empty

    @cached_property
    def shoulders(self) -> tuple[FloatArray, FloatArray]:
        return self.track("pose_left_shoulder"), self.track("pose_right_shoulder")

    @cached_property
    def has_shoulders(self) -> BoolArray:
        left, right = self.shoulders
        return ~np.isnan(left[:, 0]) & ~np.isnan(right[:, 0])

    @cached_property
    def outside(self) -> float:
        """The share of known points that lie outside the picture."""
        return float(((self.points < 0) | (self.points > 1)).any(axis=2).sum() / max(1, self.known.sum()))

    @cached_property
    def width(self) -> float:
        """The median width of a frame's points."""
        x = self.points[~self.empty, :, 0]
        return float(np.median(np.nanmax(x, axis=1) - np.nanmin(x, axis=1)))


def _check_zeros(clip: _Clip) -> Iterator[str]:
    zero = _share((clip.points == 0).all(axis=2))
    if zero > 0.01:
        yield (
            f"{zero:.0%} of all points are exactly (0, 0), the picture's corner: a missing point has to be null, an "
            "empty cell or NaN"
        )
    negative = np.mean(clip.points[~np.isnan(clip.points)] < 0)
    if negative > 0.3:
        yield (
            f"{negative:.0%} of coordinates are below 0: they look already centered or normalized; send fractions of "
            "the picture, 0 to 1"
        )


def _check_orientation(clip: _Clip) -> Iterator[str]:
    """Check the orientation of an upright signer by shoulders and nose."""
    (left, right), nose = clip.shoulders, clip.track("pose_nose")
    usable = clip.has_shoulders & ~np.isnan(nose[:, 0])
    if not usable.any():
        return
    across = np.median((left - right)[usable], axis=0)
    up = np.median((nose - (left + right) / 2)[usable], axis=0)
    if abs(across[1]) > 2 * abs(across[0]) and abs(up[0]) > abs(up[1]):
        # swapping x and y puts the nose to the left of the shoulders, and the left shoulder below the right shoulder
        if up[0] < 0 < across[1]:
            yield "x and y look swapped: one shoulder is below the other, and the nose is to the left of both"
        else:
            yield "the signer lies on the side: rotate the video, or apply its rotation flag, before detection"
    elif up[1] > 0:
        yield "the nose is below the shoulders: y points up, or the video is upside down; y has to point down"
    elif across[0] < 0:
        yield (
            "left and right look exchanged: the left shoulder is on the picture's left; the picture may be mirrored, "
            "or the signer seen from behind"
        )


def _check_hands_exchanged(clip: _Clip) -> Iterator[str]:
    """Check by the pose's wrists whether each hand is at the wrong arm."""
    at_other_arm = []
    for side, other in (("left", "right"), ("right", "left")):
        hand = clip.track(f"{_HANDS[side]}_wrist")
        same, opposite = (np.linalg.norm(hand - clip.track(f"pose_{arm}_wrist"), axis=1) for arm in (side, other))
        usable = ~np.isnan(same) & ~np.isnan(opposite)
        at_other_arm.append(usable.any() and np.median(same[usable]) > 2 * np.median(opposite[usable]))
    if all(at_other_arm):
        yield "the hands look exchanged: the left hand is at the right arm, and the right hand at the left arm"


def _check_place(clip: _Clip) -> Iterator[str]:
    if clip.has_shoulders.any():
        left, right = (shoulder[clip.has_shoulders] for shoulder in clip.shoulders)
        apart = np.median(np.linalg.norm(left - right, axis=1))
        if apart < 0.12:
            yield (
                f"the signer is small: {clip.width:.0%} of the picture's width, shoulders {apart:.0%} of it apart; "
                "crop the picture to the signer, or move closer to the camera"
            )
        if apart > 0.7:
            yield f"the signer is too close: shoulders {apart:.0%} of the picture's width apart, so hands leave it"
        middle = np.median((left + right)[:, 0] / 2)
        if abs(middle - 0.5) > 0.25:
            yield (
                f"the signer is off-center: shoulders around x = {middle:.2f}; scheme `box` expects the body around "
                "the picture's center, 0.5"
            )
    if clip.outside > 0.3:
        yield f"{clip.outside:.0%} of points lie outside the picture, where estimators guess: move the camera back"


def _check_gaps(clip: _Clip) -> Iterator[str]:
    if clip.empty.mean() > 0.05:
        yield f"no person in {clip.empty.mean():.0%} of frames{_describe_range(clip.empty)}"
    missing = ~clip.has_shoulders & ~clip.empty
    if missing.mean() > 0.05:
        effect = "another frame gives the scale" if clip.has_shoulders.any() else "no frame gives the scale, an error"
        yield f"a shoulder is missing in {missing.mean():.0%} of frames{_describe_range(missing)}: {effect}"
    body = clip.layout.section("pose", "face")
    never = [clip.layout.names[column] for column in body if not clip.known[:, column].any()]
    if never:
        more = f" and {len(never) - 3} more" if len(never) > 3 else ""
        yield f"never found: {', '.join(never[:3])}{more}"
    values = np.nan_to_num(clip.points, nan=-99)
    repeated = _share((values[1:] == values[:-1]).all(axis=(1, 2)))
    if repeated > 0.2:
        yield f"{repeated:.0%} of frames repeat the frame before: a still picture, or a wrong frame rate"


def _check_hands(clip: _Clip) -> Iterator[str]:
    has_hand = {side: clip.has_hand(side) for side in _HANDS}
    neither = ~has_hand["left"] & ~has_hand["right"]
    if neither.all():
        yield "no hand found in any frame: a sign cannot be recognized without hands"
        return
    if neither.mean() > 0.8:
        yield f"no hand found in {neither.mean():.0%} of frames{_describe_range(neither)}: trim the clip to the sign"
    for side, frames in has_hand.items():
        missing = 1 - frames.mean()
        if missing > 0.8:
            yield (
                f"the {side} hand is missing in {missing:.0%} of frames: normal for a one-handed sign, a fault for a "
                "two-handed sign"
            )


def _check_length(clip: _Clip) -> Iterator[str]:
    frames, fps = len(clip.points), clip.fps
    if frames < 12:
        yield (
            f"the clip has {frames} frame{'s' * (frames > 1)}: a sign takes 20 or more at 25 frames per second; send "
            "every frame"
        )
    elif frames > 250 or (fps and frames / fps > 10):
        seconds = f" ({frames / fps:.1f} s)" if fps else ""
        yield f"the clip has {frames} frames{seconds}: it may hold more than one sign; trim it to one sign"
    if fps and fps < 12:
        yield f"{fps:g} frames per second are too few for fast signs: 25 or more are usual"


def _share(flags: BoolArray) -> float:
    return float(flags.mean()) if flags.size else 0.0


def _describe_range(frames: BoolArray) -> str:
    """Return " (first to last)" if the marked frames are consecutive but not all frames, else ""."""
    marked = np.flatnonzero(frames)
    if len(marked) == len(frames) or len(marked) != marked[-1] - marked[0] + 1:
        return ""
    return f" ({marked[0]} to {marked[-1]})" if len(marked) > 1 else f" ({marked[0]})"
