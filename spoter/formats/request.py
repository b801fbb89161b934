"""What a request holds once it is read, and the options and limits under which it is read."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
import numpy as np

from spoter.error_codes import ErrorCode
from spoter.errors import InputError
from spoter.fewshot.enrolled import EnrolledGlosses
from spoter.landmarks.clip import Clip, is_in_pixels, make_clip
from spoter.landmarks.layouts import Layout

JSON = "application/json"
CSV = "text/csv"
NPY = "application/x-npy"
JSONLINES = "application/jsonlines"
MP4 = "video/mp4"
WEBM = "video/webm"
QUICKTIME = "video/quicktime"
VIDEOS = (MP4, WEBM, QUICKTIME)
SYNONYMS = {
    "application/x-ndjson": JSONLINES,
    "application/jsonl": JSONLINES,
    "video/x-m4v": MP4,
    "video/x-matroska": WEBM,  # what Chrome records H.264 as; WebM is a kind of it
}

DEFAULT_TOP_K = 5
_WRITE_PIXELS = ("openpose", "wholepose")

TopK = Annotated[int, msgspec.Meta(ge=1)]
Pixels = Annotated[float, msgspec.Meta(gt=0, le=100_000)]
FramesPerSecond = Annotated[float, msgspec.Meta(gt=0, le=1000)]
EstimatorName = Literal["mediapipe", "openpose", "wholepose"]


@dataclass(frozen=True)
class Options:
    """What a caller says about a request beside its landmarks; None = not said.

    Attributes
    ----------
    top_k : int or None
        Number of glosses wanted in an answer.
    width, height : float or None
        Size of the picture in pixels, needed where points are in pixels.
    estimator : str or None
        Name of the estimator that made the points.
    fps : float or None
        Frames per second.
    """

    top_k: int | None = None
    width: float | None = None
    height: float | None = None
    estimator: str | None = None
    fps: float | None = None

    def override(self, **values) -> Options:
        """Return these options with those of `values` that are not None in their places."""
        return dataclasses.replace(self, **{name: value for name, value in values.items() if value is not None})


@dataclass(frozen=True)
class Video:
    """A video in a clip's place: it takes seconds to read, which `spoter.formats.video_format` does later.

    Attributes
    ----------
    content : bytes or str
        The file, or the key that it is stored under.
    options : Options
        Of this video.
    """

    content: bytes | str
    options: Options


@dataclass
class Request:
    """A request, read.

    Attributes
    ----------
    clips : list of Clip, InputError or Video
        In the request's order. One of several clips that cannot be read stands here as its error; each Clip can be
        selected from by the model's layout and has at least one of its landmarks in at least one frame. A video is a
        request's only clip.
    many : bool
        Whether the request is of a form that holds several clips, and so gets a list for an answer.
    top_k : int
        Number of glosses wanted in an answer.
    content_type : str
        The request's type, without parameters.
    enrolled : EnrolledGlosses or None
        Glosses that the request brings along, not checked yet: that takes the model.
    enroll : str or None
        The gloss that the clips are to be learned as; None where they are to be named.
    describe : bool
        Whether the request has no clips, and asks what the model knows.
    """

    clips: list[Clip | InputError | Video]
    many: bool = False
    top_k: int = DEFAULT_TOP_K
    content_type: str = JSON
    enrolled: EnrolledGlosses | None = None
    enroll: str | None = None
    describe: bool = False


class _Attributes(msgspec.Struct, forbid_unknown_fields=True):
    top_k: TopK | None = None
    width: Pixels | None = None
    height: Pixels | None = None
    estimator: EstimatorName | None = None
    fps: FramesPerSecond | None = None


_EXPECTED = {
    "top_k": "a whole number of at least 1",
    "width": "a number of pixels above 0",
    "height": "a number of pixels above 0",
    "estimator": "mediapipe, openpose or wholepose",
    "fps": "a number above 0, at most 1000",
}


def parse_attributes(text: str | None) -> Options:
    """Read the header ``X-Amzn-SageMaker-Custom-Attributes``: ``top_k=3,width=640,height=480``.

    Raises
    ------
    InputError
        ``bad_attributes`` for a part that is not ``name=value``, and for an unknown, repeated or wrong one.
    """
    values: dict[str, object] = {}
    for part in (text or "").split(","):
        if not part.strip():
            continue
        name, equals, value = (word.strip() for word in part.partition("="))
        where = f"attribute {quote(name)}"
        if not equals or name not in _EXPECTED:
            raise InputError(
                ErrorCode.BAD_ATTRIBUTES,
                f"found {quote(part.strip())}, expected {', '.join(f'{known}=…' for known in _EXPECTED)}",
                where,
            )
        if name in values:
            raise InputError(ErrorCode.BAD_ATTRIBUTES, "found it twice, expected it once", where)
        known = _option(name, value, strict=False)
        if known is None:  # so is the word null
            raise InputError(ErrorCode.BAD_ATTRIBUTES, f"found {quote(value)}, expected {_EXPECTED[name]}", where)
        values[name] = known
    return Options(**values)


def check_option(name: str, value: object) -> None:
    """Raise ``wrong_type`` where an option of `Options` is neither None nor what a request may say."""
    plain = value.item() if isinstance(value, np.generic) else value
    if plain is not None and _option(name, plain, strict=True) is None:
        raise InputError(ErrorCode.WRONG_TYPE, f"found {quote(value)}, expected {_EXPECTED[name]}", name)


def _option(name: str, value: object, strict: bool) -> object:
    """Return the value of an option; None for what is none."""
    try:
        return getattr(msgspec.convert({name: value}, _Attributes, strict=strict), name)
    except msgspec.ValidationError:
        return None


def quote(value: object, size: int = 40) -> str:
    """Quote a value of a request in an error: its repr, cut to `size` characters."""
    text = repr(value[:size] if isinstance(value, str) else value)  # a word may be as long as a body
    return text if len(text) <= size else f"{text[: size - 1]}…"


def check_estimator(found: str, options: Options) -> str:
    """Return `found`, the estimator a form is written by; raise ``wrong_estimator`` where the options name another."""
    if options.estimator not in (None, found):
        raise InputError(
            ErrorCode.WRONG_ESTIMATOR, f"the points are {found}'s, but the request says {options.estimator}"
        )
    return found


def finish_clip(
    points: np.ndarray,
    names: tuple[str, ...],
    estimator: str | None,
    layout: Layout,
    options: Options,
) -> Clip:
    """Make a Clip of what a wire format holds: the last step of all of them.

    Points in pixels are divided by the picture's size where the options name it. Of an estimator that writes pixels it
    is asked for; pixels of others are out of range.

    Parameters
    ----------
    points : numpy.ndarray, shape (T, N, 2)
        Image units or pixels, y down, NaN = missing.
    names, estimator
        As for `Clip`.
    layout : Layout
        The model's.
    options : Options
        `width`, `height` and `fps` are used.

    Raises
    ------
    InputError
        ``missing_image_size``, ``no_usable_frames``, and those of `make_clip` and `Layout.select`.
    """
    if (options.width is None) != (options.height is None):
        given, absent = ("width", "height") if options.height is None else ("height", "width")
        raise InputError(ErrorCode.MISSING_IMAGE_SIZE, f"found {given} without {absent}, expected both or neither")
    if (options.width or estimator in _WRITE_PIXELS) and is_in_pixels(points):
        if options.width is None:
            largest = np.nanmax(np.abs(points))
            raise InputError(
                ErrorCode.MISSING_IMAGE_SIZE,
                f"found points in pixels (up to {largest:g}) and no size of the picture, expected width and height "
                "beside them (--width and --height of a command), or points divided by them (0 to 1)",
            )
        points = points / np.array([options.width, options.height])
    clip = make_clip(points, names, estimator, options.fps, layout.used_columns(names, estimator))
    if np.isnan(layout.select(clip)).all():
        raise InputError(
            ErrorCode.NO_USABLE_FRAMES,
            f"found no landmark of layout {layout.name} in any of {len(clip)} frames, expected some in one",
        )
    return clip
