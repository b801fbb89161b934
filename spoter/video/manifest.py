"""The manifest of finished outputs: a hidden list next to them, so that no finished output is made again."""

import json
import os
import threading
from pathlib import Path

from spoter.files import file_sha256
from spoter.video.reader import EXTRACTION_VERSION

MANIFEST_NAME = ".spoter-extract.jsonl"


def fingerprint(video: Path) -> str:
    """Return what identifies the landmarks of a video: the hash of its bytes, and the version of the extraction."""
    return f"{file_sha256(video)} {EXTRACTION_VERSION}"


class Manifest:
    """The list in a folder: a line of JSON for each output, appended when the output is finished."""

    def __init__(self, folder: Path):
        self._folder, self._path, self._lock = folder, folder / MANIFEST_NAME, threading.Lock()
        self._entries: dict[str, dict[str, str]] = {}
        try:
            text = self._path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            text = ""
        self._separator = "\n" if text and not text.endswith("\n") else ""  # after a line that a crash cut off
        for line in text.splitlines():
            try:
                entry = json.loads(line)
                self._entries[entry["output"]] = entry
            except (ValueError, TypeError, KeyError):  # no entry: its output is made again
                continue

    def is_current(self, output: Path, video_fingerprint: str) -> bool:
        """Tell whether an output exists as it was written, from the video with this `fingerprint`."""
        entry = self._entries.get(self._name(output), {})
        is_same_video = entry.get("mark") == video_fingerprint
        return is_same_video and output.is_file() and entry.get("sha256") == file_sha256(output)

    def add(self, output: Path, video_fingerprint: str) -> None:
        """Append a finished output."""
        entry = {"output": self._name(output), "mark": video_fingerprint, "sha256": file_sha256(output)}
        with self._lock, self._path.open("a", encoding="utf-8") as file:
            file.write(f"{self._separator}{json.dumps(entry)}\n")
            self._separator = ""
            self._entries[entry["output"]] = entry

    def _name(self, path: Path) -> str:
        return Path(os.path.relpath(path, self._folder)).as_posix()  # overlays may be outside of the folder
