"""A short run of `stress.archive_differential`: TorchServe, GNU tar and tarfile unpack the files that `scan` lists."""

from __future__ import annotations

import pytest

from spoter.errors import SpoterError
from spoter.ops.archive import Entry
from stress import archive_differential
from stress.archive_differential import KINDS, compare_unpackers, torchserve_unpacker


@pytest.fixture(scope="module")
def unpack():
    try:
        with torchserve_unpacker() as program:
            yield program
    except SpoterError as error:
        pytest.skip(str(error))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_short_run(unpack, tmp_path, kind):
    outcome = compare_unpackers(kind, 200, 3, unpack)
    assert outcome.differences == [] and outcome.archives == 200
    assert 20 <= outcome.passed <= 180


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_difference_is_reported_and_its_archive_copied(unpack, tmp_path, monkeypatch, kind):
    """A `scan` that misses a file causes differences."""
    scan = archive_differential.scan

    def incomplete_scan(path) -> dict[str, Entry]:
        return {name: entry for name, entry in scan(path).items() if name != "config.json"}

    monkeypatch.setattr(archive_differential, "scan", incomplete_scan)
    monkeypatch.setattr(archive_differential, "_torchserve_names", lambda path, files: files)
    outcome = compare_unpackers(kind, 10, 3, unpack, tmp_path / "copies")
    assert any("TorchServe" in line and "config.json" in line for line in outcome.differences)
    assert list((tmp_path / "copies").iterdir())
