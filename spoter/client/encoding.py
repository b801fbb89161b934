"""Clips of all kinds to request bodies that are as small as possible without changing an answer."""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypedDict

import msgspec
import numpy as np
import numpy.typing as npt

from spoter.client.results import Enrolment
from spoter.error_codes import ErrorCode
from spoter.errors import InputError, SpoterError
from spoter.fewshot.enrolled import EnrolledGlosses
from spoter.formats import Options
from spoter.formats.plain_points import names_of_size
from spoter.formats.request import JSON, check_option, finish_clip
from spoter.formats.response import Prediction
from spoter.landmarks.clip import Clip, masked_to_nan, round_points
from spoter.landmarks.layouts import Layout
from spoter.messages import RawRequest
from spoter.sources.clip_files import read_clips

ClipLike = npt.ArrayLike | Clip | Mapping[str, Any] | os.PathLike[str]
"""Points (T, K, 2), NaN = missing; a `Clip`; the JSON of a request; or the path of a file with one clip."""
ClipsLike = Iterable[ClipLike] | str | os.PathLike[str]
EnrolledLike = Enrolment | EnrolledGlosses
"""The result of `enroll`, or the content of a model folder's enrolled.json."""

_DECIMALS = 4  # a ten-thousandth of the picture is a fifth of a pixel in 1080p: far finer than an estimator's precision
_OTHER_METHODS = {"clips": "predict_many", "enroll": "enroll", "describe": "describe"}
_ENVELOPE_BYTES = 64  # for {"clips":[…],"top_k":…} without the clips and enrolled glosses


class ClipOptions(TypedDict, total=False):
    """Options of one clip, or of all clips of a call.

    `enrolled` is the result of `enroll`: glosses to choose from in addition to the model's; in a call of `enroll`,
    glosses to keep in its result. `top_k` is the number of glosses in an answer, by default 5. `layout` is the layout
    of arrays; clips and files are sent in it, too. `estimator` is the source of the landmarks: mediapipe, openpose or
    wholepose. By default, an array's number of points determines its estimator or layout (docs/formats.md). `fps` is
    the number of frames per second. `width` and `height` are the size of the picture, for points in pixels.
    """

    enrolled: EnrolledLike | None
    top_k: int
    layout: str | int
    estimator: str
    fps: float
    width: float
    height: float


