"""A drawn figure that signs: pictures in which MediaPipe Holistic finds the given landmarks of layout 54 again.

It replaces a person in front of the camera, so that tests of the page and of the extraction need no recordings of
people. Limbs are tapered strokes, painted several times, each time narrower and lighter, so that they look round.
Without this shading, MediaPipe does not find the hands.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from spoter.landmarks.layouts import load_layout

NAMES = load_layout("54").names
SIZE = (480, 360)  # the samples' clips are 4:3
_SCALE = 2  # pictures are drawn at this scale and then reduced, for smooth edges
_SKIN, _SHIRT, _HAIR = (214, 160, 128), (52, 84, 132), (58, 40, 30)
_FINGERS = ("thumb", "index_finger", "middle_finger", "ring_finger", "pinky")
_HAND = [name.removeprefix("leftHand_") for name in NAMES if name.startswith("leftHand_")]


def draw_clip(points: np.ndarray, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Draw a clip.

    Parameters
    ----------
    points : numpy.ndarray, shape (T, 54, 2)
        Layout 54 in image units, y down; NaN = missing. Head, shoulders, elbows and wrists must not be missing.
    size : tuple of int
        Width and height of the pictures.

    Returns
    -------
    numpy.ndarray, shape (T, height, width, 3), uint8
        The signer's right hand is on the left side, as in a camera's picture.
    """
    background = _background(size)
    return np.stack([_draw_frame(frame, background, size) for frame in with_hands(points)])


def with_hands(points: np.ndarray) -> np.ndarray:
    """Return the clip with missing hands placed at the wrists, in the shape of the nearest frame with that hand.

    Missing hands are below the picture's edge, or on the way has_hand. A hand that is missing in all frames stays
    missing; its arm is drawn with a fist.
    """
    points = points.copy()
    for side in ("left", "right"):
        hand = [NAMES.index(f"{side}Hand_{joint}") for joint in _HAND]
        found = np.flatnonzero(~np.isnan(points[:, hand]).any(axis=(1, 2)))
        if not len(found):
            continue
        for number in np.flatnonzero(np.isnan(points[:, hand]).any(axis=(1, 2))):
            shape = points[found[np.abs(found - number).argmin()]][hand]
            points[number, hand] = shape - shape[0] + points[number, NAMES.index(f"pose_{side}_wrist")]
    return points


def _background(size: tuple[int, int]) -> Image.Image:
    """Return a wall that is slightly lighter at the top."""
    width, height = (_SCALE * side for side in size)
    shade = np.linspace(226, 196, height)[:, None, None] * np.array([1, 0.99, 0.96])
    return Image.fromarray(np.broadcast_to(shade, (height, width, 3)).astype(np.uint8))


def _draw_frame(frame: np.ndarray, background: Image.Image, size: tuple[int, int]) -> np.ndarray:
    picture = background.copy()
    at = {name: point * size * _SCALE for name, point in zip(NAMES, frame, strict=True)}
    pen = _Pen(picture)
    _body(pen, at)
    _head(pen, at)
    for side in ("left", "right"):
        _arm(pen, at, side)
    picture = picture.filter(ImageFilter.GaussianBlur(1.2)).resize(size, Image.Resampling.LANCZOS)
    return np.asarray(picture)


class _Pen:
    """Draws strokes that look round."""

    def __init__(self, picture: Image.Image):
        self.draw = ImageDraw.Draw(picture)

    def limb(self, joints: list[np.ndarray], widths: list[float], color: tuple[int, int, int], rim: float = 0.62):
        """Draw a chain of joints with a width at each joint, dark at the rim and lighter toward the middle."""
        for part, light in ((1.0, rim), (0.84, 0.82), (0.62, 0.95), (0.36, 1.04)):
            for start, end, first, last in zip(joints, joints[1:], widths, widths[1:], strict=False):
                self.taper(start, end, first * part, last * part, _lit(color, light))

    def taper(self, start: np.ndarray, end: np.ndarray, first: float, last: float, color: tuple[int, int, int]):
        along = end - start
        across = np.array([-along[1], along[0]]) / max(np.hypot(*along), 1e-6) / 2
        corners = [start + across * first, end + across * last, end - across * last, start - across * first]
        self.draw.polygon([tuple(corner) for corner in corners], fill=color)
        for point, width in ((start, first), (end, last)):
            self.ball(point, width / 2, width / 2, color)

    def ball(self, at: np.ndarray, across: float, down: float, color: tuple[int, int, int]) -> None:
        self.draw.ellipse([at[0] - across, at[1] - down, at[0] + across, at[1] + down], fill=color)


def _lit(color: tuple[int, int, int], light: float) -> tuple[int, int, int]:
    return tuple(min(255, round(part * light)) for part in color)


def _body(pen: _Pen, at: dict[str, np.ndarray]) -> None:
    """Draw the neck and the shirt, which reaches beyond the picture's lower edge."""
    left, right = at["pose_left_shoulder"], at["pose_right_shoulder"]
    middle, wide = (left + right) / 2, np.hypot(*(left - right))
    below = np.array([0, 2.2 * wide])
    for part, light in ((1.0, 0.72), (0.9, 0.86), (0.7, 0.98), (0.4, 1.06)):
        span = (left - right) / 2 * part
        corners = [middle - span, middle + span, middle + span * 0.86 + below, middle - span * 0.86 + below]
        pen.draw.polygon([tuple(corner) for corner in corners], fill=_lit(_SHIRT, light))
    pen.limb([right, middle - [0, 0.12 * wide], left], [0.24 * wide, 0.34 * wide, 0.24 * wide], _SHIRT)
    pen.limb([at["pose_nose"] + [0, 0.2 * wide], middle - [0, 0.1 * wide]], [0.3 * wide, 0.34 * wide], _SKIN, 0.7)


