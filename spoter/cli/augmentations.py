"""The command `spoter data augmentations`: a picture of what augmentation does to a clip."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spoter.cli.options import Data, check_picture
from spoter.files import atomic_write_bytes
from spoter.landmarks.layouts import load_layout
from spoter.training.settings import TrainSettings

_FRAMES = 8  # in a row of the picture


def augmentations(
    data: Data,
    out: Annotated[Path, typer.Option(help="PNG picture to write.")],
    clip: Annotated[str, typer.Option(help="Name of the clip in DATA; the first with both hands unless said.")] = "",
    seed: Annotated[int, typer.Option(min=0, help="Of what is random in the changes.")] = 0,
) -> None:
    """Draw a clip of DATA under each change that training may make: a row each, the clip itself first.

    Of 16 random draws, a row shows the one that changes the clip most.
    """
    import numpy as np

    from spoter.drawing import encode_png
    from spoter.training.augment.examples import EXAMPLES, choose_clip, strongest_draw
    from spoter.training.augment.preview import draw_rows
    from spoter.training.data import read_dataset

    check_picture(out)
    layout = load_layout("54")
    name, points = choose_clip(read_dataset(data), clip, layout)
    recorded = f"as recorded\n{len(points)} frames"
    rows = {recorded: points}
    for caption, augmenter in EXAMPLES.items():
        augmented = strongest_draw(augmenter, points, layout, TrainSettings.position_rows, seed)
        rows[f"{caption}\n{len(augmented)} frames" if len(augmented) != len(points) else caption] = augmented
    frames = np.unique(np.linspace(0, len(points) - 1, _FRAMES).round().astype(int)).tolist()
    picture = draw_rows(rows, layout.names, frames, f"{name}\nin grey behind: as recorded", behind=recorded)
    atomic_write_bytes(out, encode_png(picture))
    print(f"wrote {out}: {name}, {len(EXAMPLES)} changes")
