"""What there is to answer: paths -> pieces, one for each clip or file of clips, in an order that stays -> parts.

Nothing of a clip is read here. A piece says where its landmarks are, so that whoever answers it, in whatever process,
reads them there.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import msgspec

from spoter.errors import DataError, SpoterError
from spoter.landmarks.connecting_points import ENDINGS, HDF5_ERRORS, hdf5_error_text, open_hdf5
from spoter.sources import frame_folders
from spoter.sources.clip_files import TYPES
from spoter.video.reader import VIDEO_SUFFIXES

_LINES = ".jsonl"
_EXPECTED = f"{', '.join((*TYPES, *ENDINGS))}, or a folder of them"
# A part is answered by one worker and kept whole: what a worker that is killed loses, and how often the bar moves.
_MOST_PIECES = 512
# Of few pieces a part holds fewer, so that there are enough parts for all workers.
_FEWEST_PIECES, _PARTS = 16, 32
# Of a data set's folder, beside the clips: `spoter.training.data.folder`.
_NO_CLIPS = (frame_folders.PICTURE, "groups.csv")


class Piece(msgspec.Struct, frozen=True, array_like=True):
    """Where landmarks are: a whole file or folder of frames, a group of an HDF5 file, or a line of JSON Lines.

    Attributes
    ----------
    file : str
        As it was given, or found in a folder that was given.
    said : str
        What the nearest picture.json says, as ``width=1280,height=720``: that of the folder, or of one above it.
    group : str or None
    line : int
        From 1; 0 for what is no line.
    start, size : int
        Bytes of that line in the file.
    """

    file: str
    said: str = ""
    group: str | None = None
    line: int = 0
    start: int = 0
    size: int = 0


@dataclass(frozen=True)
class Part:
    """Pieces that are answered together, and their place among all."""

    number: int
    pieces: list[Piece]


@dataclass
class Survey:
    """What paths hold, counted without reading it.

    Attributes
    ----------
    pieces : int
    digest : str
        SHA-256 of the files' paths, sizes and times: another one means that something was changed.
    left_out : Counter
        Endings of files in folders that hold no clip, and how many there are of each.
    """

    pieces: int = 0
    digest: str = ""
    left_out: Counter[str] = field(default_factory=Counter)

    @property
    def part_size(self) -> int:
        """Pieces in a part: told by how many there are in all, so that a run that goes on cuts as the first did."""
        return max(_FEWEST_PIECES, min(_MOST_PIECES, self.pieces // _PARTS))


def survey(paths: Sequence[Path], tick: Callable[[int], object] = lambda pieces: None) -> Survey:
    """Count what is to be answered.

    Parameters
    ----------
    paths : sequence of Path
    tick : callable
        Is told, file after file, how many pieces were found in it.

    Raises
    ------
    SpoterError
        For a path given that is not there or holds no landmarks, a folder that cannot be read or holds a link to one
        above it, what is named as a clip but is no file, and nothing at all.
    DataError
        For an HDF5 file that cannot be read.
    """
    found, digest = Survey(), hashlib.sha256()
    for file, said in _files(paths, found.left_out):
        frames = sorted(os.listdir(file)) if os.path.isdir(file) else ()
        for path in (file, *(os.path.join(file, name) for name in frames)):
            state = os.stat(path)
            digest.update(msgspec.msgpack.encode((os.fsencode(path), said, state.st_size, state.st_mtime_ns)))
        count = sum(1 for _ in _pieces(file, said))
        found.pieces += count
        tick(count)
    if not found.pieces:
        raise SpoterError(f"{', '.join(map(str, paths))}: found no clip, expected {_EXPECTED}")
    found.digest = digest.hexdigest()
    return found


def parts(paths: Sequence[Path], size: int) -> Iterator[Part]:
    """Yield all pieces, `size` in a part but the last; raises as `survey`."""
    pieces = (piece for file, said in _files(paths, Counter()) for piece in _pieces(file, said))
    number = 0
    while some := list(islice(pieces, size)):
        yield Part(number, some)
        number += 1


def _files(paths: Sequence[Path], left_out: Counter[str]) -> Iterator[tuple[str, str]]:
    """Yield files, and folders that are one clip's frames; with each what a picture.json says."""
    for path in paths:
        if path.is_dir():
            yield from _in_folder(path, "", left_out)
            continue
        if not path.is_file():
            raise SpoterError(f"{path}: found no such file or folder, expected {_EXPECTED}")
        ending = path.suffix.lower()
        if ending in VIDEO_SUFFIXES:
            raise SpoterError(
                f"{path}: found a video, expected its landmarks: `spoter extract VIDEO… --out FOLDER` finds them, then "
                "give that folder"
            )
        if ending not in TYPES and ending not in ENDINGS:
            raise SpoterError(f"{path}: found {ending or 'no ending'}, expected {_EXPECTED}")
        yield str(path), ""


