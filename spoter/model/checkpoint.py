"""Reading untrusted checkpoints, without ever running code from them.

Four forms are read: a bare state_dict, a training dict with one under ``model_state_dict``, a whole module of the class
``spoter.spoter_model.SPOTER`` as the upstream project pickles it, and a state_dict as safetensors, which holds nothing
but tensors. The others go through torch's weights-only unpickler. In a whole module, inert stand-ins take the place of
torch's layers and SPOTER, and the name of any other class is refused before anything is unpickled.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from spoter.errors import DAMAGED_FILE_ERRORS, ModelFolderError, one_line
from spoter.files import atomic_write
from spoter.model.config import Sizes
from spoter.model.network import Spoter

# Names that a pickled SPOTER holds and that stand-ins may answer for. Nothing under these is ever imported or called.
_STAND_IN = re.compile(
    r"(spoter\.spoter_model|torch\.nn\.modules\.(activation|container|dropout|linear|normalization|transformer))\.\w+"
    r"|torch\.nn\.functional\.relu|torch\._C\._nn\.gelu|(__builtin__|builtins)\.set"
)

_MAX_NAME_LENGTH = 120  # SPOTER's own names have up to 60 letters
_FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)

Parameters: TypeAlias = Mapping[str, Tensor]
"""The parameters of a network by name."""


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint file."""

    kind: str  # "state_dict", "training dict", "whole module" or "safetensors"
    state: dict[str, Tensor]  # SPOTER's parameters under their original names, float32, on the CPU
    heads: int | None = None  # attention heads, which only a whole module tells
    notes: dict[str, float] = field(default_factory=dict)  # epoch and loss of a training dict


def read_checkpoint(path: Path) -> Checkpoint:
    """Read the weights of SPOTER from a file of any of the four forms; the name of safetensors is ``*.safetensors``.

    Raises `ModelFolderError` for a file that is no checkpoint, that would run code when unpickled (naming that code),
    or that holds no SPOTER (naming what is missing, unexpected or of the wrong shape).
    """
    heads: int | None = None
    notes: dict[str, float] = {}
    content: object
    if path.suffix == ".safetensors":
        kind, content = "safetensors", _read_safetensors(path)
    else:
        kind, content = "state_dict", _unpickle(path)
        if isinstance(content, _StandIn):
            kind, (content, heads) = "whole module", _read_module(content, path)
        elif isinstance(content, dict) and "model_state_dict" in content:
            kind = "training dict"
            notes = {key: content[key] for key in ("epoch", "loss") if isinstance(content.get(key), (int, float))}
            content = content["model_state_dict"]
    state = _check_tensors(content, path)
    infer_sizes(state, heads=1, place=str(path))
    state = {name: tensor.detach().float().contiguous() for name, tensor in state.items()}
    not_finite = next((name for name, tensor in state.items() if not torch.isfinite(tensor).all()), None)
    if not_finite:
        raise ModelFolderError(f"{path}: found NaN or infinity in {not_finite}, expected finite weights")
    return Checkpoint(kind, state, heads, notes)


def write_weights(path: Path, state: Parameters) -> None:
    """Write a bare state_dict, whole or not at all."""
    plain = {name: tensor.detach().cpu().clone() for name, tensor in state.items()}
    with atomic_write(path) as temporary, temporary.open("wb") as stream:
        torch.save(plain, stream)  # with a path, its random name would be in the file


def _read_module(module: _StandIn, path: Path) -> tuple[dict[str, object], int | None]:
    """Return the parameters of a pickled module, and its number of attention heads where that is a positive integer."""
    layers: dict[int, tuple[str, _StandIn]] = {}
    waiting = [("", module)]
    while waiting:
        prefix, layer = waiting.pop()
        if id(layer) in layers:
            raise ModelFolderError(f"{path}: found a module that holds another twice, expected SPOTER's layers")
        layers[id(layer)] = prefix, layer
        children = layer.entries("_modules")
        waiting += [(f"{prefix}{name}.", child) for name, child in children if isinstance(child, _StandIn)]
    parameters = [
        (f"{prefix}{name}", value)
        for prefix, layer in layers.values()
        for name, value in layer.entries("_parameters", "_buffers")
        if value is not None
    ]
    state = dict(parameters)
    if len(state) < len(parameters):
        raise ModelFolderError(f"{path}: found a module with two tensors of one name, expected SPOTER's layers")
    heads = next((layer.state["num_heads"] for _, layer in layers.values() if "num_heads" in layer.state), None)
    return state, heads if type(heads) is int and heads > 0 else None


def _check_tensors(state: object, path: Path) -> dict[str, Tensor]:
    """Return a checked state_dict of plain weights. A tensor may claim more numbers than the file holds.

    "module.", which torch's DataParallel puts before every name, is removed.
    """
    if not isinstance(state, dict) or not state or not all(isinstance(name, str) for name in state):
        found = f"the keys {one_line(list(state)[:5])}" if isinstance(state, dict) else f"a {type(state).__name__}"
        raise ModelFolderError(f"{path}: found {found}, expected a state_dict: names of parameters and their tensors")
    for name, value in state.items():
        if not name.isprintable() or len(name) > _MAX_NAME_LENGTH:  # errors name a parameter, and are one line each
            raise ModelFolderError(f"{path}: found a tensor named {name[:_MAX_NAME_LENGTH]!r}, expected SPOTER's names")
        if f"module.{name}" in state:
            raise ModelFolderError(f"{path}: found both {name} and module.{name}, expected one: delete the other")
        if not isinstance(value, Tensor):
            raise ModelFolderError(f"{path}: found a {type(value).__name__} as {name}, expected a tensor")
        plain = value.layout == torch.strided and value.device.type == "cpu" and not value.is_nested
        if not plain or value.dtype not in _FLOATS or 0 in value.shape:
            form = f"{value.dtype}, {tuple(value.shape) if plain else f'{value.layout} on {value.device}'}"
            raise ModelFolderError(f"{path}: found {form}, as {name}, expected a tensor of floating-point numbers")
    claimed, size = sum(value.numel() * value.element_size() for value in state.values()), path.stat().st_size
    if claimed > size:
        raise ModelFolderError(f"{path}: found {size} bytes that claim to be {claimed} bytes of weights")
    return {name.removeprefix("module."): value for name, value in state.items()}


