"""Spares TorchServe's workers what they import and never use.

torch, 200 MB and a second: TorchServe 0.12.0 imports it in every worker, for one question: whether an answer that is
neither bytes nor str is a tensor (ts/protocol/otf_message_handler.py). Our handler answers in bytes, so that a worker
whose model runs in ONNX Runtime never gets there. Its import is put off until something asks torch for anything, which
then works as ever.

pyarrow, 40 MB: pandas, which reads CSV for us, imports it wherever it is installed, and works without.

Python runs a sitecustomize.py at the start of each process that finds one on its path: `spoter.torchserve.server` and
docker/start.py put this folder on the PYTHONPATH of TorchServe, which workers inherit. Started without it they only
take more memory.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

_HERE = Path(__file__).resolve().parent
_WORKER = os.path.join("ts", "model_service_worker.py")


class _Later(MetaPathFinder):
    """Finds torch as ever, once, but has it run only when an attribute of it is asked for."""

    def find_spec(self, name: str, path=None, target=None) -> ModuleSpec | None:
        if name != "torch":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _LaterLoader(spec.loader)
        return spec


class _LaterLoader(Loader):
    """Runs a package when one of its attributes is first asked for.

    `importlib.util.LazyLoader` does the same, but recurses without end in Python 3.13 when a package deletes one of its
    own names while it runs, as torch does.
    """

    def __init__(self, loader: Loader):
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> None:
        """Leave it to the import system."""

    def exec_module(self, module: ModuleType) -> None:
        module.__class__ = _LaterModule
        del module.__path__  # importing a part of the package looks at it, and so runs the package first


class _LaterModule(ModuleType):
    def __getattr__(self, name: str) -> object:  # called for what is not there, which is all of the package
        spec = self.__spec__
        self.__class__ = ModuleType
        self.__path__, self.__loader__ = spec.submodule_search_locations, spec.loader.loader
        spec.loader = self.__loader__
        spec.loader.exec_module(self)
        return getattr(self, name)


def _needs_no_torch() -> bool:
    """Tell whether a worker's archive, in whose folder TorchServe starts it, runs in ONNX Runtime."""
    try:
        return json.loads(Path("config.json").read_text("utf-8-sig")).get("runtime", "torch") != "torch"
    except (OSError, ValueError, AttributeError):  # the handler says what is wrong with it
        return False


def _run_next() -> None:
    """Run the sitecustomize.py that Python would have found without this one."""
    elsewhere = [entry for entry in sys.path if Path(entry).resolve() != _HERE]
    spec = PathFinder.find_spec(__name__, elsewhere)
    if spec is not None and spec.loader is not None:
        module = importlib.util.module_from_spec(spec)
        sys.modules[__name__] = module
        spec.loader.exec_module(module)


if any(part.endswith(_WORKER) for part in sys.orig_argv[1:]):
    sys.modules["pyarrow"] = None  # which makes its import fail as if it was not there
    if _needs_no_torch():
        sys.meta_path.insert(0, _Later())
_run_next()
