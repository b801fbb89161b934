"""Text files, atomic writes, and locks on folders."""

import errno
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spoter.errors import ModelFolderError, SpoterError

TEMPORARY_PREFIX = ".unfinished-"
"""Prefix of temporary files; a killed process does not remove its temporary files."""

# Errors on systems and file systems that cannot sync or open a folder.
_NO_FOLDER_SYNC = (errno.EACCES, errno.EBADF, errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)


@contextmanager
def naming_errors(path: object, error_type: type[SpoterError] = SpoterError, hint: str = "") -> Iterator[None]:
    """Convert an `OSError` in the block to an `error_type` that names `path`; `hint` follows the reason."""
    try:
        yield
    except OSError as error:
        raise error_type(f"{path}: {error.strerror or error}{hint}") from error


def file_sha256(path: Path, error_type: type[SpoterError] = SpoterError) -> str:
    """Return the SHA-256 of a file, in hexadecimal; raise `error_type` if it cannot be read."""
    with naming_errors(path, error_type), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_text(path: Path) -> str:
    """Read a UTF-8 file of a model, with or without a byte order mark; raise `ModelFolderError` if that fails."""
    with naming_errors(path, ModelFolderError):
        content = Path(path).read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ModelFolderError(f"{path}: found byte {error.start} that is not UTF-8, expected UTF-8 text") from error


@contextmanager
def atomic_write(path: Path, mode: int = 0o644) -> Iterator[Path]:
    """Yield a temporary path in `path`'s folder, and move that file to `path` if the block succeeds.

    The temporary name is always short. After a power cut the file has either the old or the new content. The file gets
    `mode`: by default a server's user may read it; 0o600 is for secrets.
    """
    path = Path(path)
    with _naming(path):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=TEMPORARY_PREFIX)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with _naming(path):
            atomic_move(temporary, path, mode)
    finally:
        temporary.unlink(missing_ok=True)


def atomic_move(file: Path, path: Path, mode: int = 0o644) -> None:
    """Move a file to `path` on the same file system; after a power cut `path` has the old or the new content."""
    with file.open("r+b") as opened:  # Windows cannot sync a file that is open only for reading
        os.fsync(opened.fileno())
    file.chmod(mode)
    os.replace(file, path)
    fsync_folder(path.parent)


def fsync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut, if the system supports that."""
    try:
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise


def atomic_write_bytes(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write all of `content` to `path`, or nothing; `mode` is that of `atomic_write`."""
    with atomic_write(path, mode) as temporary, _naming(path):
        temporary.write_bytes(content)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Make errors name `path`: they would name a temporary file or, on a full disk, no file."""
    try:
        yield
    except OSError as error:
        raise type(error)(error.errno, error.strerror, str(path)) from None


@contextmanager
def exclusive_lock(folder: Path) -> Iterator[None]:
    """Prevent other commands from writing to a folder during the block; the lock ends with the process at the latest.

    Raise `SpoterError` if the folder does not exist, or another command is writing to it.
    """
    import fcntl  # exists on Unix only; a program that only reads models does not need it

    with naming_errors(folder):
        handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SpoterError(f"{folder}: another command is writing to this folder; wait for it or stop it") from None
        except OSError:  # some network file systems cannot lock folders
            pass
        yield
    finally:
        os.close(handle)
