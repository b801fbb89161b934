"""Files of the project that are no Python modules: the bundled model, samples, TorchServe's settings, the web page."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
"""The folder of the package spoter."""

_IN_WHEEL = PACKAGE / "_resources"
_IS_WHEEL = _IN_WHEEL.is_dir()

RESOURCES = _IN_WHEEL if _IS_WHEEL else PACKAGE.parent
"""Where these files lie: inside an installed wheel, or at the root of the checkout."""

WORK_FOLDER = Path.cwd() if _IS_WHEEL else PACKAGE.parent
"""Where archives and logs go: the current folder, or the checkout."""
