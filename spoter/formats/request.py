"""A request once it is read, its options, and the steps that all formats share."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, TypeVar

import msgspec
import numpy as np

from spoter.error_codes import ErrorCode
from spoter.errors import InputError
from spoter.fewshot.enrolled import EnrolledGlosses
from spoter.landmarks.arrays import FloatArray
from spoter.landmarks.clip import Clip, is_in_pixels, make_clip
from spoter.landmarks.estimators import ESTIMATORS
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
EstimatorName = Annotated[str, msgspec.Meta(pattern=f"^({'|'.join(ESTIMATORS)})$")]

T = TypeVar("T")
ClipOrError = Clip | InputError
"""A clip of a request: its error stands in the place of a clip that cannot be read."""


@dataclass(frozen=True)
class Options:
    """What a caller says about a request in addition to its landmarks; None where it says nothing."""

    top_k: TopK | None = None  # glosses of an answer
    width: Pixels | None = None  # of the picture; needed, as is its height, where points are in pixels
    height: Pixels | None = None
    estimator: EstimatorName | None = None  # that made the points
    fps: FramesPerSecond | None = None


@dataclass(frozen=True)
class Video:
    """A video that is not read yet: the content of its file, or the key that it is stored under."""

    content: bytes | str
    options: Options


@dataclass
class Request:
    """A decoded request.

    Its clips are in the request's order. Each Clip has all landmarks that the model's layout selects, at least one of
    them in at least one frame. There are none where the request has a `video` that is not read yet.
    """

    clips: list[ClipOrError]
    many: bool = False  # whether its form holds several clips, so that the response is a list
    top_k: int = DEFAULT_TOP_K  # glosses of an answer
    content_type: str = JSON  # without parameters
    enrolled: EnrolledGlosses | None = None  # glosses that it brings along; only the model can check them
    enroll: str | None = None  # the gloss to learn from the clips; None where the clips are to be named
    describe: bool = False  # whether it has no clips and asks for the model's description
    video: Video | None = None  # of the only clip, for `spoter.formats.video_format.read_videos`


_EXPECTED = {
    "top_k": "a whole number of at least 1",
    "width": "a number of pixels above 0",
    "height": "a number of pixels above 0",
    "estimator": ", ".join(ESTIMATORS),
    "fps": "a number above 0, at most 1000",
}


def parse_attributes(text: str | None) -> Options:
    """Read the header ``X-Amzn-SageMaker-Custom-Attributes``: ``top_k=3,width=640,height=480``.

    Raises ``bad_attributes`` for a part that is not ``name=value``, and for an unknown, repeated or wrong one.
    """
    values: dict[str, str] = {}
    for part in (text or "").split(","):
        if not part.strip():
            continue
        name, equals, value = (word.strip() for word in part.partition("="))
        message = None
        if not equals or name not in _EXPECTED:
            message = f"found {quote(part.strip())}, expected {', '.join(f'{known}=…' for known in _EXPECTED)}"
        elif name in values:
            message = "found it twice, expected it once"
        elif not _is_option(name, value, strict=False):
            message = f"found {quote(value)}, expected {_EXPECTED[name]}"
        if message is not None:
            raise InputError(ErrorCode.BAD_ATTRIBUTES, message, f"attribute {quote(name)}")
        values[name] = value
    return msgspec.convert(values, Options, strict=False)


def check_option(name: str, value: object) -> None:
    """Raise ``wrong_type`` where `value` is neither None nor a value of the option `name` of `Options`."""
    plain = value.item() if isinstance(value, np.generic) else value
    if plain is not None and not _is_option(name, plain, strict=True):
        raise InputError(ErrorCode.WRONG_TYPE, f"found {quote(value)}, expected {_EXPECTED[name]}", name)


def _is_option(name: str, value: object, strict: bool) -> bool:
    """Tell whether `value` is one of an option, and not null."""
    try:
        return getattr(msgspec.convert({name: value}, Options, strict=strict), name) is not None
    except msgspec.ValidationError:
        return False


def quote(value: object, size: int = 40) -> str:
    """Quote a value of a request in an error: its repr, cut to `size` characters."""
    text = repr(value[:size] if isinstance(value, str) else value)  # a word may be as long as a body
    return text if len(text) <= size else f"{text[: size - 1]}…"


def decode_each(parts: Iterable[T], decode_clip: Callable[[T], Clip], place: Callable[[int], str]) -> list[ClipOrError]:
    """Decode the clips of a request: each part gives a Clip or its error, with the place of the part's number."""
    clips: list[ClipOrError] = []
    for i, part in enumerate(parts):
        try:
            clips.append(decode_clip(part))
        except InputError as error:
            clips.append(error.within(place(i)))
    return clips


def check_estimator_name(name: str | None) -> None:
    """Raise ``unknown_estimator`` for a name that is none of `ESTIMATORS`."""
    if name is not None and name not in ESTIMATORS:
        raise InputError(
            ErrorCode.UNKNOWN_ESTIMATOR, f"found {quote(name)}, expected {', '.join(ESTIMATORS)}", "estimator"
        )


def check_estimator(name: str, options: Options) -> None:
    """Raise ``wrong_estimator`` where the points are of estimator `name` and the options say another."""
    if options.estimator not in (None, name):
        raise InputError(
            ErrorCode.WRONG_ESTIMATOR, f"the points are {name}'s, but the request says {options.estimator}"
        )


def finish_clip(
    points: FloatArray, names: tuple[str, ...], estimator: str | None, layout: Layout, options: Options
) -> Clip:
    """Make a Clip of decoded points: the last step of all formats.

    Points in pixels are divided by the picture's size of the options. An estimator that writes pixels requires it;
    pixels of others are out of range.

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
                "with them (--width and --height of a command), or points divided by them (0 to 1)",
            )
        points = points / np.array([options.width, options.height])
    clip = make_clip(points, names, estimator, options.fps, layout.used_columns(names, estimator))
    if np.isnan(layout.select(clip)).all():
        raise InputError(
            ErrorCode.NO_USABLE_FRAMES,
            f"found no landmark of layout {layout.name} in any of {len(clip)} frames, expected some in one",
        )
    return clip
