"""application/json: one clip in any of its forms, several under ``clips``, a stored video's key, or ``describe``.

What the model's layout does not use is skipped while decoding, so that the face mesh, nine tenths of a browser's
request, costs little where it is not needed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from functools import cache, lru_cache
from typing import Generic, TypeVar

import msgspec
from msgspec import UNSET, Raw, UnsetType

from spoter.error_codes import ErrorCode
from spoter.errors import InputError
from spoter.fewshot.enrolled import EnrolledGlosses
from spoter.fewshot.prototypes import PARTS
from spoter.formats import estimator_frames, plain_points, video_format
from spoter.formats.body_guards import check_numbers, check_utf8, without_collector
from spoter.formats.json_errors import UNKNOWN_FIELD, invalid_json, wrong_type
from spoter.formats.request import DEFAULT_TOP_K, JSON, FramesPerSecond, Options, Pixels, Request, TopK, short
from spoter.formats.skip_face_mesh import without_faces
from spoter.landmarks.clip import Clip
from spoter.landmarks.layouts import Layout
from spoter.limits import Limits

FORMS = (*estimator_frames.KEYS, "points", "clips", "uniqueName")
"""The keys of which a body has exactly one."""
_ALONE = ("clips", "uniqueName")
_OF_THE_REQUEST = ("top_k", "enrolled", "enroll", "describe")

# What decoding makes of a body takes at most so many bytes for each "{" and "[", and for each ",": a list, an object or
# a pair with its place in the list around it, and a number with its own (CPython, 64 bits). Three bytes may make 80.
BRACKET, COMMA = 64, 32
# So many times the bytes of the largest body may be made of one clip. 512 frames of all that MediaPipe finds make half
# of it, and so do ten people in each frame of OpenPose's.
MADE = 4
# A type with a field for each item of a list takes 700 bytes a field: 7 MB for this number. Above it, such as for data
# sets, the whole list is kept: files of that size are the owner's, not a stranger's.
_MOST_FIELDS = 10_000
# As enrolled prototypes may be of another model, and then shall be refused in the right words.
_ROOM_FOR_OTHERS = 2
_ENROLLED = msgspec.json.Decoder(EnrolledGlosses)

_F = TypeVar("_F")
_C = TypeVar("_C")


class _Body(msgspec.Struct, Generic[_F, _C]):
    keypoints: _F | UnsetType = UNSET
    keypoints_list: _F | UnsetType = UNSET
    frames: _F | UnsetType = UNSET
    instance_info: _F | UnsetType = UNSET
    points: Raw | UnsetType = UNSET
    clips: _C | UnsetType = UNSET
    uniqueName: str | UnsetType = UNSET
    layout: int | str | None = None
    estimator: str | None = None
    fps: FramesPerSecond | None = None
    width: Pixels | None = None
    height: Pixels | None = None
    top_k: TopK | None = None
    enrolled: Raw | UnsetType = UNSET
    enroll: str | None = None
    describe: bool | None = None

    def says(self, name: str) -> bool:
        """Tell whether the body has something of `_OF_THE_REQUEST`, and not null."""
        value = getattr(self, name)
        return value is not UNSET and value is not None and value != Raw(b"null")

    def options(self, options: Options) -> Options:
        """Return `options` with what the body says of itself in their places; width and height belong together."""
        plain_points.known_estimator(self.estimator)
        if self.width is not None or self.height is not None:
            options = dataclasses.replace(options, width=self.width, height=self.height)
        return options.override(estimator=self.estimator, fps=self.fps)


def decode(body: bytes, layout: Layout, limits: Limits, options: Options) -> Request:
    """Read a JSON body; as `spoter.formats.decode`."""
    content = _parse(body, layout, limits)
    if content.describe is not None:
        return _description(content.describe, body)
    enrolled = _enrolled(content.enrolled, layout, limits) if content.says("enrolled") else None
    request = _read(content, body, layout, limits, options)
    request.enrolled, request.enroll = enrolled, content.enroll
    return request


def _read(content: _Body, body: bytes, layout: Layout, limits: Limits, options: Options) -> Request:
    """Read the clips of a body."""
    top_k = content.top_k or options.top_k or DEFAULT_TOP_K
    if content.uniqueName is not UNSET:
        _form(content, body)
        options = content.options(options).override(top_k=content.top_k)
        return video_format.take_up(content.uniqueName, layout, limits, options, JSON)
    if content.clips is UNSET:
        return Request([_clip(content, body, layout, limits, options)], False, top_k, JSON)
    _form(content, body)
    raws = content.clips
    if not isinstance(raws, list):
        raws = [raw for raw in msgspec.structs.astuple(raws) if raw is not UNSET]
    limits.check_clips(len(raws))
    options = content.options(options)
    clips: list[Clip | InputError] = []
    for i, raw in enumerate(raws):
        try:
            clips.append(decode_clip(bytes(raw), layout, limits, options))
        except InputError as error:
            clips.append(error.within(f"clip {i}"))
    return Request(clips, True, top_k, JSON)


def decode_clip(body: bytes, layout: Layout, limits: Limits, options: Options) -> Clip:
    """Read one of several clips: any form of one, and without what belongs to a whole request, such as ``top_k``."""
    content = _parse(body, layout, limits)
    for name in _OF_THE_REQUEST:
        if content.says(name):
            raise InputError(
                ErrorCode.MISPLACED_OPTION, "found it in one clip of several, expected it once for all", name
            )
    return _clip(content, body, layout, limits, options)


def to_bytes(body: dict | list | float | None) -> bytes:
    """Write a body that somebody parsed already as JSON again: the one way in stays the bytes.

    Raises
    ------
    InputError
        ``invalid_json`` for NaN, Infinity, and what JSON cannot hold.
    """
    try:
        return json.dumps(body, allow_nan=False).encode()
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(
            ErrorCode.INVALID_JSON, f"JSON cannot hold this: {error}; null marks a missing point"
        ) from error


@cache
def _first(count: int) -> type:
    """Return the type of a list of which at least the first `count` items are kept, undecoded.

    Of up to `_MOST_FIELDS` no more than these are kept: a stranger's list of millions takes no memory.
    """
    if count > _MOST_FIELDS:
        return list[Raw]
    return msgspec.defstruct("_First", [(f"_{i}", Raw | UnsetType, UNSET) for i in range(count)], array_like=True)


@lru_cache(maxsize=8)
def _decoder(frame_type: type[estimator_frames.Frame] | None, max_clips: int) -> msgspec.json.Decoder:
    """Return the decoder of bodies with frames of a type; with None they stay undecoded."""
    found = Raw if frame_type is None else list[frame_type | None]
    return msgspec.json.Decoder(_Body[found, _first(max_clips + 1)])


@cache
def _keys_decoder() -> msgspec.json.Decoder:
    fields = [(name, Raw | UnsetType, UNSET) for name in _Body.__struct_fields__]
    return msgspec.json.Decoder(msgspec.defstruct("_Keys", fields, forbid_unknown_fields=True))


def _parse(body: bytes, layout: Layout, limits: Limits) -> _Body:
    frame_type = estimator_frames.frame_type(layout)
    if frame_type is estimator_frames.Frame:
        # On whatever goes wrong the whole is decoded, for an error in the right words with the right place.
        with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return _decoded(without_faces(body), frame_type, limits)
    try:
        return _decoded(body, frame_type, limits)
    except msgspec.ValidationError as error:
        if not body.lstrip()[:1] == b"{":
            raise InputError(
                ErrorCode.UNKNOWN_FORM,
                'found a JSON body that is no object, expected an object such as {"keypoints": [frame, …]}',
            ) from error
        raise wrong_type(error, estimator_frames.place) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise invalid_json(error, body) from error


def _decoded(body: bytes, frame_type: type[estimator_frames.Frame], limits: Limits) -> _Body:
    """Decode a body, unless what would be made of it is beyond all reason; clips are counted each for itself."""
    check_numbers(body)  # once what is passed over is gone: to count in that takes longer than to decode the rest
    small = _fits_in_memory(body, limits)
    check_utf8(body)  # the decoder looks at the strings it keeps only
    with without_collector():
        content = _decoder(frame_type if small else None, limits.max_clips).decode(body)
    several = content.clips is not UNSET and all(
        getattr(content, key) is UNSET for key in (*estimator_frames.KEYS, "points")
    )
    if small or several:
        return content
    raise InputError(
        ErrorCode.TOO_MANY_VALUES,
        f"found more lists, objects and numbers than a clip of {limits.max_frames} frames can need, expected its "
        "landmarks",
    )


def _fits_in_memory(body: bytes, limits: Limits) -> bool:
    """Tell whether all that could be made of `body` takes no more memory than a clip may, by counting."""
    most = MADE * max(limits.max_bytes, Limits.max_bytes)
    if len(body) * (BRACKET + COMMA) <= 3 * most:  # even of nothing but "[],"
        return True
    return BRACKET * (body.count(b"{") + body.count(b"[")) + COMMA * body.count(b",") <= most


def _enrolled(raw: Raw, layout: Layout, limits: Limits) -> EnrolledGlosses:
    """Read the glosses that a request brings, once their numbers are known not to be too many."""
    text = bytes(raw)
    numbers = (PARTS + 1) * 2 * len(layout)  # of a prototype of this model
    if text.count(b",") > _ROOM_FOR_OTHERS * limits.max_enrolled * (numbers + 3):
        raise InputError(
            ErrorCode.TOO_MANY_ENROLLED,
            f"found more numbers than {limits.max_enrolled} glosses have, expected fewer",
            "enrolled",
        )
    try:
        enrolled = _ENROLLED.decode(text)
    except msgspec.ValidationError as error:
        raise wrong_type(error, estimator_frames.place, ("enrolled",)) from error
    limits.check_enrolled(len(enrolled.glosses))
    return enrolled


def _description(wanted: bool, body: bytes) -> Request:
    """Return the request of a body with the key ``describe``, which stands alone and is true."""
    keys = [key for key in _keys(body) if key != short("describe")]
    if keys:
        raise InputError(ErrorCode.AMBIGUOUS_FORM, f"found {', '.join(keys)} too, expected describe without other keys")
    if not wanted:
        raise InputError(ErrorCode.WRONG_TYPE, "found false, expected true", "describe")
    return Request([], describe=True)


def _keys(body: bytes) -> list[str]:
    """Return the first key of a body that means nothing here or else all that it has, fit to be shown.

    Never all of any body's: there may be millions.
    """
    try:
        known = _keys_decoder().decode(body)
    except msgspec.ValidationError as error:
        return [short(UNKNOWN_FIELD.search(str(error))[1])]
    return [short(key) for key in known.__struct_fields__ if getattr(known, key) is not UNSET]


def _form(content: _Body, body: bytes) -> str:
    """Return the one key of `FORMS` that the body has."""
    here = [key for key in FORMS if getattr(content, key) is not UNSET]
    if len(here) == 1:
        return here[0]
    if here:
        raise InputError(ErrorCode.AMBIGUOUS_FORM, f"found {' and '.join(here)}, expected one of them")
    keys = _keys(body)
    found = f"{'the key' if len(keys) == 1 else 'the keys'} {', '.join(keys)}" if keys else "no keys"
    raise InputError(ErrorCode.UNKNOWN_FORM, f"found {found}, expected one of {', '.join(FORMS)}")


def _clip(content: _Body, body: bytes, layout: Layout, limits: Limits, options: Options) -> Clip:
    form = _form(content, body)
    if form in _ALONE:
        expected = ", ".join(key for key in FORMS if key not in _ALONE)
        raise InputError(ErrorCode.UNKNOWN_FORM, f"found {form} within clips, expected one of {expected}")
    if content.layout is not None:
        plain_points.check_layout(str(content.layout), layout)
    options = content.options(options)
    if form == "points":
        return plain_points.read(content.points, content.layout is not None, layout, limits, options)
    return estimator_frames.read(getattr(content, form), layout, limits, options)
