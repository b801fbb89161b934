"""Model folders whose model runs in ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

from spoter.errors import ModelFolderError
from spoter.fewshot.prototypes import PARTS
from spoter.model.folder import WEIGHTS, ModelFolder, file_sha256, read_description, read_space
from spoter.runtime.onnx_runtime import GRAPHS, WEIGHTS_SHA256, OnnxRuntime


def load_onnx_folder(folder: Path, runtime: str = "onnx") -> ModelFolder:
    """Read a model folder with the graph of a runtime, ``onnx`` or ``onnx-int8``, and without torch.

    Raises
    ------
    ModelFolderError
        As `load_model_folder`; and for a graph of other weights than the model.pth that lies beside it.
    """
    folder = Path(folder)
    path = folder / GRAPHS[runtime]
    config, glosses, layout = read_description(folder, path.name)
    model = OnnxRuntime.read(path, 2 * len(layout), config.classes)
    weights = folder / WEIGHTS
    if weights.exists() and (found := model.notes.get(WEIGHTS_SHA256)) != (real := file_sha256(weights)):
        raise ModelFolderError(
            f"{path}: found a graph of other weights (SHA-256 {(found or 'unknown')[:12]}) than {WEIGHTS} beside it "
            f"({real[:12]}): write it anew by `spoter export`"
        )
    prototypes, enrolled = read_space(folder, config, glosses, (PARTS + 1) * 2 * len(layout))
    return ModelFolder(config, glosses, layout, model, prototypes, enrolled)
