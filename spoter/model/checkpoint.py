"""Reads untrusted checkpoints without running code from them.

Four forms are read: a bare state_dict, a training dict with a state_dict under ``model_state_dict``, a whole module of
the class ``spoter.spoter_model.SPOTER`` as the upstream project pickles it, and a state_dict as safetensors, which hold
only tensors. The other forms go through torch's weights-only unpickler. In a whole module, inert stand-ins replace
SPOTER and torch's layers; any other class name is refused before anything is unpickled.
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

# Names in a pickled SPOTER that stand-ins replace. Nothing of these names is ever imported or called.
_STAND_IN = re.compile(
    r"(spoter\.spoter_model|torch\.nn\.modules\.(activation|container|dropout|linear|normalization|transformer))\.\w+"
    r"|torch\.nn\.functional\.relu|torch\._C\._nn\.gelu|(__builtin__|builtins)\.set"
)

_MAX_NAME_LENGTH = 120  # SPOTER's parameter names have up to 60 characters
_FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)

Parameters: TypeAlias = Mapping[str, Tensor]
"""The parameters of a network by name."""


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint file."""

    kind: str  # "state_dict", "training dict", "whole module" or "safetensors"
    state: dict[str, Tensor]  # SPOTER's parameters under their original names, float32, on the CPU
    heads: int | None = None  # attention heads, which only a whole module states
    notes: dict[str, float] = field(default_factory=dict)  # epoch and loss of a training dict


def read_checkpoint(path: Path) -> Checkpoint:
    """Read the weights of SPOTER from a file in any of the four forms; the suffix of safetensors is ``.safetensors``.

    Raises `ModelFolderError` for a file that is not a checkpoint, that would run code when unpickled (naming the code),
    or that does not hold a SPOTER (naming the missing, unexpected or misshaped parameter).
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
    """Write a bare state_dict atomically."""
    plain = {name: tensor.detach().cpu().clone() for name, tensor in state.items()}
    with atomic_write(path) as temporary, temporary.open("wb") as stream:
        torch.save(plain, stream)  # a path instead of a stream would put its random name into the file


def _read_module(module: _StandIn, path: Path) -> tuple[dict[str, object], int | None]:
    """Return the parameters of a pickled module, and its number of attention heads if that is a positive integer."""
    layers: dict[int, tuple[str, _StandIn]] = {}
    pending = [("", module)]
    while pending:
        prefix, layer = pending.pop()
        if id(layer) in layers:
            raise ModelFolderError(f"{path}: found a module that contains a layer twice, expected SPOTER's layers")
        layers[id(layer)] = prefix, layer
        children = layer.entries("_modules")
        pending += [(f"{prefix}{name}.", child) for name, child in children if isinstance(child, _StandIn)]
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
    """Return the state_dict without "module.", the prefix that torch's DataParallel adds to every name.

    Raises `ModelFolderError` for anything but plain weights, and for tensors that claim more bytes than the file has.
    """
    if not isinstance(state, dict) or not state or not all(isinstance(name, str) for name in state):
        kind = f"the keys {one_line(list(state)[:5])}" if isinstance(state, dict) else f"a {type(state).__name__}"
        raise ModelFolderError(f"{path}: found {kind}, expected a state_dict: names of parameters and their tensors")
    for name, value in state.items():
        if not name.isprintable() or len(name) > _MAX_NAME_LENGTH:  # errors quote the name on one line
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
        raise ModelFolderError(f"{path}: found tensors that claim {claimed} bytes, but the file has only {size} bytes")
    return {name.removeprefix("module."): value for name, value in state.items()}


def infer_sizes(state: Parameters, heads: int, place: str = "checkpoint") -> Sizes:
    """Return a model's sizes, inferred from its parameters, with the given number of `heads`.

    Raises `ModelFolderError` if the parameters are not exactly those of a SPOTER of these sizes, or if `heads` does not
    divide the width.
    """

    def shape(name: str, dimensions: int) -> torch.Size:
        if name not in state or state[name].dim() != dimensions:
            actual = tuple(state[name].shape) if name in state else "no tensor"
            expected = f"SPOTER's tensor of {dimensions} dimensions"
            raise ModelFolderError(f"{place}: found {actual} as {name}, expected {expected}")
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
    with torch.device("meta"):  # only shapes: a wrong file must not allocate memory
        expected = {name: tuple(tensor.shape) for name, tensor in Spoter(sizes).state_dict().items()}
    actual = {name: tuple(tensor.shape) for name, tensor in state.items()}
    for name in expected.keys() | actual.keys():
        if expected.get(name) != actual.get(name):
            raise ModelFolderError(
                f"{place}: found {actual.get(name, 'no tensor')} as {name}, "
                f"expected {expected.get(name, 'no such parameter')} in a SPOTER of width {sizes.width}, {layers}"
            )
    return sizes


class _StandIn:
    """Replaces a class that a checkpoint names: keeps its pickled state and does nothing."""

    def __init__(self, *args: object):
        self.state: dict[object, object] = {}

    def __setstate__(self, state: object) -> None:
        self.state = state if isinstance(state, dict) else {}

    def entries(self, *kinds: str) -> list[tuple[object, object]]:
        """Return the entries of a module's tables of these kinds; skip anything in a pickle that is not a table."""
        tables = [self.state.get(kind) for kind in kinds]
        return [entry for table in tables if isinstance(table, dict) for entry in table.items()]


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file; the library checks the header against the file's size."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except OSError as error:
        raise ModelFolderError(f"{path}: {error.strerror or error}") from error
    except (SafetensorError, *DAMAGED_FILE_ERRORS) as error:
        message = str(error).removeprefix("Error while deserializing header: ")
        raise ModelFolderError(f"{path}: found a damaged safetensors file ({one_line(message, 100)})") from None


def _unpickle(path: Path) -> object:
    """Load a file with torch's weights-only unpickler and stand-ins for the classes of a pickled SPOTER."""
    expected = "expected a file that torch.save wrote"
    stand_ins: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = []  # empty for files of torch before 1.6
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                entries = archive.infolist()
            if len({entry.filename for entry in entries}) < len(entries):
                raise ModelFolderError(f"{path}: found two entries of one name, {expected}")
            compressed = [entry.filename for entry in entries if entry.compress_type != zipfile.ZIP_STORED]
            if compressed:  # torch.save does not compress, and the unpacked size has no bound
                raise ModelFolderError(f"{path}: found a compressed entry {compressed[0]}, {expected}")
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
        # Hide torch's message, because it advises to run the file's code.
        match = re.search(r"GLOBAL (\S+)", str(error))
        if match:
            raise _refusal(path, [match[1]]) from None
        raise ModelFolderError(f"{path}: cannot be read without running code from it, {expected}") from None


def _refusal(path: Path, names: list[str]) -> ModelFolderError:
    return ModelFolderError(
        f"{path}: refused, because reading it would run code: {one_line(', '.join(sorted(names)[:5]))}; "
        "expected only tensors, or a whole module of class spoter.spoter_model.SPOTER saved by torch 1.6 or later"
    )