def infer_sizes(state: Parameters, heads: int, place: str = "checkpoint") -> Sizes:
    """Return a model's sizes from its parameters, and the number of heads, which they do not tell.

    Raises `ModelFolderError` where the parameters are not exactly those of a SPOTER of these sizes, or `heads` does not
    divide its width.
    """

    def shape(name: str, dimensions: int) -> torch.Size:
        if name not in state or state[name].dim() != dimensions:
            found = tuple(state[name].shape) if name in state else "nothing"
            expected = f"SPOTER's tensor of {dimensions} dimensions"
            raise ModelFolderError(f"{place}: found {found} as {name}, expected {expected}")
        return state[name].shape

    def count_layers(part: str) -> int:
        matches = [re.match(rf"transformer\.{part}\.layers\.(\d+)\.", name) for name in state]
        return 1 + max((int(match[1]) for match in matches if match), default=-1)

    try:
        sizes = Sizes(
            width=shape("class_query", 2)[1],
            heads=heads,
            encoder_layers=count_layers("encoder"),
            decoder_layers=count_layers("decoder"),
            encoder_feedforward=shape("transformer.encoder.layers.0.linear1.weight", 2)[0],
            decoder_feedforward=shape("transformer.decoder.layers.0.linear1.weight", 2)[0],
            position_rows=shape("row_embed", 2)[0],
            classes=shape("linear_class.weight", 2)[0],
        )
    except ValueError as error:
        raise ModelFolderError(f"{place}: {error}") from None
    layers = f"{sizes.encoder_layers} + {sizes.decoder_layers} layers"
    if max(sizes.encoder_layers, sizes.decoder_layers) > 64:
        raise ModelFolderError(f"{place}: found {layers}, expected at most 64")
    with torch.device("meta"):  # shapes only: nothing is allocated for a file that holds something else
        expected = {name: tuple(tensor.shape) for name, tensor in Spoter(sizes).state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    for name in expected.keys() | found.keys():
        if expected.get(name) != found.get(name):
            raise ModelFolderError(
                f"{place}: found {found.get(name, 'nothing')} as {name}, "
                f"expected {expected.get(name, 'no such parameter')} in a SPOTER of width {sizes.width}, {layers}"
            )
    return sizes


class _StandIn:
    """Takes the place of a class that a checkpoint names: keeps the state it is given, does nothing."""

    def __init__(self, *args: object):
        self.state: dict[object, object] = {}

    def __setstate__(self, state: object) -> None:
        self.state = state if isinstance(state, dict) else {}

    def entries(self, *kinds: str) -> list[tuple[object, object]]:
        """Return the entries of a module's tables of these kinds; a pickle may hold anything in their place."""
        tables = [self.state.get(kind) for kind in kinds]
        return [entry for table in tables if isinstance(table, dict) for entry in table.items()]


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file; the library checks its header against the file's size."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except OSError as error:
        raise ModelFolderError(f"{path}: {error.strerror or error}") from error
    except (SafetensorError, *DAMAGED_FILE_ERRORS) as error:
        message = str(error).removeprefix("Error while deserializing header: ")
        raise ModelFolderError(f"{path}: found no whole safetensors file ({one_line(message, 100)})") from None


def _unpickle(path: Path) -> object:
    """Load a file with torch's weights-only unpickler and stand-ins for the classes of a pickled SPOTER."""
    expected = "expected a file that torch.save wrote"
    stand_ins: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = []  # none for torch's form before 1.6
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                entries = archive.infolist()
            if len({entry.filename for entry in entries}) < len(entries):
                raise ModelFolderError(f"{path}: found an entry twice in it, {expected}")
            compressed = [entry.filename for entry in entries if entry.compress_type != zipfile.ZIP_STORED]
            if compressed:  # torch.save does not compress, and the unpacked size has no bound
                raise ModelFolderError(f"{path}: found {compressed[0]} compressed, {expected}")
            names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
            refused = [name for name in names if not _STAND_IN.fullmatch(name)]
            if refused:
                raise _refusal(path, refused)
            stand_ins += [(type("StandIn", (_StandIn,), {}), name) for name in names]
        with torch.serialization.safe_globals(stand_ins):
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ModelFolderError(f"{path}: {error.strerror or error}") from error
    except DAMAGED_FILE_ERRORS as error:
        # torch's message is not passed on, because it advises to run the file's code
        match = re.search(r"GLOBAL (\S+)", str(error))
        if match:
            raise _refusal(path, [match[1]]) from None
        raise ModelFolderError(f"{path}: cannot be read without running code from it, {expected}") from None


def _refusal(path: Path, names: list[str]) -> ModelFolderError:
    return ModelFolderError(
        f"{path}: refused, because reading it would run code: it asks for {one_line(', '.join(sorted(names)[:5]))}; "
        "expected tensors only, or a whole module of class spoter.spoter_model.SPOTER that torch 1.6 or later saved"
    )
