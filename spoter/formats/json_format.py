"""application/json: one clip in any form, several clips under ``clips``, a stored video's key, or ``describe``.

Also application/jsonlines: one clip per line, each in any form of a single clip.

Landmarks that the model's layout does not use are skipped. This makes an unused face mesh, nine tenths of a browser's
request, cheap.
"""

import contextlib
import re
from functools import cache, lru_cache
from itertools import accumulate, islice, pairwise

import msgspec
from msgspec import UNSET, Raw, UnsetType

from spoter.error_codes import ErrorCode
from spoter.errors import InputError
from spoter.fewshot.enrolled import EnrolledGlosses
from spoter.fewshot.prototypes import embedding_size
from spoter.formats import estimator_frames, plain_points, video_format
from spoter.formats.body_guards import check_slow_numbers, check_utf8, paused_gc, remove_face_meshes
from spoter.formats.json_errors import invalid_json, unknown_field, wrong_type
from spoter.formats.request import (
    DEFAULT_TOP_K,
    JSON,
    JSONLINES,
    FramesPerSecond,
    Options,
    Pixels,
    Request,
    TopK,
    check_estimator_name,
    decode_each,
    quote,
)
from spoter.landmarks.clip import Clip
from spoter.landmarks.layouts import Layout
from spoter.limits import Limits

FORMS = (*estimator_frames.KEYS, "points", "clips", "uniqueName")
"""The keys that hold the clips; a body has exactly one of them."""
_REQUEST_FORMS = ("clips", "uniqueName")
REQUEST_KEYS = ("top_k", "enrolled", "enroll", "describe")
"""The keys that apply to the whole request; a clip among several must not have them."""

# The most memory that decoding takes, for each "{" or "[" (a list, an object or a pair) and for each "," (a number),
# with the reference to it in the list around it (64-bit CPython). Three bytes of JSON may take 80 bytes.
BRACKET_BYTES, COMMA_BYTES = 64, 32
# One clip may expand to this multiple of the largest body. 512 frames with all landmarks of MediaPipe need half of it;
# so do OpenPose frames with ten people each.
MAX_EXPANSION = 4
# A type with one field per list item takes 700 bytes per field, 7 MB for this number. For a higher limit on clips, as
# for data sets, the whole list is kept: such files come from the user, not from a stranger.
MAX_FIELDS = 10_000
# Also decode prototypes enrolled in a model up to twice as large, to report that they belong to another model.
_MAX_SIZE_RATIO = 2
_ENROLLED = msgspec.json.Decoder(EnrolledGlosses)
_LINE = re.compile(rb"\S[^\n]*")  # skips blank lines before it; a body may have millions


class _Items(msgspec.Struct, array_like=True):
    """The first items of a list, undecoded, one per field; `_decoder` makes the types with fields."""

    def to_list(self) -> list[Raw]:
        return [raw for raw in msgspec.structs.astuple(self) if raw is not UNSET]


_Frames = list[estimator_frames.Frame | None]


class _Body(msgspec.Struct):
    """All keys of a body; `_decoder` makes subtypes whose frames and clips fit the model's layout and limits."""

    keypoints: _Frames | UnsetType = UNSET
    keypoints_list: _Frames | UnsetType = UNSET
    frames: _Frames | UnsetType = UNSET
    instance_info: _Frames | UnsetType = UNSET
    points: Raw | UnsetType = UNSET
    clips: list[Raw] | _Items | UnsetType = UNSET
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

    def has(self, name: str) -> bool:
        """Return whether the body has the key `name` of `REQUEST_KEYS` with a value other than null."""
        value = getattr(self, name)
        return value is not UNSET and value is not None and value != Raw(b"null")

    def merge_options(self, options: Options) -> Options:
        """Return `options` overridden by the body's options; width and height are taken from the same source."""
        check_estimator_name(self.estimator)
        sizes = (self.width, self.height)
        if sizes == (None, None):
            sizes = (options.width, options.height)
        return Options(
            self.top_k or options.top_k, *sizes, self.estimator or options.estimator, self.fps or options.fps
        )


