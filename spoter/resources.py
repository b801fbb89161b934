"""Files that belong to the project but are no Python modules: the bundled model, samples, TorchServe's settings, the web page.

In a checkout they lie at its root; a wheel carries them inside the package, in ``spoter/_resources``.
"""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
_IN_WHEEL = PACKAGE / "_resources"


def resource(path: str) -> Path:
    """Return where a file or folder of the project lies: ``models/dgs11``, ``handler/metrics.yaml``."""
    return (_IN_WHEEL if _IN_WHEEL.is_dir() else PACKAGE.parent) / path


def work_folder() -> Path:
    """Return the folder that archives, logs and environments are written below.

    Returns
    -------
    pathlib.Path
        The checkout, or the current folder where spoter is installed from a wheel.
    """
    return Path.cwd() if _IN_WHEEL.is_dir() else PACKAGE.parent
