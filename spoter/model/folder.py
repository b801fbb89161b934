"""A model folder: model.pth, config.json, meaning.json and MODEL_CARD.md. Training writes it, all else reads it.

Two files more make it tell unknown signs from known ones and name signs that were added later: prototypes.npz, which
training writes too, and enrolled.json, of `spoter enroll`.

For runtimes other than torch `spoter export` writes model.onnx and model-int8.onnx beside model.pth. In an archive or a
Lambda function they stand in its place.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from spoter.errors import ModelFolderError
from spoter.fewshot.enrolled import ENROLLED, EnrolledGloss, read_enrolled
from spoter.fewshot.prototypes import PARTS, Prototypes, read_prototypes
from spoter.files import atomic_write, atomic_write_bytes, read_text
from spoter.landmarks.layouts import BUILT_IN, Layout, load_layout
from spoter.landmarks.normalize import check_scheme
from spoter.model.config import CONFIG, ModelConfig, read_config, reject_duplicate_keys
from spoter.runtime.onnx_runtime import GRAPHS, OnnxRuntime

if TYPE_CHECKING:
    from torch import Tensor

    from spoter.model.network import Spoter

WEIGHTS, MEANING, CARD = "model.pth", "meaning.json", "MODEL_CARD.md"
PROTOTYPES = "prototypes.npz"
RUNTIME_FILES = {"torch": WEIGHTS, **GRAPHS}
"""The file that computes, for each of `spoter.model.config.RUNTIMES`."""


@dataclass(frozen=True)
class ModelFolder:
    """A model folder in memory.

    Attributes
    ----------
    config : ModelConfig
    glosses : tuple of str
        What the model was trained to name, by label index.
    layout : Layout
        What it is fed.
    model : Spoter or OnnxForward
        The latter of `load_onnx_folder`.
    prototypes : Prototypes or None
        Of the trained glosses.
    enrolled : tuple of EnrolledGloss
        Glosses that were added later; none without prototypes.
    """

    config: ModelConfig
    glosses: tuple[str, ...]
    layout: Layout
    model: Spoter | OnnxRuntime
    prototypes: Prototypes | None = None
    enrolled: tuple[EnrolledGloss, ...] = ()


def load_model_folder(folder: Path) -> ModelFolder:
    """Read a model folder and check that its files agree with one another.

    Raises
    ------
    ModelFolderError
        Naming the file, what was found in it and what was expected.
    """
    from spoter.model.checkpoint import infer_sizes, read_checkpoint
    from spoter.model.network import Spoter

    folder = Path(folder)
    config, glosses, layout = read_description(folder, WEIGHTS)
    weights = folder / WEIGHTS
    state = read_checkpoint(weights).state
    sizes = infer_sizes(state, config.heads, str(weights))
    if sizes.width != 2 * len(layout):
        raise ModelFolderError(
            f"{folder}: found weights of width {sizes.width} but layout {config.layout} of {len(layout)} landmarks, "
            f"expected a width of {2 * len(layout)}"
        )
    for field, real in sizes.config_fields().items():
        said = getattr(config, field)
        if said != real:
            raise ModelFolderError(
                f"{folder}: found {field} {said} in {CONFIG} but {real} in {WEIGHTS}, expected the same"
            )
    model = Spoter(sizes, config.positions)
    model.load_state_dict(state)
    prototypes, enrolled = read_space(folder, config, glosses, (PARTS + 1) * sizes.width)
    return ModelFolder(config, glosses, layout, model.eval(), prototypes, enrolled)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal; raises `ModelFolderError` where it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ModelFolderError(f"{path}: {error.strerror or error}") from error


def read_layout(folder: Path, config: ModelConfig) -> Layout:
    """Return the layout that a folder's config.json names: a built-in one, or a CSV file beside it."""
    return load_layout(config.layout if config.layout in BUILT_IN else str(folder / config.layout))


def read_description(folder: Path, weights: str) -> tuple[ModelConfig, tuple[str, ...], Layout]:
    """Read what a model folder tells about its weights, which are in the file of that name."""
    if not folder.is_dir():
        raise ModelFolderError(f"{folder}: found no such folder, expected one with {weights}, {CONFIG} and {MEANING}")
    config = read_config(folder)
    glosses = read_glosses(folder / MEANING, config.classes)
    layout = read_layout(folder, config)
    check_scheme(layout, config.normalize)
    return config, glosses, layout


