"""The command `spoter data augmentations`: what training does to a clip, to look at."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from spoter.cli.options import Data, check_picture
from spoter.errors import DataError, InputError
from spoter.files import atomic_write_bytes
from spoter.landmarks.layouts import load_layout
from spoter.training.augment.augmentation import Augmentation
from spoter.training.augment.paper import OriginalAugmentation
from spoter.training.settings import TrainSettings

_LAYOUT = "54"
_SHOWN = 8  # frames
_DRAWS = 16
_NOTHING = Augmentation(**dict.fromkeys(vars(Augmentation()), 0.0) | dict(slowest=1.0, fastest=1.0))
_USUAL = Augmentation()


def _alone(**strength: float) -> Augmentation:
    return replace(_NOTHING, **strength)


ROWS: dict[str, Augmentation | OriginalAugmentation] = {
    f"both ends cut,\nup to {_USUAL.crop:.0%} each": _alone(crop=_USUAL.crop),
    f"faster, down to\n{_USUAL.fastest:g} x the frames": _alone(fastest=_USUAL.fastest),
    f"slower, up to\n{_USUAL.slowest:g} x the frames": _alone(slowest=_USUAL.slowest),
    f"stretched to any length\n({_USUAL.long:.0%} of clips)": _alone(long=1.0),
    f"frames dropped,\nup to {_USUAL.drop_frames:.0%}": _alone(drop_frames=_USUAL.drop_frames),
    f"rotated, up to {_USUAL.rotation:g}°": _alone(rotation=_USUAL.rotation),
    f"zoomed, up to\n{1 + _USUAL.scale:g} x or 1/{1 + _USUAL.scale:g}": _alone(scale=_USUAL.scale),
    f"shifted, up to {_USUAL.shift:.0%}": _alone(shift=_USUAL.shift),
    f"squeezed, up to {_USUAL.squeeze:.0%}": _alone(squeeze=_USUAL.squeeze),
    f"perspective, up to {_USUAL.perspective:.0%}": _alone(perspective=_USUAL.perspective),
    f"arms turned at joints,\nup to {_USUAL.joints:g}° each\n(each joint: {_USUAL.joint_share:.0%})": _alone(
        joints=_USUAL.joints, joint_share=_USUAL.joint_share
    ),
    f"jitter, {_USUAL.noise:.1%}": _alone(noise=_USUAL.noise),
    f"a hand missing for a while\n({_USUAL.drop_hand:.0%} of clips each)": _alone(drop_hand=1.0),
    "mirrored, left and right\nexchanged (off unless\nasked for)": _alone(mirror=1.0),
    "all that training does": _USUAL,
    "the original's recipe,\none of four": OriginalAugmentation(share=1.0),
}
"""Captions and changes, each alone; where a change strikes by chance, it does so here."""


def augmentations(
    data: Data,
    out: Annotated[Path, typer.Option(help="PNG picture to write.")],
    clip: Annotated[str, typer.Option(help="Name of the clip in DATA; the first with both hands unless said.")] = "",
    seed: Annotated[int, typer.Option(min=0, help="Of what is random in the changes.")] = 0,
) -> None:
    """Draw a clip of DATA under each change that training may make: a row each, the clip itself first.

    Of 16 random draws, a row shows the one that changes the clip most.
    """
    from spoter.drawing import encode_png
    from spoter.training.augment.preview import draw_rows

    check_picture(out)
    layout = load_layout(_LAYOUT)
    chosen, points = _choose(data, clip)
    recorded = f"as recorded\n{len(points)} frames"
    rows = {recorded: points}
    for caption, changes in ROWS.items():
        changed = strongest(changes, points, seed)
        rows[f"{caption}\n{len(changed)} frames" if len(changed) != len(points) else caption] = changed
    frames = np.unique(np.linspace(0, len(points) - 1, _SHOWN).round().astype(int)).tolist()
    title = f"{chosen}\nin grey behind: as recorded"
    atomic_write_bytes(out, encode_png(draw_rows(rows, layout.names, frames, title, behind=recorded)))
    print(f"wrote {out}: {chosen}, {len(ROWS)} changes")


def strongest(
    changes: Augmentation | OriginalAugmentation, points: np.ndarray, seed: int, draws: int = _DRAWS
) -> np.ndarray:
    """Change a clip's points (T, K, 2) several times, and return the (T', K, 2) that differ most from it."""
    layout, rng = load_layout(_LAYOUT), np.random.default_rng(seed)
    drawn = [changes.apply(points, layout, TrainSettings.position_rows, rng) for _ in range(draws)]
    return max(drawn, key=lambda changed: difference(points, changed))


def difference(points: np.ndarray, changed: np.ndarray) -> float:
    """Return how far apart points of equal frames are on average; those that one of the clips lacks count as 1."""
    shared = min(len(points), len(changed))
    apart = np.linalg.norm(points[:shared] - changed[:shared], axis=2)
    missing = [np.isnan(clip[:shared]).any(axis=2) for clip in (points, changed)]
    apart[missing[0] & missing[1]] = 0
    lacking = abs(len(points) - len(changed)) * points.shape[1]
    return float((np.nan_to_num(apart, nan=1.0).clip(max=1).sum() + lacking) / points[..., 0].size)


def _choose(data: Path, name: str) -> tuple[str, np.ndarray]:
    """Return the name and the layout's points of the clip to draw."""
    from spoter.training.data import read_dataset  # h5py

    layout = load_layout(_LAYOUT)
    hands = [layout.section(section) for section in ("leftHand", "rightHand")]
    first = None
    for member in read_dataset(data).clips:
        if name not in ("", member.name):
            continue
        try:
            points = layout.select(member.clip)
        except InputError as error:
            raise DataError(f"{data}, {member.name}: {error}") from None
        found = member.name, points
        if name or all((~np.isnan(points[:, hand])).any() for hand in hands):
            return found
        first = first or found
    if first is None:
        raise DataError(f"{data}: found no clip named {name!r}; spoter data summary tells what is in it")
    return first
