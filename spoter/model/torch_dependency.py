"""The error for machines without torch, which serve models in ONNX Runtime only."""

from __future__ import annotations

from importlib.util import find_spec

from spoter.errors import ModelFolderError


def require_torch(purpose: str) -> None:
    """Raise `ModelFolderError` with the command that installs torch, which `purpose` needs, where it is missing."""
    if find_spec("torch") is None:
        raise ModelFolderError(
            f"{purpose} needs torch, which is not installed: pip install 'spoter[torch]', or `make training` in a "
            "checkout"
        )