def _head(pen: _Pen, at: dict[str, np.ndarray]) -> None:
    """Draw hair, face, ears, eyes, brows, nose and mouth, scaled by the distance of the ears."""
    left, right, nose = at["pose_left_ear"], at["pose_right_ear"], at["pose_nose"]
    wide = np.hypot(*(left - right))
    eyes = (at["pose_left_eye"] + at["pose_right_eye"]) / 2
    face = (left + right) / 2 + [0, 0.05 * wide]
    pen.ball(face - [0, 0.2 * wide], 0.6 * wide, 0.72 * wide, _HAIR)
    for ear in (left, right):
        pen.ball(ear, 0.07 * wide, 0.14 * wide, _lit(_SKIN, 0.8))
    for part, light in ((1.0, 0.78), (0.92, 0.9), (0.78, 0.98), (0.5, 1.05)):
        pen.ball(face, 0.5 * wide * part, 0.68 * wide * part, _lit(_SKIN, light))
    pen.draw.chord(
        [face[0] - 0.5 * wide, face[1] - 0.72 * wide, face[0] + 0.5 * wide, face[1] + 0.1 * wide], 195, 345, fill=_HAIR
    )
    for eye in (at["pose_left_eye"], at["pose_right_eye"]):
        pen.ball(eye, 0.1 * wide, 0.05 * wide, (245, 242, 238))
        pen.ball(eye, 0.045 * wide, 0.048 * wide, (60, 42, 30))
        pen.taper(eye - [0.12 * wide, 0.13 * wide], eye + [0.12 * wide, -0.13 * wide], 0.04 * wide, 0.04 * wide, _HAIR)
    pen.limb([eyes, nose], [0.08 * wide, 0.16 * wide], _lit(_SKIN, 1.03), 0.88)
    pen.ball(nose + [0, 0.05 * wide], 0.08 * wide, 0.025 * wide, _lit(_SKIN, 0.6))
    mouth = nose + [0, 0.27 * wide]
    pen.ball(mouth, 0.18 * wide, 0.055 * wide, (168, 82, 80))
    pen.taper(mouth - [0.16 * wide, 0], mouth + [0.16 * wide, 0], 0.015 * wide, 0.015 * wide, (110, 48, 48))


def _arm(pen: _Pen, at: dict[str, np.ndarray], side: str) -> None:
    shoulder, elbow, wrist = (at[f"pose_{side}_{joint}"] for joint in ("shoulder", "elbow", "wrist"))
    hand = {joint: at[f"{side}Hand_{joint}"] for joint in _HAND}
    has_hand = not np.isnan(hand["wrist"]).any()
    end = hand["wrist"] if has_hand else wrist
    wide = np.hypot(*(at["pose_left_shoulder"] - at["pose_right_shoulder"]))
    middle = (shoulder + elbow) / 2
    pen.limb([shoulder, middle, elbow], [0.27 * wide, 0.25 * wide, 0.22 * wide], _SHIRT)
    pen.limb([elbow, end], [0.2 * wide, 0.13 * wide], _SKIN)
    if has_hand:
        _hand(pen, hand, wide)
    else:
        pen.limb([end, end + (end - elbow) * 0.15], [0.15 * wide, 0.17 * wide], _SKIN)


def _hand(pen: _Pen, hand: dict[str, np.ndarray], shoulders: float) -> None:
    """Draw palm and fingers; a finger is 0.23 palm lengths wide, and the palm at least 0.14 shoulder widths long."""
    knuckles = [hand[f"{finger}_mcp"] for finger in _FINGERS[1:]]
    palm = max(np.hypot(*(hand["middle_finger_mcp"] - hand["wrist"])), 0.14 * shoulders)
    thick = 0.23 * palm
    outline = [hand["wrist"], hand["thumb_cmc"], *knuckles]
    for part, light in ((1.0, 0.72), (0.8, 0.95), (0.5, 1.03)):
        color = _lit(_SKIN, light)
        middle = np.mean(outline, axis=0)
        corners = [middle + (corner - middle) * part for corner in outline]
        pen.draw.polygon([tuple(corner) for corner in corners], fill=color)
        for start, end in zip(corners, corners[1:] + corners[:1], strict=True):
            pen.taper(start, end, thick * part, thick * part, color)
    for finger in reversed(_FINGERS):
        joints = ("mcp", "ip", "tip") if finger == "thumb" else ("mcp", "pip", "dip", "tip")
        chain = [hand[f"{finger}_{joint}"] for joint in joints]
        if finger == "thumb":
            chain = [hand["thumb_cmc"], *chain]
        narrow = 0.8 if finger == "pinky" else 1.0
        pen.limb(chain, [thick * narrow * part for part in (1.15, 1.0, 0.92, 0.8)], _SKIN)