def _in_folder(
    folder: Path, said: str, left_out: Counter[str], above: tuple[Path, ...] = ()
) -> Iterator[tuple[str, str]]:
    above = (*above, folder.resolve())
    if above[-1] in above[:-1]:
        raise SpoterError(f"{folder}: found a link to a folder that it lies in, expected clips: they would never end")
    try:
        with os.scandir(folder) as entries:
            there = sorted((entry.name, entry.is_dir()) for entry in entries if not entry.name.startswith("."))
    except OSError as error:
        raise SpoterError(f"{error.filename or folder}: {error.strerror or error}") from error
    if any(name == frame_folders.PICTURE for name, _ in there):
        said = _said(folder)
    if _is_of_frames(folder, [name for name, is_folder in there if not is_folder]):
        yield str(folder), said
        return
    for name, is_folder in there:
        path = folder / name
        ending = path.suffix.lower()
        if is_folder:
            yield from _in_folder(path, said, left_out, above)
        elif ending in TYPES or ending in ENDINGS:
            if not path.is_file():
                raise SpoterError(f"{path}: found a link to nothing, a pipe or a device, expected a file")
            if name not in _NO_CLIPS:
                yield str(path), said
        else:
            left_out[ending or "no ending"] += 1


def _is_of_frames(folder: Path, names: list[str]) -> bool:
    """Tell whether a folder holds the frames of one clip, and not clips: OpenPose's by name, MMPose's by content."""
    if any(name.endswith(frame_folders.OPENPOSE_ENDING) for name in names):
        return True
    first = next((name for name in names if name.endswith(".json") and name != frame_folders.PICTURE), None)
    return first is not None and (folder / first).is_file() and frame_folders.is_picture(folder / first)


def _said(folder: Path) -> str:
    options = frame_folders.picture(folder)
    sizes = {"width": options.width, "height": options.height, "fps": options.fps}
    return ",".join(f"{name}={value!r}" for name, value in sizes.items() if value is not None)


def _pieces(file: str, said: str) -> Iterator[Piece]:
    ending = Path(file).suffix.lower()
    if os.path.isdir(file) or ending not in (_LINES, *ENDINGS):
        yield Piece(file, said)
    elif ending == _LINES:
        yield from _lines(file, said)
    else:
        yield from _groups(file)


def _lines(file: str, said: str) -> Iterator[Piece]:
    start = 0
    with open(file, "rb") as stream:
        for number, line in enumerate(stream, 1):
            if not line.isspace():  # as `spoter.formats.jsonlines_format`
                yield Piece(file, said, line=number, start=start, size=len(line))
            start += len(line)


def _groups(file: str) -> Iterator[Piece]:
    with open_hdf5(Path(file)) as opened:
        try:
            keys = list(opened)
        except HDF5_ERRORS as error:
            raise DataError(f"{file}: cannot be read as an HDF5 file ({hdf5_error_text(error)})") from error
    for key in keys:
        yield Piece(file, group=key)
