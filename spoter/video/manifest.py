"""What earlier runs made: a hidden list beside the outputs, so that nothing finished is made again."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from pathlib import Path

from spoter.errors import SpoterError
from spoter.video.reader import EXTRACTION

NAME = ".spoter-extract.jsonl"


def digest(path: Path) -> str:
    """Return the SHA-256 of a file.

    Raises
    ------
    SpoterError
        For a file that cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise SpoterError(f"{path}: {error.strerror or error}") from error


def mark(path: Path) -> str:
    """Return what an output remembers of the video it was made of: its bytes, and how it was looked at."""
    return f"{digest(path)} {EXTRACTION}"


class Kept:
    """The list in a folder: a line of JSON for each output, appended when it is finished.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path):
        self._folder, self._path, self._lock = folder, folder / NAME, threading.Lock()
        self._lines: dict[str, dict] = {}
        self._mend = ""
        try:
            text = self._path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return
        if text and not text.endswith("\n"):  # a line that a crash cut off
            self._mend = "\n"
        for line in text.splitlines():
            try:
                entry = json.loads(line)
                self._lines[entry["output"]] = entry
            except (ValueError, TypeError, KeyError):  # no entry, whatever it is: that output is made again
                continue

    def has(self, output: Path, made_of: str) -> bool:
        """Tell whether an output is there as it was written, made of what has this `mark`."""
        entry = self._lines.get(self._name(output), {})
        return entry.get("mark") == made_of and output.is_file() and entry.get("sha256") == digest(output)

    def add(self, output: Path, made_of: str) -> None:
        """Take note of a finished output."""
        entry = {"output": self._name(output), "mark": made_of, "sha256": digest(output)}
        with self._lock, self._path.open("a", encoding="utf-8") as file:
            file.write(f"{self._mend}{json.dumps(entry)}\n")
            self._mend = ""
            self._lines[entry["output"]] = entry

    def _name(self, path: Path) -> str:
        return Path(os.path.relpath(path, self._folder)).as_posix()  # overlays may lie beside the folder
