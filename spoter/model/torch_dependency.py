"""The error on machines without torch, which can only serve models in ONNX Runtime."""

from importlib.util import find_spec

from spoter.errors import ModelFolderError


def require_torch(purpose: str, *more_packages: str) -> None:
    """Raise `ModelFolderError` with the install command if torch or one of `more_packages` is missing."""
    missing = [name for name in ("torch", *more_packages) if find_spec(name) is None]
    if missing:
        fix = "pip install 'spoter[torch]', or `make training` in a checkout"
        raise ModelFolderError(f"{purpose} needs {', '.join(missing)} (not installed): {fix}")
