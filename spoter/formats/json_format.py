"""application/json: one clip in any of its forms, several under ``clips``, a stored video's key, or ``describe``.

What the model's layout does not use is skipped while decoding, so that the face mesh, nine tenths of a browser's
request, costs little where it is not needed.
"""

from __future__ import annotations

import dataclasses
import json
from functools import lru_cache
from typing import Generic, TypeVar

import msgspec
from msgspec import UNSET, Raw, UnsetType

from spoter.clip import Clip
from spoter.enrolled import EnrolledGlosses
from spoter.errors import InputError
from spoter.formats import frames, points_form, video_format
from spoter.formats.json_errors import invalid_json, wrong_type
from spoter.formats.request import DEFAULT_TOP_K, JSON, FramesPerSecond, Limits, Options, Pixels, Request, TopK, short
from spoter.layouts import Layout

FORMS = (*frames.KEYS, "points", "clips", "uniqueName")
"""The keys of which a body has exactly one."""
_ALONE = ("clips", "uniqueName")
_OF_THE_REQUEST = ("top_k", "enrolled", "enroll", "describe")

_F = TypeVar("_F")


class _Body(msgspec.Struct, Generic[_F]):
    keypoints: list[_F | None] | UnsetType = UNSET
    keypoints_list: list[_F | None] | UnsetType = UNSET
    frames: list[_F | None] | UnsetType = UNSET
    instance_info: list[_F | None] | UnsetType = UNSET
    points: Raw | UnsetType = UNSET
    clips: list[Raw] | UnsetType = UNSET
    uniqueName: str | UnsetType = UNSET  # noqa: N815  the original's
    layout: int | str | None = None
    estimator: str | None = None
    fps: FramesPerSecond | None = None
    width: Pixels | None = None
    height: Pixels | None = None
    top_k: TopK | None = None
    enrolled: EnrolledGlosses | None = None
    enroll: str | None = None
    describe: bool | None = None

    def options(self, options: Options) -> Options:
        """Return `options` with what the body says of itself in their places; width and height belong together."""
        points_form.known_estimator(self.estimator)
        if self.width is not None or self.height is not None:
            options = dataclasses.replace(options, width=self.width, height=self.height)
        return options.override(estimator=self.estimator, fps=self.fps)


def decode(body: bytes, layout: Layout, limits: Limits, options: Options) -> Request:
    """Read a JSON body; as `spoter.formats.decode`."""
    content = _parse(body, layout)
    if content.describe is not None:
        return _description(content.describe, body)
    if content.enrolled is not None:
        limits.check_enrolled(len(content.enrolled.glosses))
    request = _read(content, body, layout, limits, options)
    request.enrolled, request.enroll = content.enrolled, content.enroll
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
    limits.check_clips(len(content.clips))
    options = content.options(options)
    clips: list[Clip | InputError] = []
    for i, raw in enumerate(content.clips):
        try:
            clips.append(decode_clip(bytes(raw), layout, limits, options))
        except InputError as error:
            clips.append(error.within(f"clip {i}"))
    return Request(clips, True, top_k, JSON)


def decode_clip(body: bytes, layout: Layout, limits: Limits, options: Options) -> Clip:
    """Read one of several clips: any form of one, and without what belongs to a whole request, such as ``top_k``."""
    content = _parse(body, layout)
    for name in _OF_THE_REQUEST:
        if getattr(content, name) is not None:
            raise InputError("misplaced_option", "found it in one clip of several, expected it once for all", name)
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
        raise InputError("invalid_json", f"JSON cannot hold this: {error}; null marks a missing point") from error


@lru_cache(maxsize=2)
def _decoder(frame_type: type[frames.Frame]) -> msgspec.json.Decoder:
    return msgspec.json.Decoder(_Body[frame_type])


def _parse(body: bytes, layout: Layout) -> _Body:
    try:
        if not body.isascii():
            body.decode()  # the decoder looks at the strings it keeps only
        return _decoder(frames.frame_type(layout)).decode(body)
    except msgspec.ValidationError as error:
        if not body.lstrip()[:1] == b"{":
            raise InputError(
                "unknown_form",
                'found a JSON body that is no object, expected an object such as {"keypoints": [frame, …]}',
            ) from error
        raise wrong_type(error, frames.place) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise invalid_json(error, body) from error


def _description(wanted: bool, body: bytes) -> Request:
    """Return the request of a body with the key ``describe``, which stands alone and is true."""
    keys = _keys(body)
    if len(keys) > 1:
        raise InputError("ambiguous_form", f"found {', '.join(keys[:8])}, expected describe without other keys")
    if not wanted:
        raise InputError("wrong_type", "found false, expected true", "describe")
    return Request([], describe=True)


def _keys(body: bytes) -> list[str]:
    """Return the keys of a body, fit to be shown."""
    return [short(key) for key in msgspec.json.decode(body, type=dict[str, Raw])]


def _form(content: _Body, body: bytes) -> str:
    """Return the one key of `FORMS` that the body has."""
    here = [key for key in FORMS if getattr(content, key) is not UNSET]
    if len(here) == 1:
        return here[0]
    if here:
        raise InputError("ambiguous_form", f"found {' and '.join(here)}, expected one of them")
    keys = _keys(body)
    found = f"the keys {', '.join(keys[:8])}{', …' if len(keys) > 8 else ''}" if keys else "no keys"
    raise InputError("unknown_form", f"found {found}, expected one of {', '.join(FORMS)}")


def _clip(content: _Body, body: bytes, layout: Layout, limits: Limits, options: Options) -> Clip:
    form = _form(content, body)
    if form in _ALONE:
        expected = ", ".join(key for key in FORMS if key not in _ALONE)
        raise InputError("unknown_form", f"found {form} within clips, expected one of {expected}")
    if content.layout is not None:
        points_form.check_layout(str(content.layout), layout)
    options = content.options(options)
    if form == "points":
        return points_form.read(content.points, content.layout is not None, layout, limits, options)
    return frames.read(getattr(content, form), layout, limits, options)
