"""Paths to sources, one for each clip or file of clips, in a stable order; sources to shards.

This module reads no clip. A source names the place of its landmarks, and a worker reads them there.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, starmap
from pathlib import Path
from typing import NamedTuple

import msgspec

from spoter.errors import DataError, SpoterError
from spoter.landmarks.connecting_points import ENDINGS, HDF5_ERRORS, hdf5_error_text, open_hdf5
from spoter.sources import frame_folders
from spoter.sources.clip_files import CONTENT_TYPES
from spoter.video.reader import VIDEO_SUFFIXES

_EXPECTED = f"{', '.join((*CONTENT_TYPES, *ENDINGS))}, or a folder of them"
# Sources in a shard. One worker processes a shard, a killed worker loses one, and the progress bar advances by one.
_MAX_SHARD = 512
# Few sources are split into smaller shards, so that there are enough shards for all workers.
_MIN_SHARD, _USUAL_SHARDS = 16, 32
# Files in a data set's folder that are not clips: `spoter.training.data.folder`.
_NOT_CLIPS = (frame_folders.PICTURE, "groups.csv")


class ClipSource(msgspec.Struct, frozen=True, array_like=True):
    """The place of landmarks: a file, a folder of frames, a group of an HDF5 file, or a line of JSON Lines."""

    file: str
    options: str = ""  # of the nearest picture.json, here or in a parent folder: width=1280,height=720
    group: str | None = None  # in an HDF5 file
    line: int = 0  # from 1; 0 if the source is not a line
    start: int = 0  # offset of that line in the file, and its size, in bytes
    size: int = 0


class Shard(NamedTuple):
    """Sources that one worker processes together, and the shard's number."""

    number: int
    sources: list[ClipSource]


@dataclass
class InputScan:
    """The sources below some paths, counted without reading the clips."""

    sources: int = 0
    digest: str = ""  # SHA-256 of the files' paths, sizes and times; a later run compares it
    skipped: Counter[str] = field(default_factory=Counter)  # extensions of files in folders that hold no clip

    @property
    def shard_size(self) -> int:
        """Sources in a shard; depends only on the number of sources, so that a resumed run has the same shards."""
        return max(_MIN_SHARD, min(_MAX_SHARD, self.sources // _USUAL_SHARDS))


def scan_inputs(paths: Sequence[Path], advance: Callable[[int], object] = lambda sources: None) -> InputScan:
    """Count the clips; call `advance` with the number of sources in each file.

    Raise `SpoterError` if a given path is missing or holds no landmarks, a folder is unreadable or links to one of its
    parents, a clip's path is not a regular file, or there is no clip at all. Raise `DataError` for an unreadable HDF5
    file.
    """
    scan, digest = InputScan(), hashlib.sha256()
    for file, options in _find_files(paths, scan.skipped):
        frames = sorted(os.listdir(file)) if os.path.isdir(file) else ()
        for path in (file, *(os.path.join(file, name) for name in frames)):
            state = os.stat(path)
            digest.update(msgspec.msgpack.encode((os.fsencode(path), options, state.st_size, state.st_mtime_ns)))
        count = sum(1 for _ in _find_sources(file, options))
        scan.sources += count
        advance(count)
    if not scan.sources:
        raise SpoterError(f"{', '.join(map(str, paths))}: found no clip, expected {_EXPECTED}")
    scan.digest = digest.hexdigest()
    return scan


def iterate_shards(paths: Sequence[Path], size: int) -> Iterator[Shard]:
    """Yield shards of `size` sources, the last one possibly smaller; raise the errors of `scan_inputs`."""
    sources = (source for file, options in _find_files(paths, Counter()) for source in _find_sources(file, options))
    batches = iter(lambda: list(islice(sources, size)), [])
    return starmap(Shard, enumerate(batches))


def _find_files(paths: Sequence[Path], skipped: Counter[str]) -> Iterator[tuple[str, str]]:
    """Yield files, and folders with one clip's frames, each with the options of its picture.json."""
    for path in paths:
        if path.is_dir():
            yield from _find_in_folder(path, "", skipped)
            continue
        if not path.is_file():
            raise SpoterError(f"{path}: no such file or folder, expected {_EXPECTED}")
        ending = path.suffix.lower()
        if ending in VIDEO_SUFFIXES:
            raise SpoterError(
                f"{path}: found a video, expected its landmarks; run `spoter extract VIDEO… --out FOLDER` and pass "
                "that folder"
            )
        if ending not in CONTENT_TYPES and ending not in ENDINGS:
            raise SpoterError(f"{path}: found {ending or 'no extension'}, expected {_EXPECTED}")
        yield str(path), ""


def _find_in_folder(
    folder: Path, options: str, skipped: Counter[str], parents: tuple[Path, ...] = ()
) -> Iterator[tuple[str, str]]:
    parents = (*parents, folder.resolve())
    if parents[-1] in parents[:-1]:
        raise SpoterError(f"{folder}: found a link to one of its parent folders; remove it")
    try:
        with os.scandir(folder) as entries:
            content = sorted((entry.name, entry.is_dir()) for entry in entries if not entry.name.startswith("."))
    except OSError as error:
        raise SpoterError(f"{error.filename or folder}: {error.strerror or error}") from error
    if any(name == frame_folders.PICTURE for name, _ in content):
        options = frame_folders.picture_attributes(folder)
    if _holds_frames(folder, [name for name, is_folder in content if not is_folder]):
        yield str(folder), options
        return
    for name, is_folder in content:
        path = folder / name
        ending = path.suffix.lower()
        if is_folder:
            yield from _find_in_folder(path, options, skipped, parents)
        elif ending in CONTENT_TYPES or ending in ENDINGS:
            if not path.is_file():
                raise SpoterError(f"{path}: found a broken link, a pipe or a device, expected a file")
            if name not in _NOT_CLIPS:
                yield str(path), options
        else:
            skipped[ending or "without extension"] += 1


def _holds_frames(folder: Path, names: list[str]) -> bool:
    """Return whether a folder holds one clip's frames, not clips: OpenPose's by name, MMPose's by content."""
    if any(name.endswith(frame_folders.OPENPOSE_ENDING) for name in names):
        return True
    first = next((name for name in names if name.endswith(".json") and name != frame_folders.PICTURE), None)
    return first is not None and (folder / first).is_file() and frame_folders.is_mmpose_frame(folder / first)


def _find_sources(file: str, options: str) -> Iterator[ClipSource]:
    ending = Path(file).suffix.lower()
    if os.path.isdir(file) or ending not in (".jsonl", *ENDINGS):
        yield ClipSource(file, options)
    elif ending == ".jsonl":
        start = 0
        with open(file, "rb") as stream:
            for number, line in enumerate(stream, 1):
                if not line.isspace():  # as in `spoter.formats.json_format.decode_lines`
                    yield ClipSource(file, options, line=number, start=start, size=len(line))
                start += len(line)
    else:
        with open_hdf5(Path(file)) as opened:
            try:
                keys = list(opened)
            except HDF5_ERRORS as error:
                raise DataError(f"{file}: cannot be read as an HDF5 file ({hdf5_error_text(error)})") from error
        yield from (ClipSource(file, group=key) for key in keys)
