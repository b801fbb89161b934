"""From somebody's checkpoint to a model folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from spoter.errors import ModelFolderError
from spoter.files import exclusive_lock, read_text
from spoter.landmarks.layouts import BUILT_IN, load_layout
from spoter.landmarks.normalize import check_scheme
from spoter.model.checkpoint import Checkpoint, infer_sizes, read_checkpoint
from spoter.model.config import ModelConfig, Sizes, default_max_frames
from spoter.model.folder import read_glosses, write_model_folder

# Which key of the original project's config.json says what about the weights.
HPARAMS_TO_SIZES = {
    "nhead": "heads",
    "num_encoder_layers": "encoder_layers",
    "num_decoder_layers": "decoder_layers",
    "num_classes": "classes",
}
_ORIGINAL_TYPES = dict.fromkeys((*HPARAMS_TO_SIZES, "dim_feedforward", "keypoints_number", "seed", "epochs"), int)
_ORIGINAL_TYPES |= {"keypoints_model": str, "lr": float}


@dataclass(frozen=True)
class ConvertOptions:
    """What weights do not tell, so that whoever converts them must; None leaves it to the config or the default.

    Attributes
    ----------
    heads : int or None
        Number of attention heads.
    layout : str or None
        Layout's name or CSV file; by default the numbered one whose size fits the weights.
    estimator, normalize, positions : str or None
        As in `spoter.model.config.ModelConfig`; by default mediapipe, box and shared, the Peruvian system's own.
    name, version : str
    """

    heads: int | None = None
    layout: str | None = None
    estimator: str | None = None
    normalize: str | None = None
    positions: str | None = None
    name: str = "spoter"
    version: str = "1.0"


def convert_checkpoint(
    source: Path, out: Path, meaning: Path, original: Path | None, choices: ConvertOptions
) -> tuple[ModelConfig, list[str]]:
    """Write the model folder of a checkpoint.

    Parameters
    ----------
    source : Path
        A checkpoint of any form `spoter.model.checkpoint.read_checkpoint` reads.
    out : Path
        Folder to write.
    meaning : Path
        meaning.json with a gloss for each class.
    original : Path or None
        The original project's config.json (``hparams``), believed where the weights do not speak against it.
    choices : Choices

    Returns
    -------
    ModelConfig, list of str
        What was written, and what in `original` was not believed.

    Raises
    ------
    ModelFolderError
        Where something is missing or contradicts something else, naming both.
    SpoterError
        Where another command is writing into `out`.
    """
    checkpoint = read_checkpoint(source)
    said = read_original_config(original) if original else {}
    sizes = infer_sizes(checkpoint.state, _heads(checkpoint, said, choices.heads, original), str(source))
    name, layout_file = _layout(choices.layout, sizes.width)
    layout = load_layout(str(layout_file or name))
    if 2 * len(layout) != sizes.width:
        raise ModelFolderError(
            f"found layout {name} of {len(layout)} landmarks, but {source} has a width of {sizes.width}, "
            f"expected {sizes.width // 2} landmarks"
        )
    positions = choices.positions or "shared"
    try:
        config = ModelConfig(
            name=choices.name,
            version=choices.version,
            layout=name,
            estimator=choices.estimator or said.get("keypoints_model", "mediapipe"),
            normalize=choices.normalize or "box",
            positions=positions,
            **sizes.config_fields(),
            max_frames=default_max_frames(positions, sizes.position_rows),
        )
    except ValueError as error:
        raise ModelFolderError(str(error)) from None
    check_scheme(layout, config.normalize)
    if not Path(meaning).exists():
        raise ModelFolderError(
            f'{meaning}: found no such file, expected {{"0": "GLOSS", …}}, a gloss for each of the {sizes.classes} '
            "classes; --meaning FILE names another"
        )
    glosses = read_glosses(meaning, sizes.classes)
    card = _card(source, checkpoint, config, glosses)
    Path(out).mkdir(parents=True, exist_ok=True)
    with exclusive_lock(out):
        layout_csv = layout_file.read_bytes() if layout_file else None
        write_model_folder(out, checkpoint.state, config, glosses, card, layout_csv)
    return config, find_contradictions(said, sizes)


def read_original_config(path: Path) -> dict[str, object]:
    """Return what the original project's config.json says: its ``hparams``, and what stands beside them.

    What is known of it (sizes, landmarks, seed, epochs, lr) is of its type, the rest as it is.
    """
    try:
        content = msgspec.json.decode(read_text(path))
    except msgspec.MsgspecError as error:
        raise ModelFolderError(f"{path}: {error}") from None
    said = content.get("hparams") if isinstance(content, dict) else None
    if not isinstance(said, dict):
        raise ModelFolderError(f'{path}: found no "hparams" in it, expected the original project\'s config.json')
    said = {key: value for key, value in content.items() if key != "hparams"} | said
    for key, kind in _ORIGINAL_TYPES.items():
        if key in said and type(said[key]) is not kind and not (kind is float and type(said[key]) is int):
            raise ModelFolderError(f"{path}: found {key} {said[key]!r}, expected {kind.__name__}")
    return said


def find_contradictions(said: dict[str, object], sizes: Sizes) -> list[str]:
    """Return where an original config speaks against the weights, each as "key: 2 in the config, 6 in the weights"."""
    found = []

    def compare(key: str, *real: int) -> None:
        if key in said and said[key] not in real:
            found.append(
                f"{key}: {said[key]} in the config, {' or '.join(map(str, dict.fromkeys(real)))} in the weights"
            )

    for key, field in HPARAMS_TO_SIZES.items():
        compare(key, getattr(sizes, field))
    # One number for two sizes: the original gives it to either, depending on the variant.
    compare("dim_feedforward", sizes.encoder_feedforward, sizes.decoder_feedforward)
    compare("keypoints_number", sizes.width // 2, sizes.width)  # 54 in the data set's code, 108 in the server's
    return found


def _heads(checkpoint: Checkpoint, said: dict[str, object], chosen: int | None, original: Path | None) -> int:
    """Decide the number of heads: the user's word, the pickled module's, the config's where it is right elsewhere."""
    if chosen is not None:
        return chosen
    if checkpoint.heads is not None:
        return checkpoint.heads
    ask = "pass --nhead (upstream's SPOTER has 9)"
    if "nhead" not in said:
        raise ModelFolderError(f"the number of attention heads cannot be told from weights: {ask}")
    wrong = find_contradictions({**said, "nhead": 1}, infer_sizes(checkpoint.state, heads=1))  # of the rest
    if wrong:
        raise ModelFolderError(
            f"{original}: does not describe these weights ({'; '.join(wrong)}), so its nhead {said['nhead']} is not "
            f"believed either: {ask}"
        )
    return said["nhead"]


