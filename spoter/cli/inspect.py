"""The command `spoter inspect`."""

import math
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from spoter.cli.options import AsJson


def inspect(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="Checkpoint or model folder.")],
    as_json: AsJson = False,
) -> None:
    """Print what a checkpoint or model folder holds, without running its code."""
    from spoter.model.torch_dependency import require_torch

    require_torch("spoter inspect")
    from spoter.model.checkpoint import infer_sizes, read_checkpoint
    from spoter.model.folder import WEIGHTS, load_model_folder

    facts: dict[str, object] = {}
    if path.is_dir():
        folder = load_model_folder(path)
        facts = msgspec.structs.asdict(folder.config) | {"glosses": folder.glosses}
        path = path / WEIGHTS
    checkpoint = read_checkpoint(path)
    sizes = infer_sizes(checkpoint.state, heads=1)
    facts |= {
        "form": checkpoint.kind,
        "parameters": sum(math.prod(tensor.shape) for tensor in checkpoint.state.values()),
        "bytes": path.stat().st_size,
        "heads": facts.get("heads", checkpoint.heads or "unknown: not stored in weights"),
        "layouts that fit": f"those of {sizes.width // 2} landmarks",
    }
    facts |= {name: value for name, value in vars(sizes).items() if name not in facts} | (checkpoint.notes or {})
    if as_json:
        print(msgspec.json.encode(facts).decode())
    else:
        for key, value in facts.items():
            print(f"{key:20} {', '.join(value) if isinstance(value, tuple) else value}")
