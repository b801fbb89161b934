"""Clips of any kind -> the bodies of requests, as small as they can be without changing an answer."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from spoter.client.results import Enrolment
from spoter.error_codes import ErrorCode
from spoter.errors import InputError, SpoterError
from spoter.fewshot.enrolled import EnrolledGlosses
from spoter.formats import Options
from spoter.formats.plain_points import names_of_size
from spoter.formats.request import JSON, check_option, finish_clip
from spoter.landmarks.clip import Clip, masked_to_nan, round_points
from spoter.landmarks.layouts import Layout, load_layout
from spoter.messages import RawRequest
from spoter.sources.clip_files import read_clips

# A ten-thousandth of the picture: a fifth of a pixel of 1080p, far below what an estimator is sure of.
DECIMALS = 4

Signs = Enrolment | EnrolledGlosses
"""What `enroll` returned, or what a model folder's enrolled.json holds."""

_OF_OTHERS = {"clips": "predict_many", "enroll": "enroll", "describe": "describe"}
_ENVELOPE = 64  # bytes that {"clips":[…],"top_k":…} takes beside clips and enrolled signs


@dataclass(frozen=True)
class Said(Options):
    """What a caller says about clips: `Options`, and the layout that arrays are in already."""

    layout: str | int | None = None

    def __post_init__(self) -> None:
        for name in ("top_k", "width", "height", "fps"):
            check_option(name, getattr(self, name))

    def needs_table(self, clip: object) -> bool:
        """Tell whether the model's layout has to be known before `clip` can be written."""
        return self.layout is None and not isinstance(clip, Mapping)

    def table(self, model: Layout | None) -> Layout:
        """Return the layout that clips are sent in: the one that was said, or else the model's."""
        return model if self.layout is None else load_layout(str(self.layout))


def one(clip: Any, said: Said, table: Layout | None, enrolled: Signs | None) -> RawRequest:
    """Return the request for one clip.

    Parameters
    ----------
    clip : array_like (T, K, 2), Clip, mapping, str or path
    said : Said
        `top_k` among it.
    table : Layout or None
        The model's; may be None where `said.needs_table` tells so.
    enrolled : Enrolment, EnrolledGlosses or None

    Raises
    ------
    InputError
        For a clip that cannot be used.
    SpoterError
        For a file that cannot be read or holds several clips.
    """
    document = _document(clip, said, table)
    for key, method in _OF_OTHERS.items():
        if key in document:
            raise SpoterError(f"found {key} in the document, expected one clip: {method} is for that, or send")
    return RawRequest(_written(document | _top(said, enrolled)), JSON)


def enrolling(gloss: str, clips: Iterable[Any], said: Said, table: Layout | None, enrolled: Signs | None) -> RawRequest:
    """Return the request to learn `gloss` from clips; raises as `one`, naming the clip."""
    written = [msgspec.Raw(_located(clip, i, said, table)) for i, clip in enumerate(_several(clips, said, table))]
    if not isinstance(gloss, str):
        raise InputError(ErrorCode.BAD_GLOSS, f"found {type(gloss).__name__} for a gloss, expected a name for the sign")
    document = {"enroll": gloss, "clips": written} | _top(replace(said, top_k=None), enrolled)
    return RawRequest(_written(document), JSON)


@dataclass(frozen=True)
class Batch:
    """A request of several clips, and the numbers of those it holds."""

    call: RawRequest
    numbers: tuple[int, ...]


def batches(
    clips: Iterable[Any],
    said: Said,
    table: Layout | None,
    enrolled: Signs | None,
    max_clips: int,
    max_bytes: int,
    bad: dict[int, InputError],
) -> Iterator[Batch]:
    """Write clips into as few requests as the limits allow, one after another as they are asked for.

    A clip that is too large by itself goes alone: it is the server's to refuse. One that cannot be used is left out,
    and its error put into `bad` under its number.
    """
    top = _top(said, enrolled)
    room = max_bytes - _ENVELOPE - len(_written(top))
    held: list[msgspec.Raw] = []
    numbers: list[int] = []
    size = 0
    for i, clip in enumerate(_several(clips, said, table)):
        try:
            written = msgspec.Raw(_located(clip, i, said, table))
        except InputError as error:
            bad[i] = error
            continue
        length = len(memoryview(written)) + 1
        if held and (len(held) == max_clips or size + length > room):
            yield Batch(_together(held, top), tuple(numbers))
            held, numbers, size = [], [], 0
        held.append(written)
        numbers.append(i)
        size += length
    if held:
        yield Batch(_together(held, top), tuple(numbers))


