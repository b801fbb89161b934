"""The command `spoter convert`."""

from pathlib import Path
from typing import Annotated

import typer

from spoter.cli.options import note


def convert(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CKPT", help="state_dict, training dict, module or safetensors.")
    ],
    out: Annotated[Path, typer.Option(help="Model folder to write.")],
    meaning: Annotated[
        Path | None, typer.Option(help='{"0": "GLOSS", …}. Default: meaning.json beside the checkpoint.')
    ] = None,
    config: Annotated[Path | None, typer.Option(help="The original project's config.json.")] = None,
    nhead: Annotated[int | None, typer.Option(min=1, help="Attention heads: weights do not tell. Upstream: 9.")] = None,
    layout: Annotated[str | None, typer.Option(help="29, 54, 71, spoter54 or a CSV. Default: what fits.")] = None,
    estimator: Annotated[str | None, typer.Option(help="mediapipe, openpose or wholepose.")] = None,
    scheme: Annotated[str | None, typer.Option("--normalize", help="box, none or bohacek. Default: box.")] = None,
    positions: Annotated[str | None, typer.Option(help="shared (the original) or per-frame.")] = None,
    name: Annotated[str, typer.Option(help="The model's name in answers.")] = "spoter",
    version: Annotated[str, typer.Option(help="The model's version in answers.")] = "1.0",
) -> None:
    """Make a model folder of a checkpoint.

    A checkpoint of the upstream project (matyasbohacek/spoter) wants --layout spoter54 --normalize bohacek.
    """
    from spoter.model.torch_dependency import require_torch

    require_torch("spoter convert")
    from spoter.model.convert import ConvertOptions, convert_checkpoint

    choices = ConvertOptions(nhead, layout, estimator, scheme, positions, name, version)
    written, disbelieved = convert_checkpoint(
        checkpoint, out, meaning or checkpoint.with_name("meaning.json"), config, choices
    )
    for line in disbelieved:
        note(f"not believed of {config}: {line}")
    print(
        f"{out}: {written.classes} glosses, layout {written.layout}, landmarks of {written.estimator}, "
        f"normalize {written.normalize}, {written.encoder_layers} + {written.decoder_layers} layers, "
        f"{written.heads} heads"
    )
