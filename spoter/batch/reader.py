"""A piece -> the request that a client would send for it."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from spoter.batch.inputs import Piece
from spoter.error_codes import ErrorCode
from spoter.errors import InputError, SpoterError
from spoter.formats import JSON
from spoter.formats.request import JSONLINES, NPY
from spoter.landmarks.connecting_points import (
    HDF5_ERRORS,
    hdf5_error_text,
    mark_missing,
    open_hdf5,
    read_group,
    read_points,
)
from spoter.messages import RawRequest
from spoter.sources import frame_folders
from spoter.sources.clip_files import TYPES

Place = dict[str, object]
"""Where a clip is, as its answer says: `file`; `group` and, where it has one, `name`; `line`; `clip` of several."""


def place_of(piece: Piece) -> Place:
    """Return a piece's place; a name of a file that is not UTF-8 with the bytes written out."""
    place: Place = {"file": _printable(piece.file)}
    if piece.group is not None:
        place["group"] = _printable(piece.group)
    if piece.line:
        place["line"] = piece.line
    return place


class Reader:
    """Reads pieces; the file that was read last stays open, for the next piece is often of the same.

    Parameters
    ----------
    root : Path
        What paths of pieces are relative to.
    said : mapping
        `top_k`, `width` and `height` as the command line says them; what files and picture.json say goes before.
    """

    def __init__(self, root: Path, said: dict[str, float | None]):
        self._root = root
        self._said = {name: value for name, value in said.items() if value is not None}
        self._open: tuple[str, Any] | None = None

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *error: object) -> None:
        if self._open is not None:
            self._open[1].close()
            self._open = None

    def read(self, piece: Piece) -> tuple[Place, RawRequest | InputError]:
        """Return where a clip is, and the request for it; an error in the place of what cannot be read."""
        place, path = place_of(piece), self._root / piece.file
        with _unreadable() as caught:
            if piece.group is not None:
                return place, self._group(piece, path, place)
            attributes = self._attributes(piece)
            if piece.line:
                stream = self._opened(path, lambda: path.open("rb"))
                stream.seek(piece.start)
                return place, RawRequest(stream.read(piece.size), JSONLINES, JSONLINES, attributes)
            return place, RawRequest(*_body(path), JSONLINES, attributes)
        return place, caught[0]

    def _group(self, piece: Piece, path: Path, place: Place) -> RawRequest:
        file = self._opened(path, lambda: open_hdf5(path))
        group = read_group(file, piece.group, ("data",))
        name = group.get("video_name")
        if isinstance(name, h5py.Dataset) and isinstance(name := name[()], bytes):
            place["name"] = name.decode(errors="replace")
        points, estimator = mark_missing(read_points(group))
        body = io.BytesIO()
        np.save(body, points)
        return RawRequest(body.getvalue(), NPY, JSONLINES, self._attributes(piece, estimator=estimator.name))

    def _opened(self, path: Path, open_it: Callable[[], Any]) -> Any:
        if self._open is None or self._open[0] != str(path):
            self.__exit__()
            self._open = (str(path), open_it())
        return self._open[1]

    def _attributes(self, piece: Piece, **more: str) -> str:
        said = dict(pair.split("=") for pair in piece.said.split(",") if pair)
        return ",".join(f"{name}={value}" for name, value in (self._said | said | more).items())


def _body(path: Path) -> tuple[bytes, str]:
    """Return a file's bytes, or the body that a folder's frames amount to, and its content type."""
    if path.is_dir():
        return frame_folders.read(path)[0], JSON
    body, kind = path.read_bytes(), TYPES[path.suffix.lower()]
    return (frame_folders.wrap(body) if kind == JSON else body), kind


@contextmanager
def _unreadable() -> Iterator[list[InputError]]:
    """Catch what is wrong with one clip, as the error that is its answer."""
    caught: list[InputError] = []
    try:
        yield caught
    except InputError as error:
        caught.append(error)
    except SpoterError as error:
        caught.append(InputError(ErrorCode.UNREADABLE_CLIP, str(error)))
    except HDF5_ERRORS as error:
        caught.append(InputError(ErrorCode.UNREADABLE_CLIP, f"cannot be read ({hdf5_error_text(error)})"))


def _printable(text: str) -> str:
    return os.fsencode(text).decode(errors="backslashreplace")
