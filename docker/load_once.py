"""Load an unpacked archive as a TorchServe worker does, then exit: load_once.py FOLDER.

If it cannot be loaded, the last line on stderr is the reason.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(folder: str) -> None:
    """Import the archive's handler and load the model with it; every exception means that it cannot be served.

    Parameters
    ----------
    folder : str
        Unpacked archive, with MAR-INF/MANIFEST.json.
    """
    from ts.model_loader import ModelLoaderFactory

    manifest = json.loads(Path(folder, "MAR-INF", "MANIFEST.json").read_text())
    sys.path.insert(0, folder)  # as TorchServe does for each worker
    ModelLoaderFactory.get_model_loader().load("spoter", folder, manifest["model"]["handler"], None, 1)


if __name__ == "__main__":
    main(sys.argv[1])
