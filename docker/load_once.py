"""Load an unpacked archive as a TorchServe worker does, and end: load_once.py FOLDER.

Where it cannot be loaded the last line of standard error says why.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(folder: str) -> None:
    """Import the archive's handler and have it load the model; whatever that raises is the reason it cannot be served.

    Parameters
    ----------
    folder : str
        Unpacked archive, with MAR-INF/MANIFEST.json.
    """
    from ts.model_loader import ModelLoaderFactory

    manifest = json.loads(Path(folder, "MAR-INF", "MANIFEST.json").read_text())
    sys.path.insert(0, folder)  # TorchServe has it on each worker's path
    ModelLoaderFactory.get_model_loader().load("spoter", folder, manifest["model"]["handler"], None, 1)


if __name__ == "__main__":
    main(sys.argv[1])
