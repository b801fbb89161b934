"""`python -m aws.pack_lambda`: Lambda's door to an endpoint as a zip file, model_store/lambda_function.zip.

It holds lambda_function.py, lambda_events.py and kept_points.json, which says what a model reads of MediaPipe
Holistic's frames: so the function can leave the rest out without a copy of the layouts' tables.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated

import typer

from build_mar import ROOT, zipped
from spoter.config import parse_config
from spoter.errors import ModelFolderError
from spoter.estimators import MEDIAPIPE
from spoter.files import read_text, write_whole
from spoter.formats.frames import KEYS
from spoter.formats.holistic import PARTS
from spoter.layouts import BUILT_IN, Layout, load_layout
from spoter.model_folder import CONFIG

HERE = Path(__file__).resolve().parent
MODULES = ("lambda_function.py", "lambda_events.py")
KEPT_POINTS = "kept_points.json"
NAME = "lambda_function.zip"


def kept_points(layout: Layout) -> dict:
    """Tell what a model of this layout reads of MediaPipe Holistic's frames.

    Returns
    -------
    dict
        ``forms``: keys of a request under which frames may come. ``points``: for each part of a frame, by its key, the
        indices of the points that are used; an empty list where none is.

    Raises
    ------
    spoter.errors.InputError
        Where MediaPipe lacks a landmark of the layout.
    """
    used = layout.uses(MEDIAPIPE.names, MEDIAPIPE.name)
    return {
        "forms": list(KEYS),
        "points": {key: used[MEDIAPIPE.part(part)].nonzero()[0].tolist() for part, key in PARTS.items()},
    }


def pack(model: Path, out: Path) -> Path:
    """Write ``out/lambda_function.zip`` for an endpoint of this model; the same input gives the same bytes.

    Parameters
    ----------
    model : Path
        Model folder; its config.json and, where the layout is its own, that table are read.
    out : Path
        Folder to write in, made where it is not there.

    Raises
    ------
    ModelFolderError
        Where these cannot be read.
    """
    config = parse_config(read_text(model / CONFIG), str(model / CONFIG))
    layout = load_layout(config.layout if config.layout in BUILT_IN else str(model / config.layout))
    files = {name: (HERE / name).read_bytes() for name in MODULES}
    files[KEPT_POINTS] = json.dumps(kept_points(layout)).encode()
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / NAME, zipped(files))
    return out / NAME


def main(
    model: Annotated[Path, typer.Option(help="Folder of the endpoint's model.")] = ROOT / "models" / "dgs11",
    out: Annotated[Path, typer.Option(help="Folder to write in.")] = ROOT / "model_store",
) -> None:
    """Pack Lambda's door to a SageMaker endpoint."""
    try:
        path = pack(model, out)
    except (ModelFolderError, OSError) as error:
        typer.echo(f"aws.pack_lambda: {error}", err=True)
        raise typer.Exit(2) from None
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    typer.echo(f"{path}  {len(content):,} bytes  sha256 {digest}")
    # Of the content: CloudFormation takes up new code where its key is a new one.
    typer.echo(f"next: aws s3 cp {path} s3://BUCKET/spoter/lambda-{digest[:12]}.zip")


if __name__ == "__main__":
    typer.run(main)
