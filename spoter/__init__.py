"""SPOTER: recognizes the sign in a short clip from body and hand landmarks.

Data flows through this package in one direction::

    bytes --formats--> Clip --layout--> (T,K,2) --normalize--> (T,2K) --model--> logits --recognizer--> ranked glosses

Importing a module does no work and reads no file. The public names below are imported at first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spoter.client import AsyncClient, Client
    from spoter.errors import InputError, SpoterError
    from spoter.landmarks.clip import Clip
    from spoter.landmarks.layouts import load_layout
    from spoter.serving.recognizer import Recognizer

__version__ = "0.2.0"
__all__ = ["AsyncClient", "Client", "Clip", "InputError", "Recognizer", "SpoterError", "load_layout"]

_MODULES = {
    "AsyncClient": "spoter.client",
    "Client": "spoter.client",
    "Clip": "spoter.landmarks.clip",
    "InputError": "spoter.errors",
    "Recognizer": "spoter.serving.recognizer",
    "SpoterError": "spoter.errors",
    "load_layout": "spoter.landmarks.layouts",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_MODULES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
