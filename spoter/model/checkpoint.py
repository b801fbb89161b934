"""Reading other people's checkpoints: what is in them, without ever running code from them.

Four forms are read: a bare state_dict, a training dict with one under ``model_state_dict``, a whole module of the class
``spoter.spoter_model.SPOTER`` as the upstream project pickles it, and a state_dict as safetensors, which holds nothing
but tensors. The others go through torch's weights-only unpickler.
For a whole module it meets names of classes; those of torch's layers and of SPOTER are answered with inert stand-ins
that only keep what they are handed, and any other name is refused before anything is unpickled.
"""

from __future__ import annotations

import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from spoter.errors import DAMAGED_FILE_ERRORS, ModelFolderError, one_line
from spoter.model.config import Sizes
from spoter.model.network import Spoter

# Names that a pickled SPOTER holds and that stand-ins may answer for. Nothing under these is ever imported or called.
_STAND_IN = re.compile(
    r"(spoter\.spoter_model|torch\.nn\.modules\.(activation|container|dropout|linear|normalization|transformer))\.\w+"
    r"|torch\.nn\.functional\.relu|torch\._C\._nn\.gelu|(__builtin__|builtins)\.set"
)


# SPOTER's own take 60 letters.
_LONGEST_NAME = 120
_FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds.

    Attributes
    ----------
    kind : str
        "state_dict", "training dict", "whole module" or "safetensors".
    state : dict of str to torch.Tensor
        SPOTER's parameters under their original names, float32, on the CPU.
    heads : int or None
        Number of attention heads; only a whole module tells it.
    notes : dict
        What else a training dict says: epoch, loss.
    """

    kind: str
    state: dict[str, Tensor]
    heads: int | None = None
    notes: dict[str, float] | None = None


def read_checkpoint(path: Path) -> Checkpoint:
    """Read the weights of SPOTER from a file of any of the four forms; ``.safetensors`` is told by its name.

    Raises
    ------
    ModelFolderError
        For a file that is no checkpoint, that would run code when unpickled (naming what it asks for), or that holds
        no SPOTER (naming what is missing, unexpected or of the wrong shape).
    """
    path = Path(path)
    is_plain = path.suffix == ".safetensors"
    content = _read_plain(path) if is_plain else _unpickle(path)
    heads = notes = None
    if is_plain:
        kind, state = "safetensors", content
    elif isinstance(content, _StandIn):
        kind, state, heads = "whole module", *_of_module(content, path)
    elif isinstance(content, dict) and "model_state_dict" in content:
        kind, state = "training dict", content["model_state_dict"]
        notes = {key: content[key] for key in ("epoch", "loss") if isinstance(content.get(key), (int, float))}
    else:
        kind, state = "state_dict", content
    if not isinstance(state, dict) or not state or not all(isinstance(name, str) for name in state):
        found = f"the keys {one_line(list(state)[:5])}" if isinstance(state, dict) else f"a {type(state).__name__}"
        raise ModelFolderError(f"{path}: found {found}, expected a state_dict: names of parameters and their tensors")
    odd = next((name for name in state if not name.isprintable() or len(name) > _LONGEST_NAME), None)
    if odd is not None:  # errors name a parameter, and are one line each
        raise ModelFolderError(f"{path}: found a tensor named {odd[:_LONGEST_NAME]!r}, expected SPOTER's names")
    # torch's DataParallel puts "module." before every name
    twice = next((name for name in state if f"module.{name}" in state), None)
    if twice is not None:
        raise ModelFolderError(
            f"{path}: found both {twice} and module.{twice}, expected one of them. Delete the other."
        )
    state = {name.removeprefix("module."): value for name, value in state.items()}
    _check_tensors(state, path)
    infer_sizes(state, heads=1, place=str(path))
    state = {name: tensor.detach().float().contiguous() for name, tensor in state.items()}
    bad = next((name for name, tensor in state.items() if not torch.isfinite(tensor).all()), None)
    if bad:
        raise ModelFolderError(f"{path}: found NaN or infinity in {bad}, expected finite weights")
    return Checkpoint(kind, state, heads, notes)


def _of_module(module: _StandIn, path: Path) -> tuple[dict[str, object], int | None]:
    """Return the parameters of a pickled module, and its number of attention heads where it tells a sane one."""
    layers, seen, waiting = [], set(), [("", module)]
    while waiting:
        prefix, layer = waiting.pop()
        if id(layer) in seen:
            raise ModelFolderError(f"{path}: found a module that holds another twice, expected SPOTER's layers")
        seen.add(id(layer))
        layers.append((prefix, layer))
        waiting += [(f"{prefix}{name}.", child) for name, child in layer.children()]
    held = [(f"{prefix}{name}", value) for prefix, layer in layers for name, value in layer.parameters()]
    state = dict(held)
    if len(state) < len(held):
        raise ModelFolderError(f"{path}: found a module with two tensors of one name, expected SPOTER's layers")
    told = [layer.state["num_heads"] for _, layer in layers if "num_heads" in layer.state]
    return state, told[0] if told and type(told[0]) is int and told[0] > 0 else None


def _check_tensors(state: dict[str, object], path: Path) -> None:
    """Refuse what is not plain weights, before anything is computed with it: a tensor may claim more than there is."""
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise ModelFolderError(
                f"{path}: found a {type(value).__name__} as {name}, expected a tensor in a state_dict"
            )
        plain = value.layout == torch.strided and value.device.type == "cpu" and not value.is_nested
        if not plain or value.dtype not in _FLOATS or 0 in value.shape:
            found = tuple(value.shape) if plain else f"{value.layout} on {value.device}"
            raise ModelFolderError(
                f"{path}: found {value.dtype}, {found}, as {name}, expected a tensor of floating-point numbers"
            )
    claimed, size = sum(value.numel() * value.element_size() for value in state.values()), path.stat().st_size
    if claimed > size:
        raise ModelFolderError(f"{path}: found {size} bytes that claim to be {claimed} bytes of weights")


def infer_sizes(state: dict[str, Tensor], heads: int, place: str = "checkpoint") -> Sizes:
    """Tell a model's sizes from its parameters; only the number of heads leaves no trace in them.

    Raises
    ------
    ModelFolderError
        Where the parameters are not exactly those of a SPOTER of these sizes, or `heads` does not divide its width.
    """

    def shape(name: str, dimensions: int) -> torch.Size:
        if name not in state or state[name].dim() != dimensions:
            found = tuple(state[name].shape) if name in state else "nothing"
            raise ModelFolderError(
                f"{place}: found {found} as {name}, expected SPOTER's tensor of {dimensions} dimensions"
            )
        return state[name].shape

    def layers(part: str) -> int:
        numbers = [re.match(rf"transformer\.{part}\.layers\.(\d+)\.", name) for name in state]
        return 1 + max((int(number[1]) for number in numbers if number), default=-1)

    try:
        sizes = Sizes(
            width=shape("class_query", 2)[1],
            heads=heads,
            encoder_layers=layers("encoder"),
            decoder_layers=layers("decoder"),
            encoder_feedforward=shape("transformer.encoder.layers.0.linear1.weight", 2)[0],
            decoder_feedforward=shape("transformer.decoder.layers.0.linear1.weight", 2)[0],
            position_rows=shape("row_embed", 2)[0],
            classes=shape("linear_class.weight", 2)[0],
        )
    except ValueError as error:
        raise ModelFolderError(f"{place}: {error}") from None
    if max(sizes.encoder_layers, sizes.decoder_layers) > 64:
        raise ModelFolderError(
            f"{place}: found {sizes.encoder_layers} + {sizes.decoder_layers} layers, expected at most 64"
        )
    with torch.device("meta"):  # shapes only: nothing is allocated for a file that turns out to be something else
        expected = {name: tuple(tensor.shape) for name, tensor in Spoter(sizes).state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    for name in expected.keys() | found.keys():
        if expected.get(name) != found.get(name):
            raise ModelFolderError(
                f"{place}: found {found.get(name, 'nothing')} as {name}, "
                f"expected {expected.get(name, 'no such parameter')} in a SPOTER of width {sizes.width}, "
                f"{sizes.encoder_layers} + {sizes.decoder_layers} layers"
            )
    return sizes


class _StandIn:
    """Takes the place of a class that a checkpoint names: keeps the state it is handed, does nothing."""

    def __init__(self, *args: object):
        self.state: dict = {}

    def __setstate__(self, state: object) -> None:
        self.state = state if isinstance(state, dict) else {}

    def _inside(self, kind: str) -> list[tuple[object, object]]:
        """Return the entries of one of a module's tables; a pickle may put anything in its place."""
        table = self.state.get(kind)
        return list(table.items()) if isinstance(table, dict) else []

    def parameters(self) -> list[tuple[object, object]]:
        """Return this module's own parameters and buffers by name."""
        return [item for kind in ("_parameters", "_buffers") for item in self._inside(kind) if item[1] is not None]

    def children(self) -> list[tuple[object, _StandIn]]:
        """Return the modules right inside this one by name."""
        return [(name, child) for name, child in self._inside("_modules") if isinstance(child, _StandIn)]