def _together(clips: Sequence[msgspec.Raw], top: dict) -> RawRequest:
    return RawRequest(_written({"clips": clips, **top}), JSON)


def _top(said: Said, enrolled: Signs | None) -> dict:
    """Return what stands once in a request, beside its clip or clips."""
    top: dict[str, object] = {} if said.top_k is None else {"top_k": said.top_k}
    if enrolled is not None:
        top["enrolled"] = enrolled.enrolled if isinstance(enrolled, Enrolment) else enrolled
    return top


def _several(clips: Iterable[Any], said: Said, table: Layout | None) -> Iterable[Any]:
    """Return clips one by one; a path in place of several is that of a file which holds them."""
    if isinstance(clips, str | os.PathLike):
        return read_clips([Path(clips)], said.table(table), _options(said))
    if isinstance(clips, Mapping | Clip) or (isinstance(clips, np.ndarray) and clips.ndim == 3):
        raise SpoterError("found one clip, expected several: put it into a list")
    return clips


def _located(clip: Any, number: int, said: Said, table: Layout | None) -> bytes:
    """Write one clip of several; its errors name it."""
    try:
        return _written(_document(clip, replace(said, top_k=None), table))
    except InputError as error:
        raise error.within(f"clip {number}") from None


def _document(clip: Any, said: Said, table: Layout | None) -> dict:
    """Return one clip as JSON's own types; `top_k` is left out."""
    if isinstance(clip, Mapping):
        words = {name: value for name, value in asdict(said).items() if value is not None and name != "top_k"}
        return dict(clip) | words
    table = said.table(table)
    if isinstance(clip, str | os.PathLike):
        found = read_clips([Path(clip)], table, _options(said))
        if len(found) != 1:
            raise SpoterError(f"{clip}: found {len(found)} clips, expected one: predict_many takes several")
        (clip,) = found
    elif not isinstance(clip, Clip):
        clip = _from_array(clip, said, table)
    return _compact(clip, table)


def _from_array(array: Any, said: Said, table: Layout) -> Clip:
    points = _numbers(array)
    if points.ndim != 3 or points.shape[2] != 2:
        raise InputError(ErrorCode.WRONG_SHAPE, f"found an array of shape {points.shape}, expected (frames, points, 2)")
    if said.layout is None:
        names, estimator = names_of_size(points.shape[1], table, said.estimator)
    elif points.shape[1] == len(table):
        names, estimator = table.names, said.estimator
    else:
        raise InputError(
            ErrorCode.WRONG_POINT_COUNT,
            f"found {points.shape[1]} points a frame, expected {len(table)} (layout {table.name})",
        )
    return finish_clip(points, names, estimator, table, _options(said))


def _numbers(array: Any) -> np.ndarray:
    """Return what a caller hands over as an array of float64, None and what is masked as NaN."""
    try:
        points = np.asarray(masked_to_nan(array))
        if points.dtype.kind in "fiuO":
            return points.astype(np.float64)
    except (TypeError, ValueError, RecursionError):  # ragged lists, and what is no number
        pass
    raise InputError(
        ErrorCode.WRONG_TYPE,
        f"found {type(array).__name__} that is no array of numbers, expected (frames, points, 2) of them",
    )


def _options(said: Said) -> Options:
    return Options(None, said.width, said.height, said.estimator, said.fps)


def _compact(clip: Clip, table: Layout) -> dict:
    """Return the layout's points only; an estimator's whole array where the layout's table is not known for it."""
    document: dict[str, object] = {}
    try:
        points = table.select(clip)
        document["layout"] = table.name
    except InputError:
        if clip.estimator is None:
            raise
        points = clip.points
        document["estimator"] = clip.estimator
    if clip.fps is not None:
        document["fps"] = clip.fps
    return document | {"points": nested(points)}


def nested(points: np.ndarray) -> list:
    """Return points, (T, K, 2), as lists of lists: rounded to `DECIMALS`, None for a point that is missing."""
    missing = np.isnan(points).any(axis=2)
    frames = round_points(points, DECIMALS).tolist()
    for frame, column in np.argwhere(missing):
        frames[frame][column] = None
    return frames


def _written(document: dict) -> bytes:
    """Write JSON; ``wrong_type`` for what it cannot hold."""
    try:
        return msgspec.json.encode(document, enc_hook=_plain)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(ErrorCode.WRONG_TYPE, f"{error}; expected what JSON can hold") from None


def _plain(value: object) -> object:
    """Write what a caller's own document may hold beside JSON's types."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()  # msgspec writes NaN as null
    raise TypeError(f"found {type(value).__name__} in a clip")
