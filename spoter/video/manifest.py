"""The manifest of finished outputs: a hidden file next to them, so that a later run skips them."""

import json
import os
import threading
from pathlib import Path

from spoter.files import file_sha256
from spoter.video.reader import EXTRACTION_VERSION

MANIFEST_NAME = ".spoter-extract.jsonl"


def fingerprint(video: Path) -> str:
    """Return a string that identifies a video's landmarks: the hash of its bytes and the extraction version."""
    return f"{file_sha256(video)} {EXTRACTION_VERSION}"


class Manifest:
    """The manifest of a folder: one line of JSON per output, appended when the output is finished."""

    def __init__(self, folder: Path):
        self._folder, self._path, self._lock = folder, folder / MANIFEST_NAME, threading.Lock()
        self._entries: dict[str, dict[str, str]] = {}
        try:
            text = self._path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            text = ""
        self._separator = "\n" if text and not text.endswith("\n") else ""  # ends a line that a crash truncated
        for line in text.splitlines():
            try:
                entry = json.loads(line)
                self._entries[entry["output"]] = entry
            except (ValueError, TypeError, KeyError):  # not an entry; its output is extracted again
                continue

    def is_current(self, output: Path, video_fingerprint: str) -> bool:
        """Return whether an output is unchanged and belongs to the video with this `fingerprint`."""
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
        return Path(os.path.relpath(path, self._folder)).as_posix()  # overlays may lie outside the folder