def _read_plain(path: Path) -> dict[str, Tensor]:
    """Read a file of safetensors, whose reader checks its header against the file's size."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except OSError as error:
        raise ModelFolderError(f"{path}: {error.strerror or error}") from error
    except (SafetensorError, *DAMAGED_FILE_ERRORS) as error:
        said = str(error).removeprefix("Error while deserializing header: ")
        raise ModelFolderError(f"{path}: found no whole safetensors file ({one_line(said, 100)})") from None


def _unpickle(path: Path) -> object:
    """Load a file with torch's weights-only unpickler and stand-ins for the classes of a pickled SPOTER."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                entries = archive.infolist()
            if len({entry.filename for entry in entries}) < len(entries):
                raise ModelFolderError(f"{path}: found an entry twice in it, expected a file that torch.save wrote")
            packed = [entry.filename for entry in entries if entry.compress_type != zipfile.ZIP_STORED]
            if packed:  # torch.save never does, and what it unpacks to has no bound
                raise ModelFolderError(f"{path}: found {packed[0]} compressed, expected a file that torch.save wrote")
            names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
            refused = [name for name in names if not _STAND_IN.fullmatch(name)]
            if refused:
                raise _refusal(path, refused)
            stand_ins = [(type("StandIn", (_StandIn,), {}), name) for name in names]
        else:
            stand_ins = []  # torch's form before 1.6: state_dicts only
        with torch.serialization.safe_globals(stand_ins):
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ModelFolderError(f"{path}: {error.strerror or error}") from error
    except DAMAGED_FILE_ERRORS as error:
        # torch's own words go on to advise to run the file's code, the very thing that must not be done
        asked = re.search(r"GLOBAL (\S+)", str(error))
        if asked:
            raise _refusal(path, [asked[1]]) from None
        raise ModelFolderError(
            f"{path}: cannot be read without running code from it, expected a file that torch.save wrote"
        ) from None


def _refusal(path: Path, names: list[str]) -> ModelFolderError:
    return ModelFolderError(
        f"{path}: refused, because reading it would run code: it asks for {one_line(', '.join(sorted(names)[:5]))}; "
        "expected tensors only, or a whole module of class spoter.spoter_model.SPOTER that torch 1.6 or later saved"
    )
