"""A short run of `stress.archive_differential`: TorchServe, GNU tar and tarfile unpack alike what `scan` passes."""

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
def test_a_short_run(unpack, tmp_path, kind):
    outcome = compare_unpackers(kind, 200, 3, unpack)
    assert outcome.differences == [] and outcome.archives == 200
    assert 20 <= outcome.passed <= 180


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_difference_is_found_and_its_archive_kept(unpack, tmp_path, monkeypatch, kind):
    """With a `scan` that overlooks a file."""
    true = archive_differential.scan

    def overlooks(path) -> dict[str, Entry]:
        return {name: entry for name, entry in true(path).items() if name != "config.json"}

    monkeypatch.setattr(archive_differential, "scan", overlooks)
    monkeypatch.setattr(archive_differential, "_torchserve_names", lambda path, files: files)
    outcome = compare_unpackers(kind, 10, 3, unpack, tmp_path / "kept")
    assert any("TorchServe differs" in line for line in outcome.differences)
    assert list((tmp_path / "kept").iterdir())
