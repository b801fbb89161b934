"""A source to the request that a client would send for it."""

import io
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np

from spoter.batch.inputs import ClipSource
from spoter.error_codes import ErrorCode
from spoter.errors import InputError, SpoterError
from spoter.formats.request import JSON, JSONLINES, NPY
from spoter.landmarks import connecting_points
from spoter.landmarks.connecting_points import HDF5_ERRORS, hdf5_error_text
from spoter.messages import RawRequest
from spoter.sources import frame_folders
from spoter.sources.clip_files import CONTENT_TYPES

Place = dict[str, object]
"""A clip's place: `file`; in HDF5 `group` and, if present, `name`; `line`; `clip`, its number among several."""


class RequestReader:
    """Reads sources. The last file stays open, because the next source is often in the same file.

    Paths of sources are relative to `root`. `options` are the command line's `top_k`, `width` and `height`; files and
    picture.json override them.
    """

    def __init__(self, root: Path, options: Mapping[str, float | None]):
        self._root = root
        self._options = {name: value for name, value in options.items() if value is not None}
        self._open_files: dict[Path, Any] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for file in self._open_files.values():
            file.close()
        self._open_files.clear()

    def read(self, source: ClipSource) -> tuple[Place, RawRequest | InputError]:
        """Return a clip's place, and its request or, if it is unreadable, its error."""
        place: Place = {"file": _to_text(source.file)}
        try:
            return place, self._read(source, place)
        except InputError as error:
            return place, error
        except SpoterError as error:
            return place, InputError(ErrorCode.UNREADABLE_CLIP, str(error))
        except HDF5_ERRORS as error:
            return place, InputError(ErrorCode.UNREADABLE_CLIP, f"cannot be read ({hdf5_error_text(error)})")

    def _read(self, source: ClipSource, place: Place) -> RawRequest:
        """Return the request for a source; complete its place."""
        path = self._root / source.file
        if source.group is not None:
            return self._read_group(source, source.group, path, place)
        attributes = self._attributes(source)
        if source.line:
            place["line"] = source.line
            stream = self._open(path, lambda path: path.open("rb"))
            stream.seek(source.start)
            return RawRequest(stream.read(source.size), JSONLINES, JSONLINES, attributes)
        if path.is_dir():
            return RawRequest(frame_folders.read_frame_folder(path)[0], JSON, JSONLINES, attributes)
        body, kind = path.read_bytes(), CONTENT_TYPES[path.suffix.lower()]
        if kind == JSON:
            body = frame_folders.wrap_frame_list(body)
        return RawRequest(body, kind, JSONLINES, attributes)

    def _read_group(self, source: ClipSource, key: str, path: Path, place: Place) -> RawRequest:
        place["group"] = _to_text(key)
        group = connecting_points.read_group(self._open(path, connecting_points.open_hdf5), key, ("data",))
        name = group.get("video_name")
        if isinstance(name, h5py.Dataset) and isinstance(name := name[()], bytes):
            place["name"] = name.decode(errors="replace")
        points, estimator = connecting_points.mark_missing(connecting_points.read_points(group))
        body = io.BytesIO()
        np.save(body, points)
        return RawRequest(body.getvalue(), NPY, JSONLINES, self._attributes(source, estimator=estimator.name))

    def _open(self, path: Path, open_path: Callable[[Path], Any]) -> Any:
        if path not in self._open_files:
            self.__exit__()
            self._open_files[path] = open_path(path)
        return self._open_files[path]

    def _attributes(self, source: ClipSource, **more: str) -> str:
        picture = dict(pair.split("=") for pair in source.options.split(",") if pair)
        return ",".join(f"{name}={value}" for name, value in (self._options | picture | more).items())


def _to_text(name: str) -> str:
    """Return the name of a file with escapes for bytes that are not UTF-8."""
    return os.fsencode(name).decode(errors="backslashreplace")