def _layout(chosen: str | None, width: int) -> tuple[str, Path | None]:
    """Return the name a layout gets in config.json, and its file where it is not built in."""
    if chosen is None:
        fitting = str(width // 2)
        if width % 2 or fitting not in BUILT_IN:
            raise ModelFolderError(f"found weights of width {width}, which no built-in layout fits: pass --layout")
        return fitting, None
    if chosen in BUILT_IN or not chosen.endswith(".csv"):
        return chosen, None
    return Path(chosen).name, Path(chosen)


def _card(source: Path, checkpoint: Checkpoint, config: ModelConfig, glosses: tuple[str, ...]) -> str:
    notes = "".join(f"- {key} in the checkpoint: {value}\n" for key, value in (checkpoint.notes or {}).items())
    return f"""# {config.name} {config.version}

Converted by `spoter convert` from the {checkpoint.kind} `{Path(source).name}`.

- {config.classes} glosses: {", ".join(glosses[:20])}{", …" if len(glosses) > 20 else ""}
- layout {config.layout}, landmarks of {config.estimator}
- normalisation `{config.normalize}`, positions `{config.positions}`
- {config.encoder_layers} + {config.decoder_layers} layers, {config.heads} heads
{notes}
Not known here, to be filled in by whoever trained it: data and its licence, split, accuracy, and what the model must
not be used for.
"""
