"""Atomic writing: a file is written completely or not at all, and survives a power cut."""

from __future__ import annotations

import errno
import os
from contextlib import nullcontext
from pathlib import Path

import pytest

from spoter.files import TEMPORARY_PREFIX, atomic_move, atomic_write, atomic_write_bytes


@pytest.fixture
def calls(monkeypatch) -> list[tuple[str, str]]:
    """Record the names that are synced and renamed, in order."""
    calls: list[tuple[str, str]] = []
    replace, fsync = os.replace, os.fsync

    def synced(handle: int) -> None:
        calls.append(("sync", Path(os.readlink(f"/proc/self/fd/{handle}")).name))
        fsync(handle)

    def renamed(file: Path, path: Path) -> None:
        calls.append(("rename", Path(path).name))
        replace(file, path)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    return calls


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="the system does not list the names of open files")
def test_content_is_synced_before_the_rename_and_the_folder_after_it(tmp_path, calls):
    atomic_write_bytes(tmp_path / "a.json", b"{}", mode=0o400)
    assert [action for action, _ in calls] == ["sync", "rename", "sync"]
    assert calls[0][1].startswith(TEMPORARY_PREFIX) and [name for _, name in calls[1:]] == ["a.json", tmp_path.name]
    calls.clear()
    (tmp_path / "whole").write_bytes(b"x")
    atomic_move(tmp_path / "whole", tmp_path / "a.json")
    assert calls == [("sync", "whole"), ("rename", "a.json"), ("sync", tmp_path.name)]
    assert (tmp_path / "a.json").read_bytes() == b"x" and [path.name for path in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize(("number", "raised"), [(errno.EINVAL, False), (errno.ENOTSUP, False), (errno.EIO, True)])
def test_only_a_system_that_cannot_sync_folders_is_tolerated(tmp_path, monkeypatch, number, raised):
    fsync = os.fsync

    def failing(handle: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{handle}"):
            raise OSError(number, os.strerror(number))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(OSError, match="/a'") if raised else nullcontext() as error:
        atomic_write_bytes(tmp_path / "a", b"new")
    if raised:
        assert error.value.errno == number and error.value.filename == str(tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"new"


def test_file_that_cannot_be_synced_does_not_replace_the_old_one(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"old")

    def failing(handle: int) -> None:
        raise OSError(errno.EINVAL, "of a file")

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(OSError, match="of a file"):
        atomic_write_bytes(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


def test_temporary_name_is_short_for_a_long_name(tmp_path):
    longest = "手" * 85  # 255 bytes
    with atomic_write(tmp_path / longest) as temporary:
        assert len(temporary.name) < 30 and temporary.name.startswith(TEMPORARY_PREFIX)
        temporary.write_bytes(b"x")
    assert [path.name for path in tmp_path.iterdir()] == [longest]
    with pytest.raises(OSError, match=longest) as error:
        atomic_write_bytes(tmp_path / (longest + "x"), b"x")
    assert error.value.errno == errno.ENAMETOOLONG and error.value.filename == str(tmp_path / (longest + "x"))
    assert [path.name for path in tmp_path.iterdir()] == [longest]