def read_space(
    folder: Path, config: ModelConfig, glosses: tuple[str, ...], size: int
) -> tuple[Prototypes | None, tuple[EnrolledGloss, ...]]:
    """Read prototypes.npz and enrolled.json where they are there; whoever needs the former must find it."""
    if not (folder / PROTOTYPES).exists():
        for there, what in (
            (config.known_threshold is not None, f"known_threshold in {CONFIG}"),
            ((folder / ENROLLED).exists(), ENROLLED),
        ):
            if there:
                raise ModelFolderError(f"{folder}: found {what} but no {PROTOTYPES}, expected both or neither")
        return None, ()
    prototypes = read_prototypes(folder / PROTOTYPES, config.classes, size)
    enrolled = ()
    if (folder / ENROLLED).exists():
        enrolled = read_enrolled(folder / ENROLLED, glosses, prototypes)
    return prototypes, enrolled


def read_glosses(path: Path, classes: int) -> tuple[str, ...]:
    """Read a meaning.json, ``{"0": "GLOSS", …}``: a gloss for each label index from 0 to `classes` - 1."""
    try:
        table = msgspec.convert(json.loads(read_text(path), object_pairs_hook=reject_duplicate_keys), dict[str, str])
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise ModelFolderError(f'{path}: {error}; expected {{"0": "GLOSS", …}}') from None
    # No more of them than help to say what is wrong: the number of classes is a stranger's, too.
    expected = {str(index) for index in range(min(classes, 2 * len(table) + 10))}
    absent, extra = sorted(expected - table.keys(), key=int), sorted(table.keys() - expected)
    if absent or extra:
        raise ModelFolderError(
            f"{path}: found {len(table)} entries, expected a gloss for each of the model's {classes} classes: "
            f"{_some('lacks ', absent)}{'; ' if absent and extra else ''}{_some('does not know ', extra)}"
        )
    glosses = tuple(table[str(index)] for index in range(classes))
    empty = [str(index) for index, gloss in enumerate(glosses) if not gloss.strip()]
    twice = sorted(gloss for gloss, count in Counter(glosses).items() if count > 1)
    if empty or twice:
        raise ModelFolderError(f"{path}: {_some('found no gloss for ', empty)}{_some('found a gloss twice: ', twice)}")
    return glosses


def write_model_folder(
    folder: Path,
    state: dict[str, Tensor],
    config: ModelConfig,
    glosses: Sequence[str],
    card: str,
    layout_csv: bytes | None = None,
    prototypes: Prototypes | None = None,
) -> None:
    """Write a model folder, each file whole or not at all.

    An earlier model's config.json goes first and the new one comes last, so that an interrupted folder is none, never
    one model's weights with another's glosses. Graphs of the earlier model go, too.

    Parameters
    ----------
    folder : Path
        Made where it is not there; files of an earlier model in it are replaced.
    state, config, glosses
        As `load_model_folder` returns them.
    card : str
        Text of MODEL_CARD.md.
    layout_csv : bytes, optional
        Content of the CSV that `config.layout` names, where the layout is not built in.
    prototypes : Prototypes, optional
        Without them those of an earlier model are removed.

    Raises
    ------
    ModelFolderError
        Where glosses are enrolled in the folder: they would not fit other weights.
    """
    import torch

    folder = Path(folder)
    refuse_enrolled(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name in (CONFIG, *GRAPHS.values()):
        (folder / name).unlink(missing_ok=True)
    plain = {name: tensor.detach().cpu().clone() for name, tensor in state.items()}
    with atomic_write(folder / WEIGHTS) as temporary, temporary.open("wb") as stream:
        torch.save(plain, stream)  # a path's name, here a random one, would get into the file
    meaning = {str(index): gloss for index, gloss in enumerate(glosses)}
    if layout_csv is not None:
        atomic_write_bytes(folder / config.layout, layout_csv)
    if prototypes is None:
        (folder / PROTOTYPES).unlink(missing_ok=True)
    else:
        atomic_write_bytes(folder / PROTOTYPES, prototypes.to_bytes())
    atomic_write_bytes(folder / MEANING, msgspec.json.format(msgspec.json.encode(meaning), indent=2) + b"\n")
    atomic_write_bytes(folder / CARD, card.encode())
    atomic_write_bytes(folder / CONFIG, config.to_json())


def refuse_enrolled(folder: Path) -> None:
    """Raise `ModelFolderError` where `folder` holds enrolled glosses, which new weights would make worthless."""
    if (Path(folder) / ENROLLED).exists():
        raise ModelFolderError(
            f"{folder}: found {ENROLLED}, whose glosses fit the weights that are there and no others: "
            "write to another folder, or delete that file and enroll the glosses anew"
        )


def _some(text: str, items: list[str]) -> str:
    return f"{text}{', '.join(items[:5])}{', …' if len(items) > 5 else ''}" if items else ""