@dataclass(frozen=True)
class CheckedOptions(Options):
    """Checked `ClipOptions`; creation raises ``wrong_type`` for an invalid value."""

    layout: str | int | None = None
    enrolled: EnrolledLike | None = None

    def __post_init__(self) -> None:
        for name in ("top_k", "width", "height", "fps"):
            check_option(name, getattr(self, name))

    def clip_options(self) -> Options:
        """Return the options that belong to a clip rather than to the request."""
        return Options(None, self.width, self.height, self.estimator, self.fps)

    def merge_into(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Return a caller's document with the options of the clip added."""
        values = asdict(self.clip_options()) | {"layout": self.layout}
        return dict(document) | {name: value for name, value in values.items() if value is not None}

    def request_keys(self) -> dict[str, object]:
        """Return the keys that a request has once, for all clips."""
        keys: dict[str, object] = {} if self.top_k is None else {"top_k": self.top_k}
        if self.enrolled is not None:
            keys["enrolled"] = self.enrolled.enrolled if isinstance(self.enrolled, Enrolment) else self.enrolled
        return keys


def encode_one(document: dict[str, Any], options: CheckedOptions) -> RawRequest:
    """Return the request for one clip; raise `SpoterError` if the document is another kind of request."""
    for key, method in _OTHER_METHODS.items():
        if key in document:
            raise SpoterError(f"found {key!r} in the document, expected one clip; use {method} or send")
    return RawRequest(_to_json(document | options.request_keys()), JSON)


def to_document(clip: ClipLike, options: CheckedOptions, layout: Layout) -> dict[str, Any]:
    """Return one clip as a JSON document, without `top_k`.

    Raise `InputError` for an unusable clip, `SpoterError` for a file that is unreadable or holds several clips.
    """
    if isinstance(clip, Mapping):
        return options.merge_into(clip)
    if isinstance(clip, str | os.PathLike):
        clips = read_clips([Path(clip)], layout, options.clip_options())
        if len(clips) != 1:
            raise SpoterError(f"{clip}: found {len(clips)} clips, expected one; use predict_many")
        clip = clips[0]
    elif not isinstance(clip, Clip):
        clip = _from_array(clip, options, layout)
    return _to_compact(clip, layout)


def encode_enrolment(gloss: str, clips: ClipsLike, options: CheckedOptions, layout: Layout) -> RawRequest:
    """Return the request to learn `gloss`; raise the errors of `to_document`, with the clip's number."""
    encoded = [msgspec.Raw(_encode_numbered(clip, i, options, layout)) for i, clip in _iterate(clips, options, layout)]
    if not isinstance(gloss, str):
        raise InputError(ErrorCode.BAD_GLOSS, f"found {type(gloss).__name__} as gloss, expected the sign's name, a str")
    return RawRequest(_to_json({"enroll": gloss, "clips": encoded} | replace(options, top_k=None).request_keys()), JSON)


def encode_batches(
    clips: ClipsLike,
    options: CheckedOptions,
    layout: Layout,
    max_clips: int,
    max_bytes: int,
    results: dict[int, Prediction | InputError],
) -> Iterator[tuple[list[int], RawRequest]]:
    """Yield as few requests as the limits allow, each with its clips' numbers; encode clips only when needed.

    A clip that is larger than `max_bytes` gets a separate request, which the server refuses. An unusable clip is
    skipped; its error is added to `results` under its number.
    """
    shared = options.request_keys()
    room = max_bytes - _ENVELOPE_BYTES - len(_to_json(shared))
    batch: dict[int, msgspec.Raw] = {}
    size = 0

    def finish() -> tuple[list[int], RawRequest]:
        return list(batch), RawRequest(_to_json({"clips": list(batch.values()), **shared}), JSON)

    for i, clip in _iterate(clips, options, layout):
        try:
            encoded = _encode_numbered(clip, i, options, layout)
        except InputError as error:
            results[i] = error
            continue
        if batch and (len(batch) == max_clips or size + len(encoded) + 1 > room):
            yield finish()
            batch, size = {}, 0
        batch[i] = msgspec.Raw(encoded)
        size += len(encoded) + 1
    if batch:
        yield finish()


def _iterate(clips: ClipsLike, options: CheckedOptions, layout: Layout) -> Iterator[tuple[int, ClipLike]]:
    """Yield clips with their numbers; read the clips if a path is given."""
    if isinstance(clips, str | os.PathLike):
        clips = read_clips([Path(clips)], layout, options.clip_options())
    elif isinstance(clips, Mapping | Clip) or (isinstance(clips, np.ndarray) and clips.ndim == 3):
        raise SpoterError("found one clip, expected several; put it into a list")
    yield from enumerate(clips)


def _encode_numbered(clip: ClipLike, number: int, options: CheckedOptions, layout: Layout) -> bytes:
    try:
        return _to_json(to_document(clip, options, layout))
    except InputError as error:
        raise error.within(f"clip {number}") from None


def _from_array(array: npt.ArrayLike, options: CheckedOptions, layout: Layout) -> Clip:
    points = _to_floats(array)
    if points.ndim != 3 or points.shape[2] != 2:
        raise InputError(ErrorCode.WRONG_SHAPE, f"found an array of shape {points.shape}, expected (frames, points, 2)")
    if options.layout is None:
        names, estimator = names_of_size(points.shape[1], layout, options.estimator)
    elif points.shape[1] == len(layout):
        names, estimator = layout.names, options.estimator
    else:
        raise InputError(
            ErrorCode.WRONG_POINT_COUNT,
            f"found {points.shape[1]} points per frame, expected {len(layout)} (layout {layout.name})",
        )
    return finish_clip(points, names, estimator, layout, options.clip_options())


def _to_floats(array: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return a caller's array as float64, with NaN for None and masked values."""
    try:
        points = np.asarray(masked_to_nan(array))
        if points.dtype.kind in "fiuO":
            return points.astype(np.float64)
    except (TypeError, ValueError, RecursionError):  # ragged lists, and values that are not numbers
        pass
    raise InputError(
        ErrorCode.WRONG_TYPE,
        f"found {type(array).__name__}, expected an array of numbers of shape (frames, points, 2)",
    )


def _to_compact(clip: Clip, layout: Layout) -> dict[str, Any]:
    """Return only the layout's points, or the estimator's whole array if the layout does not know its indices."""
    document: dict[str, Any] = {}
    try:
        points = layout.select(clip)
        document["layout"] = layout.name
    except InputError:
        if clip.estimator is None:
            raise
        points = clip.points
        document["estimator"] = clip.estimator
    if clip.fps is not None:
        document["fps"] = clip.fps
    return document | {"points": points_to_json(points)}


def points_to_json(points: npt.NDArray[np.floating]) -> list[list[list[float] | None]]:
    """Return points, (T, K, 2), as lists of lists: rounded to 4 decimals, None for a missing point."""
    frames: list[list[list[float] | None]] = round_points(points, _DECIMALS).tolist()
    for frame, column in np.argwhere(np.isnan(points).any(axis=2)):
        frames[frame][column] = None
    return frames


def _to_json(document: dict[str, Any]) -> bytes:
    """Encode JSON; raise ``wrong_type`` for a value that JSON cannot hold."""
    try:
        return msgspec.json.encode(document, enc_hook=_numpy_to_json)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(ErrorCode.WRONG_TYPE, f"{error}, expected a value that JSON can hold") from None


def _numpy_to_json(value: object) -> object:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()  # msgspec writes NaN as null
    raise TypeError(f"found {type(value).__name__} in a clip")
