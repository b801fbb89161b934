"""Files of the project that are not Python modules: bundled model, samples, TorchServe's settings, web page."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
"""The folder of the package spoter."""

_IN_WHEEL = PACKAGE / "_resources"

RESOURCES = _IN_WHEEL if _IN_WHEEL.is_dir() else PACKAGE.parent
"""The folder of these files: inside an installed wheel, or the root of the checkout."""

WORK_FOLDER = Path.cwd()
"""The folder where commands write archives and logs by default, and look for deploy.toml."""
