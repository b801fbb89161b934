"""The command `spoter convert`."""

from pathlib import Path
from typing import Annotated

import typer

from spoter.cli.options import note


def convert(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CKPT", help="File with a state_dict, a training dict, a module or safetensors.")
    ],
    out: Annotated[Path, typer.Option(help="Model folder to write.")],
    meaning: Annotated[
        Path | None, typer.Option(help='Glosses: {"0": "GLOSS", …}.', show_default="meaning.json next to CKPT")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="config.json of the original project.")] = None,
    nhead: Annotated[int | None, typer.Option(min=1, help="Attention heads; not in weights. Upstream: 9.")] = None,
    layout: Annotated[str | None, typer.Option(help="29, 54, 71, spoter54 or a CSV.", show_default="by size")] = None,
    estimator: Annotated[
        str | None, typer.Option(help="mediapipe, openpose or wholepose.", show_default="mediapipe")
    ] = None,
    scheme: Annotated[str | None, typer.Option("--normalize", help="box, none or bohacek.", show_default="box")] = None,
    positions: Annotated[str | None, typer.Option(help="shared or per-frame.", show_default="shared")] = None,
    name: Annotated[str, typer.Option(help="Name of the model in answers.")] = "spoter",
    version: Annotated[str, typer.Option(help="Version of the model in answers.")] = "1.0",
) -> None:
    """Convert a checkpoint to a model folder.

    A checkpoint of the upstream project (matyasbohacek/spoter) needs --layout spoter54 --normalize bohacek.
    """
    from spoter.model.torch_dependency import require_torch

    require_torch("spoter convert")
    from spoter.model.convert import ConvertOptions, convert_checkpoint

    choices = ConvertOptions(nhead, layout, estimator, scheme, positions, name, version)
    written, contradictions = convert_checkpoint(
        checkpoint, out, meaning or checkpoint.with_name("meaning.json"), config, choices
    )
    for line in contradictions:
        note(f"ignored in {config}: {line}")
    print(
        f"{out}: {written.classes} glosses, layout {written.layout}, landmarks of {written.estimator}, "
        f"normalize {written.normalize}, {written.encoder_layers} + {written.decoder_layers} layers, "
        f"{written.heads} heads"
    )
