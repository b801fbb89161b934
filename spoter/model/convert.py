"""Converts a checkpoint to a model folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from spoter.errors import ModelFolderError
from spoter.files import exclusive_lock, read_text
from spoter.landmarks.layouts import BUILT_IN, load_layout
from spoter.landmarks.normalize import check_scheme
from spoter.model.checkpoint import Checkpoint, infer_sizes, read_checkpoint
from spoter.model.config import ModelConfig, Sizes, default_max_frames
from spoter.model.folder import read_glosses, write_model_folder

HPARAMS_TO_SIZES = {
    "nhead": "heads",
    "num_encoder_layers": "encoder_layers",
    "num_decoder_layers": "decoder_layers",
    "num_classes": "classes",
}
"""Keys of the original project's config.json and the corresponding fields of `Sizes`."""
_HPARAM_TYPES: dict[str, type] = {
    **dict.fromkeys((*HPARAMS_TO_SIZES, "dim_feedforward", "keypoints_number", "seed", "epochs"), int),
    "keypoints_model": str,
    "lr": float,
}


@dataclass(frozen=True)
class ConvertOptions:
    """Properties of a model that are not in the weights; None means the original config's value or the default.

    They are fields of `spoter.model.config.ModelConfig`; `layout` may be the path of a CSV file. The defaults are those
    of the Peruvian system: mediapipe, box, shared, and the numbered layout whose size fits the weights.
    """

    heads: int | None = None
    layout: str | None = None
    estimator: str | None = None
    normalize: str | None = None
    positions: str | None = None
    name: str = "spoter"
    version: str = "1.0"


def convert_checkpoint(
    source: Path, out: Path, meaning: Path, original: Path | None, options: ConvertOptions
) -> tuple[ModelConfig, list[str]]:
    """Write the model folder of a checkpoint.

    `original` is the original project's config.json (``hparams``); the weights take precedence over it.

    Returns the written config, and the contradictions between `original` and the weights. Raises `ModelFolderError` for
    missing or contradictory values, naming them, and `SpoterError` if another command is writing into `out`.
    """
    checkpoint = read_checkpoint(source)
    hparams = read_original_config(original) if original else {}
    sizes = infer_sizes(checkpoint.state, _choose_heads(checkpoint, hparams, options.heads, original), str(source))
    name, layout_file = _choose_layout(options.layout, sizes.width)
    layout = load_layout(str(layout_file or name))
    if 2 * len(layout) != sizes.width:
        problem = f"found layout {name} of {len(layout)} landmarks, but {source} has a width of {sizes.width}"
        raise ModelFolderError(f"{problem}, expected {sizes.width // 2} landmarks")
    positions = options.positions or "shared"
    try:
        config = ModelConfig(
            name=options.name,
            version=options.version,
            layout=name,
            estimator=options.estimator or hparams.get("keypoints_model", "mediapipe"),
            normalize=options.normalize or "box",
            positions=positions,
            **sizes.config_fields(),
            max_frames=default_max_frames(positions, sizes.position_rows),
        )
    except ValueError as error:
        raise ModelFolderError(str(error)) from None
    check_scheme(layout, config.normalize)
    if not meaning.exists():
        expected = f'{{"0": "GLOSS", …}} with a gloss for each of the {sizes.classes} classes'
        raise ModelFolderError(f"{meaning}: found no such file, expected {expected}; pass its path with --meaning")
    glosses = read_glosses(meaning, sizes.classes)
    card = _model_card(source, checkpoint, config, glosses)
    out.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(out):
        layout_csv = layout_file.read_bytes() if layout_file else None
        write_model_folder(out, checkpoint.state, config, glosses, card, layout_csv)
    return config, _find_contradictions(hparams, sizes)


