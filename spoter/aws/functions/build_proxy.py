"""Pack the Lambda proxy of a SageMaker endpoint: `python -m spoter.aws.functions.build_proxy`.

model_store/lambda_proxy.zip holds `endpoint_proxy`, the modules that it imports, and kept_points.json. That file lists
the points of MediaPipe Holistic's frames that the model uses, so that the function needs no tables of layouts.
"""

import hashlib
import json
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from spoter.errors import InputError, SpoterError
from spoter.files import atomic_write_bytes
from spoter.formats.estimator_frames import KEYS, MEDIAPIPE_KEYS, Frame, frame_type
from spoter.landmarks.estimators import MEDIAPIPE
from spoter.landmarks.layouts import Layout
from spoter.model.config import read_config
from spoter.model.folder import read_layout
from spoter.resources import PACKAGE, RESOURCES, WORK_FOLDER
from spoter.torchserve.pack import zipped

MODULES = (
    "spoter/__init__.py",
    "spoter/error_codes.py",
    "spoter/aws/__init__.py",
    "spoter/aws/functions/__init__.py",
    "spoter/aws/functions/endpoint_proxy.py",
    "spoter/aws/functions/events.py",
)
KEPT_POINTS = "kept_points.json"
NAME = "lambda_proxy.zip"


def kept_points(layout: Layout) -> dict[str, Any]:
    """Return the points of MediaPipe Holistic's frames that a model of this layout uses.

    Returns
    -------
    dict
        ``forms``: keys of a request that may hold frames. ``others``: keys in frames of other estimators. ``points``:
        for each part of a frame, by its key, the indices of the points that the model uses, or null if the server does
        not read the part. All are empty if MediaPipe lacks a landmark of the layout, because the server then refuses
        its frames anyway.
    """
    try:
        used = layout.used_columns(MEDIAPIPE.names, MEDIAPIPE.name)
    except InputError:
        return {"forms": [], "others": [], "points": {}}
    read = frame_type(layout).__struct_fields__
    points = {key: used[MEDIAPIPE.part(part)].nonzero()[0].tolist() for part, key in MEDIAPIPE_KEYS.items()}
    return {
        "forms": list(KEYS),
        "others": [key for key in Frame.__struct_fields__ if key not in MEDIAPIPE_KEYS.values()],
        "points": {key: indices if key in read else None for key, indices in points.items()},
    }


def build(model: Path, out: Path) -> Path:
    """Write ``out/lambda_proxy.zip`` for an endpoint of this model; the same input gives the same bytes.

    It reads config.json of the model folder and, unless the layout is built in, the layout's table. `out` is created
    if missing.

    Raises
    ------
    ModelFolderError
        If these files cannot be read.
    """
    layout = read_layout(model, read_config(model))
    files = {name: (PACKAGE.parent / name).read_bytes() for name in MODULES}
    files[f"spoter/aws/functions/{KEPT_POINTS}"] = json.dumps(kept_points(layout)).encode()
    out.mkdir(parents=True, exist_ok=True)
    atomic_write_bytes(out / NAME, zipped(files))
    return out / NAME


def report_zip(path: Path) -> int:
    """Print path, size and checksum of a zip file and the command that uploads it; return its size in bytes."""
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    typer.echo(f"{path}  {len(content):,} bytes  sha256 {digest}")
    # The key depends on the content: CloudFormation deploys new code only under a new key.
    typer.echo(f"next: aws s3 cp {shlex.quote(str(path))} s3://BUCKET/spoter/lambda-{digest[:12]}.zip")
    return len(content)


def main(
    model: Annotated[Path, typer.Option(help="Folder of the endpoint's model.")] = RESOURCES / "models" / "dgs11",
    out: Annotated[Path, typer.Option(help="Output folder.")] = WORK_FOLDER / "model_store",
) -> None:
    """Pack the Lambda proxy of a SageMaker endpoint."""
    try:
        report_zip(build(model, out))
    except (SpoterError, OSError) as error:
        typer.echo(f"build_proxy: {error}", err=True)
        raise typer.Exit(2) from None


if __name__ == "__main__":
    typer.run(main)
