"""What can be told of a clip's points: its figures, and what commonly goes wrong.

Thresholds lie outside of what 678 webcam clips of signs had (the data of models/dgs11: shoulders 22 to 49 % of the
picture's width apart, 0.5 to 23 % of points outside the picture, no hand in at most 80 % of frames, 47 to 182 frames).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from spoter.landmarks.layouts import Layout

_HANDS = {"left": "leftHand", "right": "rightHand"}


def figures(points: np.ndarray, layout: Layout) -> Iterator[str]:
    """Yield lines of figures: hands, body, place in the picture.

    Parameters
    ----------
    points : numpy.ndarray, shape (T, K, 2)
        The layout's points in image units, y down, NaN = missing.
    layout : Layout
    """
    known = ~np.isnan(points[..., 0])
    somebody = known.any(axis=1)
    for side in _HANDS:
        here, wrist = _hand(points, layout, side), _at(points, layout, f"pose_{side}_wrist")
        inside = ((wrist >= 0) & (wrist <= 1)).all(axis=1)  # False for NaN
        line = f"{side + ' hand':12}found in {here.mean():.0%} of frames"
        if inside.any():
            line += f", and in {here[inside].mean():.0%} of those in which its wrist is in the picture"
        yield line
    body = known[:, layout.section("pose", "face")]
    yield (
        f"{'body':12}both shoulders found in {_shoulders(points, layout)[1].mean():.0%} of frames, "
        f"{_share(body[somebody]):.0%} of body points where there is somebody, nobody in {(~somebody).sum()} frames"
    )
    if known.any():
        low, high = np.nanmin(points, axis=(0, 1)), np.nanmax(points, axis=(0, 1))
        yield (
            f"{'picture':12}x {low[0]:.2f} to {high[0]:.2f}, y {low[1]:.2f} to {high[1]:.2f}; {_outside(points):.0%} "
            f"of points outside of it; signer {_width(points):.0%} of its width"
        )


def findings(points: np.ndarray, layout: Layout, fps: float | None) -> list[str]:
    """Return a line for each thing that looks wrong, the most fundamental first; as `figures` otherwise."""
    known = ~np.isnan(points[..., 0])
    if not known.any():
        return ["there is nobody in any frame: no landmark of the layout was found"]
    checks = (_zeros, _orientation, _sides, _place, _people, _hands, _length)
    return [line for check in checks for line in check(points, layout, fps)]


def _zeros(points: np.ndarray, layout: Layout, fps: float | None) -> Iterator[str]:
    zero = _share((points == 0).all(axis=2))
    if zero > 0.01:
        yield (
            f"{zero:.0%} of all points are exactly (0, 0): a missing point has to be null, an empty cell or NaN, "
            "never 0, which is the picture's corner"
        )
    known = points[~np.isnan(points)]
    negative = np.mean(known < 0)
    if negative > 0.3:
        yield (
            f"{negative:.0%} of coordinates are below 0: they look centred or normalised already; send fractions of "
            "the picture, 0 to 1"
        )


def _orientation(points: np.ndarray, layout: Layout, fps: float | None) -> Iterator[str]:
    """Tell from shoulders and nose which way up the signer is; a signer who lies is not foreseen."""
    (left, right), both = _shoulders(points, layout)
    nose = _at(points, layout, "pose_nose")
    seen = both & ~np.isnan(nose[:, 0])
    if not seen.any():
        return
    across = np.median((left - right)[seen], axis=0)
    up = np.median((nose - (left + right) / 2)[seen], axis=0)
    if abs(across[1]) > 2 * abs(across[0]) and abs(up[0]) > abs(up[1]):
        # exchanging x and y puts the nose to the left of the shoulders, and the left shoulder below the right one
        if up[0] < 0 < across[1]:
            yield "x and y look swapped: the shoulders lie one below the other, the nose to the left of them"
        else:
            yield "the signer lies on the side: turn the video before landmarks are looked for, or mind its rotation"
    elif up[1] > 0:
        yield "the nose is below the shoulders: y points up, or the video is upside down; y has to grow downwards"
    elif across[0] < 0:
        yield (
            "left and right look exchanged: the left shoulder is on the picture's left; points of a mirrored picture, "
            "or a signer seen from behind"
        )


def _sides(points: np.ndarray, layout: Layout, fps: float | None) -> Iterator[str]:
    """Tell from the pose's wrists whether each hand is at the other arm."""
    if any(layout.column(f"{section}_wrist") is None for section in _HANDS.values()):
        return
    wrists = {side: _at(points, layout, f"pose_{side}_wrist") for side in _HANDS}
    at_other = []
    for side, section in _HANDS.items():
        other = "right" if side == "left" else "left"
        hand = _at(points, layout, f"{section}_wrist")
        own, else_ = (np.linalg.norm(hand - wrists[arm], axis=1) for arm in (side, other))
        seen = ~np.isnan(own) & ~np.isnan(else_)
        at_other.append(seen.any() and np.median(own[seen]) > 2 * np.median(else_[seen]))
    if all(at_other):
        yield "the hands look exchanged: the left hand is at the right arm, and the right hand at the left arm"


