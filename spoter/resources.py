"""Files of the project that are no Python modules: the bundled model, samples, TorchServe's settings, the web page."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
"""The folder of the package spoter."""

_IN_WHEEL = PACKAGE / "_resources"

RESOURCES = _IN_WHEEL if _IN_WHEEL.is_dir() else PACKAGE.parent
"""Where these files lie: inside an installed wheel, or at the root of the checkout."""

WORK_FOLDER = Path.cwd()
"""Where commands write archives and logs by default, and look for deploy.toml."""