def read_original_config(path: Path) -> dict[str, Any]:
    """Return the ``hparams`` of the original project's config.json, together with its other keys.

    Checks the types of sizes, landmarks, seed, epochs and lr; raises `ModelFolderError`.
    """
    try:
        content = msgspec.json.decode(read_text(path))
    except msgspec.MsgspecError as error:
        raise ModelFolderError(f"{path}: {error}") from None
    hparams = content.get("hparams") if isinstance(content, dict) else None
    if not isinstance(hparams, dict):
        raise ModelFolderError(f'{path}: found no "hparams", expected the original project\'s config.json')
    hparams = {key: value for key, value in content.items() if key != "hparams"} | hparams
    for key, kind in _HPARAM_TYPES.items():
        if key in hparams and type(hparams[key]) is not kind and not (kind is float and type(hparams[key]) is int):
            raise ModelFolderError(f"{path}: found {key} {hparams[key]!r}, expected {kind.__name__}")
    return hparams


def _find_contradictions(hparams: dict[str, Any], sizes: Sizes) -> list[str]:
    """Return the contradictions between config and weights, such as "key: 2 in the config, 6 in the weights"."""
    possible = {key: [getattr(sizes, field)] for key, field in HPARAMS_TO_SIZES.items()}
    # One value for two sizes: each variant of the original uses it for a different one.
    possible["dim_feedforward"] = [sizes.encoder_feedforward, sizes.decoder_feedforward]
    possible["keypoints_number"] = [sizes.width // 2, sizes.width]  # 54 in the data set's code, 108 in the server's
    return [
        f"{key}: {hparams[key]} in the config, {' or '.join(map(str, dict.fromkeys(values)))} in the weights"
        for key, values in possible.items()
        if key in hparams and hparams[key] not in values
    ]


def _choose_heads(checkpoint: Checkpoint, hparams: dict[str, Any], chosen: int | None, original: Path | None) -> int:
    """Return the number of heads: the user's, the pickled module's, or the config's if its other values are right."""
    if chosen is not None:
        return chosen
    if checkpoint.heads is not None:
        return checkpoint.heads
    fix = "pass --nhead (upstream's SPOTER has 9)"
    if "nhead" not in hparams:
        raise ModelFolderError(f"the weights do not contain the number of attention heads: {fix}")
    wrong = _find_contradictions({**hparams, "nhead": 1}, infer_sizes(checkpoint.state, heads=1))  # ignores nhead
    if wrong:
        problem = f"{original}: does not describe these weights ({'; '.join(wrong)})"
        raise ModelFolderError(f"{problem}, so its nhead {hparams['nhead']} is not trusted either: {fix}")
    heads: int = hparams["nhead"]
    return heads


def _choose_layout(chosen: str | None, width: int) -> tuple[str, Path | None]:
    """Return a layout's name for config.json, and its file if it is not built in."""
    if chosen is None:
        fitting = str(width // 2)
        if width % 2 or fitting not in BUILT_IN:
            raise ModelFolderError(f"found weights of width {width}, which fits no built-in layout: pass --layout")
        return fitting, None
    if chosen in BUILT_IN or not chosen.endswith(".csv"):
        return chosen, None
    return Path(chosen).name, Path(chosen)


def _model_card(source: Path, checkpoint: Checkpoint, config: ModelConfig, glosses: tuple[str, ...]) -> str:
    notes = "".join(f"- {key} in the checkpoint: {value}\n" for key, value in checkpoint.notes.items())
    return f"""# {config.name} {config.version}

Converted by `spoter convert` from the {checkpoint.kind} `{source.name}`.

- {config.classes} glosses: {", ".join(glosses[:20])}{", …" if len(glosses) > 20 else ""}
- layout {config.layout}, landmarks of {config.estimator}
- normalization `{config.normalize}`, positions `{config.positions}`
- {config.encoder_layers} + {config.decoder_layers} layers, {config.heads} heads
{notes}
The checkpoint does not contain these facts; the author of the model should add them: data and its license, split,
accuracy, and purposes that the model must not be used for.
"""
