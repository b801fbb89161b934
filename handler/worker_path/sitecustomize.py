"""Startup code that keeps TorchServe's workers from importing torch and pyarrow if the model needs neither.

TorchServe 0.12.0 imports torch in every worker for one check: whether a response that is neither bytes nor str is a
tensor (ts/protocol/otf_message_handler.py). This project's handler responds with bytes. A worker whose model runs in
ONNX Runtime gets a stand-in for this check, which saves 200 MB and one second; torch need not be installed.

pandas, which reads CSV, imports pyarrow if it is installed, but works without it. Hiding pyarrow saves 40 MB.

Python runs a sitecustomize.py at the start of each process that finds one on its path. `spoter serve` and
docker/start.py put this folder on the PYTHONPATH of TorchServe, and workers inherit it. A TorchServe that is started by
hand needs the same, or an installed torch.
"""

from __future__ import annotations

import json
import os
import sys
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import module_from_spec
from pathlib import Path
from types import ModuleType
from typing import NoReturn

_HERE = Path(__file__).resolve().parent
_WORKER = os.path.join("ts", "model_service_worker.py")


class _TorchStandIn(ModuleType):
    """A module with the one attribute that otf_message_handler.py needs of torch, and an error for all others."""

    class Tensor:
        """A type without objects in this process."""

    def __getattr__(self, name: str) -> NoReturn:
        message = f"torch.{name}: torch is not loaded, because the model of this worker runs in ONNX Runtime"
        # The import system and `hasattr` look for names such as __path__.
        raise AttributeError(message) if name.startswith("__") else ImportError(message)


def _runs_without_torch() -> bool:
    """Return whether the model in the working folder of the worker, its archive, runs in ONNX Runtime."""
    try:
        return bool(json.loads(Path("config.json").read_text("utf-8-sig")).get("runtime", "torch") != "torch")
    except (OSError, ValueError, AttributeError):  # the handler reports the error
        return False


def _run_next() -> None:
    """Run the sitecustomize.py that this one hides."""
    elsewhere = [entry for entry in sys.path if Path(entry).resolve() != _HERE]
    spec = PathFinder.find_spec(__name__, elsewhere)
    if spec is not None and spec.loader is not None:
        module = module_from_spec(spec)
        sys.modules[__name__] = module
        spec.loader.exec_module(module)


if any(part.endswith(_WORKER) for part in sys.orig_argv[1:]):
    sys.modules["pyarrow"] = None  # type: ignore[assignment]  # makes its import fail
    if _runs_without_torch():
        torch = _TorchStandIn("torch")
        torch.__spec__ = ModuleSpec("torch", None)
        sys.modules["torch"] = torch
_run_next()
