"""The command `spoter features`."""

from pathlib import Path
from typing import Annotated

import typer

from spoter.cli.options import Height, Width, note
from spoter.errors import SpoterError


def features(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="One clip: .json, .csv, .npy, .jsonl or a video.")],
    out: Annotated[Path, typer.Option(help=".npy file to write: (T, 2K) float32.")],
    layout: Annotated[str, typer.Option(help="Landmark layout: 29, 54, 71, spoter54, or the path of a CSV.")] = "54",
    scheme: Annotated[str, typer.Option("--normalize", help="Normalization: box, none or bohacek.")] = "box",
    width: Width = None,
    height: Height = None,
) -> None:
    """Write the network's input for FILE: normalized landmarks of a layout."""
    import numpy as np

    from spoter.files import atomic_write
    from spoter.formats import Options
    from spoter.landmarks.layouts import load_layout
    from spoter.landmarks.normalize import check_scheme, normalize
    from spoter.sources.clip_files import read_clips

    table = load_layout(layout)
    check_scheme(table, scheme)
    clips = read_clips([file], table, Options(width=width, height=height), note)
    if len(clips) != 1:
        raise SpoterError(f"{file}: found {len(clips)} clips, expected 1")
    (clip,) = clips
    array = normalize(table.select(clip), table, scheme)
    with atomic_write(out) as temporary, temporary.open("wb") as stream:
        np.save(stream, array)
    print(f"{out}: {array.shape} {array.dtype}")