def decode(body: bytes, layout: Layout, limits: Limits, options: Options) -> Request:
    """Decode a JSON body; see `spoter.formats.decode`."""
    content = _parse(body, layout, limits)
    if content.describe is not None:
        if keys := [key for key in _list_keys(body) if key != quote("describe")]:
            message = f"found describe and {', '.join(keys)}, expected describe without other keys"
            raise InputError(ErrorCode.AMBIGUOUS_FORM, message)
        if not content.describe:
            raise InputError(ErrorCode.WRONG_TYPE, "found false, expected true", "describe")
        return Request([], describe=True)
    enrolled = _decode_enrolled(content, layout, limits)
    request = _decode_clips(content, body, layout, limits, options)
    request.enrolled, request.enroll = enrolled, content.enroll
    return request


def _decode_clips(content: _Body, body: bytes, layout: Layout, limits: Limits, options: Options) -> Request:
    top_k = content.top_k or options.top_k or DEFAULT_TOP_K
    if content.uniqueName is not UNSET:
        _find_form(content, body)
        return video_format.decode(content.uniqueName, layout, limits, content.merge_options(options), JSON)
    if content.clips is UNSET:
        return Request([_decode_clip(content, body, layout, limits, options)], False, top_k, JSON)
    _find_form(content, body)
    raws = content.clips.to_list() if isinstance(content.clips, _Items) else content.clips
    limits.check_clips(len(raws))
    options = content.merge_options(options)
    clips = decode_each(raws, lambda raw: decode_clip(bytes(raw), layout, limits, options), lambda i: f"clip {i}")
    return Request(clips, True, top_k, JSON)


def decode_clip(body: bytes, layout: Layout, limits: Limits, options: Options) -> Clip:
    """Decode one of several clips, in any form of a single clip; refuse keys of the whole request such as ``top_k``."""
    content = _parse(body, layout, limits)
    for name in REQUEST_KEYS:
        if content.has(name):
            message = f"{name!r} applies to the whole request; move it next to 'clips' (JSON Lines: top_k to a header)"
            raise InputError(ErrorCode.MISPLACED_OPTION, message, name)
    return _decode_clip(content, body, layout, limits, options)


def decode_lines(body: bytes, layout: Layout, limits: Limits, options: Options) -> Request:
    """Decode JSON Lines; see `spoter.formats.decode`. Blank lines are skipped."""
    check_slow_numbers(body)
    lines = list(islice(_LINE.finditer(body), limits.max_clips + 1))  # the body may have millions of lines
    limits.check_clips(len(lines))
    starts = [0, *(line.start() for line in lines)]
    numbers = list(accumulate((body.count(b"\n", *span) for span in pairwise(starts)), initial=1))[1:]
    clips = decode_each(
        lines, lambda line: decode_clip(line[0], layout, limits, options), lambda i: f"line {numbers[i]}"
    )
    return Request(clips, True, options.top_k or DEFAULT_TOP_K, JSONLINES)


@lru_cache(maxsize=8)
def _decoder(frame_type: type[estimator_frames.Frame] | None, max_clips: int) -> msgspec.json.Decoder[_Body]:
    """Return a decoder for bodies with frames of `frame_type`; with None, frames stay undecoded.

    The decoder keeps the first `max_clips + 1` of `clips`, undecoded, so that a list of millions takes no memory. If
    `max_clips` is `MAX_FIELDS` or more, it keeps all.
    """
    frames = Raw if frame_type is None else list[frame_type | None]  # type: ignore[valid-type]
    clips: type = list[Raw]
    if max_clips < MAX_FIELDS:
        items = [(f"_{i}", Raw | UnsetType, UNSET) for i in range(max_clips + 1)]
        clips = msgspec.defstruct("_FirstItems", items, bases=(_Items,), array_like=True)
    fields = [(key, frames | UnsetType, UNSET) for key in estimator_frames.KEYS] + [("clips", clips | UnsetType, UNSET)]
    return msgspec.json.Decoder(msgspec.defstruct("_TypedBody", fields, bases=(_Body,)))


@cache
def _keys_decoder() -> msgspec.json.Decoder[msgspec.Struct]:
    fields = [(name, Raw | UnsetType, UNSET) for name in _Body.__struct_fields__]
    return msgspec.json.Decoder(msgspec.defstruct("_Keys", fields, forbid_unknown_fields=True))


def _parse(body: bytes, layout: Layout, limits: Limits) -> _Body:
    frame_type = estimator_frames.frame_type(layout)
    if frame_type is estimator_frames.Frame:
        # After any error, decode the whole body again, so that the error has the right place.
        with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return _decode_body(remove_face_meshes(body), frame_type, limits)
    try:
        return _decode_body(body, frame_type, limits)
    except msgspec.ValidationError as error:
        if not body.lstrip()[:1] == b"{":
            raise InputError(
                ErrorCode.UNKNOWN_FORM,
                'found a JSON body that is not an object, expected an object such as {"keypoints": [frame, …]}',
            ) from error
        raise wrong_type(error, estimator_frames.describe_path) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise invalid_json(error, body) from error


