"""A model folder: model.pth, config.json, meaning.json and MODEL_CARD.md.

Two more files let a model detect unknown signs and recognize signs that were added later: prototypes.npz from training,
and enrolled.json from `spoter enroll`.

`spoter export` adds model.onnx and model-int8.onnx for ONNX Runtime. Archives and Lambda functions may hold one of them
instead of model.pth.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from spoter.errors import ModelFolderError
from spoter.fewshot.enrolled import ENROLLED, EnrolledGloss, read_enrolled
from spoter.fewshot.prototypes import Prototypes, embedding_size, read_prototypes
from spoter.files import atomic_write_bytes, read_text
from spoter.landmarks.layouts import BUILT_IN, Layout, load_layout
from spoter.landmarks.normalize import check_scheme
from spoter.model.config import CONFIG, ModelConfig, read_config, reject_duplicate_keys
from spoter.model.torch_dependency import require_torch

if TYPE_CHECKING:
    from spoter.model.checkpoint import Parameters
    from spoter.model.network import Spoter

WEIGHTS, MEANING, CARD = "model.pth", "meaning.json", "MODEL_CARD.md"
GRAPH, INT8_GRAPH = "model.onnx", "model-int8.onnx"
PROTOTYPES = "prototypes.npz"
RUNTIME_FILES = {"torch": WEIGHTS, "onnx": GRAPH, "onnx-int8": INT8_GRAPH}
"""The file of the weights or graph for each of `spoter.model.config.RUNTIMES`."""


@dataclass(frozen=True)
class ModelFolder:
    """A model folder in memory, without its weights.

    `glosses` are the trained glosses by label index; `prototypes` belong to them. `enrolled` are glosses added later;
    they require prototypes.
    """

    config: ModelConfig
    glosses: tuple[str, ...]
    layout: Layout
    prototypes: Prototypes | None = None
    enrolled: tuple[EnrolledGloss, ...] = ()

    @property
    def width(self) -> int:
        """The number of features per frame, 2K."""
        return 2 * len(self.layout)


@dataclass(frozen=True, kw_only=True)
class TorchModelFolder(ModelFolder):
    """A model folder with its weights: the network `model` in evaluation mode."""

    model: Spoter


def read_model_folder(folder: Path) -> ModelFolder:
    """Read a model folder without its weights, and without torch; raises `ModelFolderError`."""
    if not folder.is_dir():
        expected = f"a model folder with {CONFIG}, {MEANING} and {WEIGHTS} or {GRAPH}"
        raise ModelFolderError(f"{folder}: found no such folder, expected {expected}")
    config = read_config(folder)
    glosses = read_glosses(folder / MEANING, config.classes)
    layout = read_layout(folder, config)
    check_scheme(layout, config.normalize)
    prototypes: Prototypes | None = None
    enrolled: tuple[EnrolledGloss, ...] = ()
    has_enrolled = (folder / ENROLLED).exists()
    if (folder / PROTOTYPES).exists():
        prototypes = read_prototypes(folder / PROTOTYPES, config.classes, embedding_size(2 * len(layout)))
        enrolled = read_enrolled(folder / ENROLLED, glosses, prototypes) if has_enrolled else ()
    elif has_enrolled or config.known_threshold is not None:
        needs = ENROLLED if has_enrolled else f"known_threshold in {CONFIG}"
        raise ModelFolderError(f"{folder}: found {needs} but no {PROTOTYPES}, expected both or neither")
    return ModelFolder(config, glosses, layout, prototypes, enrolled)


def load_model_folder(folder: Path) -> TorchModelFolder:
    """Read a model folder and its weights with torch, and check that the files agree with each other.

    Raises `ModelFolderError`, also if torch is not installed.
    """
    require_torch(f"{folder}: the runtime torch")
    from spoter.model.checkpoint import infer_sizes, read_checkpoint
    from spoter.model.network import Spoter

    parts = read_model_folder(folder)
    config, weights = parts.config, folder / WEIGHTS
    state = read_checkpoint(weights).state
    sizes = infer_sizes(state, config.heads, str(weights))
    if sizes.width != parts.width:
        layout = f"layout {config.layout} of {len(parts.layout)} landmarks, expected a width of {parts.width}"
        raise ModelFolderError(f"{folder}: found weights of width {sizes.width} but {layout}")
    for field, size in sizes.config_fields().items():
        if getattr(config, field) != size:
            problem = f"found {field} {getattr(config, field)} in {CONFIG} but {size} in {WEIGHTS}"
            raise ModelFolderError(f"{folder}: {problem}, expected the same value")
    model = Spoter(sizes, config.positions)
    model.load_state_dict(state)
    return TorchModelFolder(**vars(parts), model=model.eval())


def read_layout(folder: Path, config: ModelConfig) -> Layout:
    """Return the layout that config.json names: a built-in layout, or a CSV file in the folder."""
    return load_layout(config.layout if config.layout in BUILT_IN else str(folder / config.layout))


def read_glosses(path: Path, classes: int) -> tuple[str, ...]:
    """Read a meaning.json, ``{"0": "GLOSS", …}``: a gloss for each label index from 0 to `classes` - 1."""
    try:
        table = msgspec.convert(json.loads(read_text(path), object_pairs_hook=reject_duplicate_keys), dict[str, str])
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise ModelFolderError(f'{path}: {error}; expected {{"0": "GLOSS", …}}') from None
    # Build only as many as the message needs: `classes` is untrusted too.
    indices = {str(index) for index in range(min(classes, 2 * len(table) + 10))}
    absent, extra = sorted(indices - table.keys(), key=int), sorted(table.keys() - indices)
    if absent or extra:
        problem = "; ".join(filter(None, (_some("missing ", absent), _some("unexpected ", extra))))
        expected = f"expected a gloss for each of the model's {classes} classes"
        raise ModelFolderError(f"{path}: found {len(table)} entries, {expected}: {problem}")
    glosses = tuple(table[str(index)] for index in range(classes))
    empty = [str(index) for index, gloss in enumerate(glosses) if not gloss.strip()]
    repeated = sorted(gloss for gloss, count in Counter(glosses).items() if count > 1)
    if empty or repeated:
        problem = "; ".join(filter(None, (_some("no gloss for ", empty), _some("repeated glosses ", repeated))))
        raise ModelFolderError(f"{path}: found {problem}, expected a unique gloss for each class")
    return glosses


def write_model_folder(
    folder: Path,
    state: Parameters,
    config: ModelConfig,
    glosses: Sequence[str],
    card: str,
    layout_csv: bytes | None = None,
    prototypes: Prototypes | None = None,
) -> None:
    """Write a model folder; each file is written atomically.

    Deletes the config.json, graphs and prototypes of an earlier model first, and writes config.json last: after an
    interruption the folder is invalid, but never has the weights of one model and the glosses of another.

    `state` holds the network's parameters, `card` the text of MODEL_CARD.md, and `layout_csv` the content of the CSV
    that `config.layout` names. Raises `ModelFolderError` if glosses are enrolled in the folder (`refuse_enrolled`).
    """
    from spoter.model.checkpoint import write_weights

    refuse_enrolled(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name in (CONFIG, PROTOTYPES, GRAPH, INT8_GRAPH):
        (folder / name).unlink(missing_ok=True)
    write_weights(folder / WEIGHTS, state)
    meaning = {str(index): gloss for index, gloss in enumerate(glosses)}
    if layout_csv is not None:
        atomic_write_bytes(folder / config.layout, layout_csv)
    if prototypes is not None:
        atomic_write_bytes(folder / PROTOTYPES, prototypes.to_bytes())
    atomic_write_bytes(folder / MEANING, msgspec.json.format(msgspec.json.encode(meaning), indent=2) + b"\n")
    atomic_write_bytes(folder / CARD, card.encode())
    atomic_write_bytes(folder / CONFIG, config.to_json())


def refuse_enrolled(folder: Path) -> None:
    """Raise `ModelFolderError` if `folder` holds enrolled glosses, which do not fit new weights."""
    if (folder / ENROLLED).exists():
        fix = "write to another folder, or delete that file and enroll the glosses again"
        raise ModelFolderError(f"{folder}: found {ENROLLED}, whose glosses fit only the present weights: {fix}")


def _some(text: str, items: list[str]) -> str:
    return f"{text}{', '.join(items[:5])}{', …' if len(items) > 5 else ''}" if items else ""
