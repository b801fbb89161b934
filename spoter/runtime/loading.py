"""Loads a model folder in a runtime."""

from pathlib import Path

from spoter.errors import ModelFolderError
from spoter.files import file_sha256
from spoter.model.config import RUNTIMES, choose_runtime
from spoter.model.folder import RUNTIME_FILES, WEIGHTS, ModelFolder, load_model_folder, read_model_folder
from spoter.runtime.base import Runtime
from spoter.runtime.onnx_runtime import WEIGHTS_SHA256, OnnxRuntime


def load_runtime(folder: Path, runtime: str | None = None, device: str = "cpu") -> tuple[ModelFolder, Runtime]:
    """Read a model folder and load its weights or graph in a runtime.

    `runtime` is one of `spoter.model.config.RUNTIMES`; by default the config's runtime on the CPU, and ``torch`` on
    other devices. Only ``torch`` imports torch. `device` is a torch device; ONNX Runtime only uses the CPU.

    Raises `ModelFolderError` if the folder is invalid, lacks the runtime's file or holds a graph of other weights than
    model.pth, or if the runtime is not installed.
    """
    on_cpu = device == "cpu"
    runtime = choose_runtime(folder, runtime) if on_cpu else runtime or "torch"
    if runtime not in RUNTIMES:
        raise ModelFolderError(f"found runtime {runtime!r}, expected one of {', '.join(RUNTIMES)}")
    if runtime == "torch":
        loaded = load_model_folder(folder)
        from spoter.runtime.torch_runtime import TorchRuntime

        return loaded, TorchRuntime(loaded.model, device)
    if not on_cpu:
        raise ModelFolderError(f"{folder}: found runtime {runtime} on device {device}, expected cpu")
    model_folder, path, weights = read_model_folder(folder), folder / RUNTIME_FILES[runtime], folder / WEIGHTS
    graph = OnnxRuntime.read(path, model_folder.width, model_folder.config.classes)
    if weights.exists():
        source, expected = graph.metadata.get(WEIGHTS_SHA256, "unknown"), file_sha256(weights, ModelFolderError)
        if source != expected:
            problem = f"found a graph of other weights (SHA-256 {source[:12]}), expected {WEIGHTS} ({expected[:12]})"
            raise ModelFolderError(f"{path}: {problem}: write it again with `spoter export`")
    return model_folder, graph