def _decode_body(body: bytes, frame_type: type[estimator_frames.Frame], limits: Limits) -> _Body:
    """Decode a body, unless the result would take too much memory; each of several clips is checked later."""
    check_slow_numbers(body)  # after faces are removed: a search in them takes longer than decoding the rest
    small = _fits_in_memory(body, limits)
    check_utf8(body)  # the decoder checks only the strings that it keeps
    with paused_gc():
        content = _decoder(frame_type if small else None, limits.max_clips).decode(body)
    several = content.clips is not UNSET and all(
        getattr(content, key) is UNSET for key in (*estimator_frames.KEYS, "points")
    )
    if small or several:
        return content
    raise InputError(
        ErrorCode.TOO_MANY_VALUES,
        f"found more lists, objects and numbers than a clip of {limits.max_frames} frames needs, expected only its "
        "landmarks",
    )


def _fits_in_memory(body: bytes, limits: Limits) -> bool:
    """Return whether the decoded `body` fits into the memory for a clip, estimated by counting brackets and commas."""
    allowed = MAX_EXPANSION * max(limits.max_bytes, Limits.max_bytes)
    if len(body) * (BRACKET_BYTES + COMMA_BYTES) <= 3 * allowed:  # true even for a body of nothing but "[],"
        return True
    return BRACKET_BYTES * (body.count(b"{") + body.count(b"[")) + COMMA_BYTES * body.count(b",") <= allowed


def _decode_enrolled(content: _Body, layout: Layout, limits: Limits) -> EnrolledGlosses | None:
    """Decode the enrolled glosses of a request, if the count of their numbers is within the limits."""
    if content.enrolled is UNSET or not content.has("enrolled"):
        return None
    text = bytes(content.enrolled)
    numbers = embedding_size(2 * len(layout))  # in a prototype of this model
    if text.count(b",") > _MAX_SIZE_RATIO * limits.max_enrolled * (numbers + 3):
        raise InputError(
            ErrorCode.TOO_MANY_ENROLLED,
            f"expected at most {limits.max_enrolled} glosses, found more numbers than they have",
            "enrolled",
        )
    try:
        enrolled = _ENROLLED.decode(text)
    except msgspec.ValidationError as error:
        raise wrong_type(error, estimator_frames.describe_path, ("enrolled",)) from error
    limits.check_enrolled(len(enrolled.glosses))
    return enrolled


def _list_keys(body: bytes) -> list[str]:
    """Return the first unknown key of a body, or else all keys, quoted; the list is never long."""
    try:
        content = _keys_decoder().decode(body)
    except msgspec.ValidationError as error:
        return [quote(unknown_field(error))]
    return [quote(key) for key in content.__struct_fields__ if getattr(content, key) is not UNSET]


def _find_form(content: _Body, body: bytes) -> str:
    """Return the key of `FORMS` that the body has."""
    forms = [key for key in FORMS if getattr(content, key) is not UNSET]
    if len(forms) == 1:
        return forms[0]
    if forms:
        raise InputError(ErrorCode.AMBIGUOUS_FORM, f"found {' and '.join(forms)}, expected one of them")
    keys = _list_keys(body)
    names = f"{'the key' if len(keys) == 1 else 'the keys'} {', '.join(keys)}" if keys else "no keys"
    raise InputError(ErrorCode.UNKNOWN_FORM, f"found {names}, expected one of {', '.join(FORMS)}")


def _decode_clip(content: _Body, body: bytes, layout: Layout, limits: Limits, options: Options) -> Clip:
    form = _find_form(content, body)
    if form in _REQUEST_FORMS:
        expected = ", ".join(key for key in FORMS if key not in _REQUEST_FORMS)
        raise InputError(ErrorCode.UNKNOWN_FORM, f"found {form} within clips, expected one of {expected}")
    if content.layout is not None:
        plain_points.check_layout(str(content.layout), layout)
    options = content.merge_options(options)
    if content.points is not UNSET:
        return plain_points.decode_clip(content.points, content.layout is not None, layout, limits, options)
    return estimator_frames.read_clip(getattr(content, form), layout, limits, options)
