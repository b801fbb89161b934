"""`python -m spoter.aws.functions.build_proxy`: Lambda's door to an endpoint as a zip file, model_store/lambda_function.zip.

It holds the modules endpoint_proxy and events and kept_points.json, which says what a model reads of MediaPipe
Holistic's frames: so the function can leave the rest out without a copy of the layouts' tables.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from pathlib import Path
from typing import Annotated

import typer

from spoter.errors import InputError, ModelFolderError
from spoter.files import atomic_write_bytes, read_text
from spoter.formats.estimator_frames import KEYS, Frame, frame_type
from spoter.formats.mediapipe_frames import PARTS
from spoter.landmarks.estimators import MEDIAPIPE
from spoter.landmarks.layouts import Layout
from spoter.model.config import parse_config
from spoter.model.folder import CONFIG, layout_of
from spoter.resources import PACKAGE, RESOURCES, WORK_FOLDER
from spoter.torchserve.pack import zipped

MODULES = (
    "spoter/__init__.py",
    "spoter/aws/__init__.py",
    "spoter/aws/functions/__init__.py",
    "spoter/aws/functions/endpoint_proxy.py",
    "spoter/aws/functions/events.py",
)
KEPT_POINTS = "kept_points.json"
NAME = "lambda_function.zip"


def kept_points(layout: Layout) -> dict:
    """Tell what a model of this layout reads of MediaPipe Holistic's frames.

    Returns
    -------
    dict
        ``forms``: keys of a request under which frames may come. ``others``: keys of a frame of another estimator.
        ``points``: for each part of a frame, by its key, the indices of the points that are used, or null where the
        server skips the part unread. All are empty where MediaPipe lacks a landmark of the layout: its frames are
        refused anyhow.
    """
    try:
        used = layout.uses(MEDIAPIPE.names, MEDIAPIPE.name)
    except InputError:
        return {"forms": [], "others": [], "points": {}}
    read = frame_type(layout).__struct_fields__
    points = {key: used[MEDIAPIPE.part(part)].nonzero()[0].tolist() for part, key in PARTS.items()}
    return {
        "forms": list(KEYS),
        "others": [key for key in Frame.__struct_fields__ if key not in PARTS.values()],
        "points": {key: indices if key in read else None for key, indices in points.items()},
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
    layout = layout_of(model, config)
    files = {name: (PACKAGE.parent / name).read_bytes() for name in MODULES}
    files[f"spoter/aws/functions/{KEPT_POINTS}"] = json.dumps(kept_points(layout)).encode()
    out.mkdir(parents=True, exist_ok=True)
    atomic_write_bytes(out / NAME, zipped(files))
    return out / NAME


def main(
    model: Annotated[Path, typer.Option(help="Folder of the endpoint's model.")] = RESOURCES / "models" / "dgs11",
    out: Annotated[Path, typer.Option(help="Folder to write in.")] = WORK_FOLDER / "model_store",
) -> None:
    """Pack Lambda's door to a SageMaker endpoint."""
    try:
        path = pack(model, out)
    except (ModelFolderError, OSError) as error:
        typer.echo(f"build_lambda_door.py: {error}", err=True)
        raise typer.Exit(2) from None
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    typer.echo(f"{path}  {len(content):,} bytes  sha256 {digest}")
    # Of the content: CloudFormation takes up new code where its key is a new one.
    typer.echo(f"next: aws s3 cp {shlex.quote(str(path))} s3://BUCKET/spoter/lambda-{digest[:12]}.zip")


if __name__ == "__main__":
    typer.run(main)
