"""Files in the archives that build_mar.py writes."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path


def mar_files(path: Path) -> dict[str, bytes]:
    """Return the entries of a .mar, by name."""
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def tar_files(path: Path) -> dict[str, bytes]:
    """Return the entries of a model.tar.gz, by name."""
    with tarfile.open(fileobj=io.BytesIO(path.read_bytes()), mode="r:gz") as archive:
        return {member.name: archive.extractfile(member).read() for member in archive.getmembers()}