def _place(points: np.ndarray, layout: Layout, fps: float | None) -> Iterator[str]:
    (left, right), both = _shoulders(points, layout)
    apart = np.median(np.linalg.norm(left - right, axis=1)[both]) if both.any() else np.nan
    if apart < 0.12:  # False for NaN
        yield (
            f"the signer is small: fills {_width(points):.0%} of the picture's width, shoulders {apart:.0%} apart; "
            "cut the picture to the signer, or come nearer"
        )
    if apart > 0.7:
        yield f"the signer is very near: shoulders {apart:.0%} of the picture's width apart; the hands leave it"
    middle = np.median(((left + right) / 2)[both, 0]) if both.any() else np.nan
    if abs(middle - 0.5) > 0.25:
        yield (
            f"the signer stands off the middle: shoulders around x = {middle:.2f}; the body's box of `box` lies around "
            "the picture's middle, 0.5"
        )
    outside = _outside(points)
    if outside > 0.3:
        yield f"{outside:.0%} of points lie outside the picture: estimators guess there; move the camera back"


def _people(points: np.ndarray, layout: Layout, fps: float | None) -> Iterator[str]:
    nobody = np.isnan(points).all(axis=(1, 2))
    if nobody.mean() > 0.05:
        yield f"nobody in {nobody.mean():.0%} of frames{_where(nobody)}"
    (_, _), both = _shoulders(points, layout)
    without = ~both & ~nobody
    if without.mean() > 0.05:
        instead = "the shoulders of another frame" if both.any() else "nothing, which is an error"
        yield f"a shoulder is missing in {without.mean():.0%} of frames{_where(without)}: measured by {instead}"
    seen = ~np.isnan(points[~nobody][..., 0])
    never = [layout.names[column] for column in layout.section("pose", "face") if not seen[:, column].any()]
    if never:
        more = f" and {len(never) - 3} more" if len(never) > 3 else ""
        yield f"never found: {', '.join(never[:3])}{more}"
    same = _share((np.nan_to_num(points[1:], nan=-99) == np.nan_to_num(points[:-1], nan=-99)).all(axis=(1, 2)))
    if same > 0.2:
        yield f"{same:.0%} of frames are the same as the one before: a still picture, or a wrong frame rate"


def _hands(points: np.ndarray, layout: Layout, fps: float | None) -> Iterator[str]:
    here = {side: _hand(points, layout, side) for side in _HANDS}
    neither = ~here["left"] & ~here["right"]
    if neither.all():
        yield "no hand was found in any frame: a sign cannot be told without hands"
        return
    if neither.mean() > 0.8:
        yield f"no hand was found in {neither.mean():.0%} of frames{_where(neither)}: cut the clip to the sign"
    for side, found in here.items():
        missing = 1 - found.mean()
        if missing > 0.8:
            yield (
                f"the {side} hand is missing in {missing:.0%} of frames: right for a sign of one hand, wrong for one "
                "of two"
            )


def _length(points: np.ndarray, layout: Layout, fps: float | None) -> Iterator[str]:
    frames = len(points)
    if frames < 12:
        yield (
            f"the clip has {frames} frame{'s' * (frames > 1)}: a sign takes 20 or more at 25 frames per second; send "
            "every frame"
        )
    elif frames > 250 or (fps and frames / fps > 10):
        seconds = f" ({frames / fps:.1f} s)" if fps else ""
        yield f"the clip has {frames} frames{seconds}: it may hold more than one sign; cut it to one"
    if fps and fps < 12:
        yield f"{fps:g} frames per second are few: signs are fast, 25 and more are usual"


def _at(points: np.ndarray, layout: Layout, name: str) -> np.ndarray:
    """Return a landmark's track (T, 2); NaN where the layout lacks it."""
    column = layout.column(name)
    return np.full((len(points), 2), np.nan) if column is None else points[:, column]


def _shoulders(points: np.ndarray, layout: Layout) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """Return the tracks of the left and right shoulder, and in which frames both are there."""
    left, right = (_at(points, layout, f"pose_{side}_shoulder") for side in _HANDS)
    return (left, right), ~np.isnan(left[:, 0]) & ~np.isnan(right[:, 0])


def _hand(points: np.ndarray, layout: Layout, side: str) -> np.ndarray:
    """Tell in which frames a hand is there: (T,), bool."""
    return (~np.isnan(points[:, layout.section(_HANDS[side]), 0])).any(axis=1)


def _outside(points: np.ndarray) -> float:
    known = ~np.isnan(points[..., 0])
    return float(((points < 0) | (points > 1)).any(axis=2).sum() / max(1, known.sum()))


def _width(points: np.ndarray) -> float:
    """Return the median width of what was found in a frame, as a share of the picture's."""
    somebody = points[~np.isnan(points).all(axis=(1, 2)), :, 0]
    return float(np.median(np.nanmax(somebody, axis=1) - np.nanmin(somebody, axis=1)))


def _share(of: np.ndarray) -> float:
    return float(of.mean()) if of.size else 0.0


def _where(frames: np.ndarray) -> str:
    """Say where a condition holds, if in one stretch."""
    there = np.flatnonzero(frames)
    if len(there) == len(frames) or len(there) != there[-1] - there[0] + 1:
        return ""
    return f" ({there[0]} to {there[-1]})" if len(there) > 1 else f" ({there[0]})"
