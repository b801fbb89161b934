"""Virtual environments that hold only the packages named, by links to those that the tests run with."""

from __future__ import annotations

import venv
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement


def linked_environment(folder: Path, requirements: Iterable[Requirement]) -> Path:
    """Make a virtual environment with some packages and what these require; return its interpreter."""
    venv.create(folder, symlinks=True, with_pip=False)
    site = next((folder / "lib").glob("python*/site-packages"))
    waiting, seen = list(requirements), set[str]()
    while waiting:
        name = waiting.pop().name.lower()
        if name in seen:
            continue
        seen.add(name)
        package = metadata.distribution(name)
        needs = [Requirement(line) for line in package.requires or []]
        waiting += [need for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
        for top in {path.parts[0] for path in package.files or []} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(package.locate_file(top))
    return folder / "bin" / "python"
