"""Virtual environments that hold only given packages, as links to those of the test environment."""

from __future__ import annotations

import venv
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement


def linked_environment(folder: Path, requirements: Iterable[Requirement]) -> Path:
    """Create a virtual environment with some packages and their requirements; return its interpreter."""
    venv.create(folder, symlinks=True, with_pip=False)
    site = next((folder / "lib").glob("python*/site-packages"))
    pending, linked = list(requirements), set[str]()
    while pending:
        name = pending.pop().name.lower()
        if name in linked:
            continue
        linked.add(name)
        package = metadata.distribution(name)
        needs = [Requirement(line) for line in package.requires or []]
        pending += [need for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
        for top in {path.parts[0] for path in package.files or []} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(package.locate_file(top))
    return folder / "bin" / "python"
