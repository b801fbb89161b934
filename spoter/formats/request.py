"""A decoded request, its options, and the steps that all formats share."""

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
    "video/x-matroska": WEBM,  # Chrome's type for recorded H.264; WebM is a kind of Matroska
}

DEFAULT_TOP_K = 5
_WRITE_PIXELS = ("openpose", "wholepose")

TopK = Annotated[int, msgspec.Meta(ge=1)]
Pixels = Annotated[float, msgspec.Meta(gt=0, le=100_000)]
FramesPerSecond = Annotated[float, msgspec.Meta(gt=0, le=1000)]
EstimatorName = Annotated[str, msgspec.Meta(pattern=f"^({'|'.join(ESTIMATORS)})$")]

T = TypeVar("T")
ClipOrError = Clip | InputError
"""A clip of a request, or the error if the clip cannot be read."""


@dataclass(frozen=True)
class Options:
    """Options of a request in addition to the landmarks; None if not set."""

    top_k: TopK | None = None  # number of glosses in an answer
    width: Pixels | None = None  # the picture's; width and height are required for points in pixels
    height: Pixels | None = None
    estimator: EstimatorName | None = None  # the source of the points
    fps: FramesPerSecond | None = None


@dataclass(frozen=True)
class Video:
    """An undecoded video: the content of its file, or the key of a stored video."""

    content: bytes | str
    options: Options


@dataclass
class Request:
    """A decoded request.

    The clips are in the request's order. Each Clip has columns for all landmarks of the model's layout, and a known
    landmark of the layout in at least one frame. A request with an undecoded `video` has no clips yet.
    """

    clips: list[ClipOrError]
    many: bool = False  # True if the form holds several clips; then the response is a list
    top_k: int = DEFAULT_TOP_K  # number of glosses in an answer
    content_type: str = JSON  # without parameters
    enrolled: EnrolledGlosses | None = None  # glosses sent with the request; not yet checked against the model
    enroll: str | None = None  # the gloss to learn from the clips; None to recognize the clips
    describe: bool = False  # True for a request for the model's description, without clips
    video: Video | None = None  # for `spoter.formats.video_format.read_videos`


_EXPECTED = {
    "top_k": "a whole number of at least 1",
    "width": "a number of pixels above 0",
    "height": "a number of pixels above 0",
    "estimator": ", ".join(ESTIMATORS),
    "fps": "a number above 0 and at most 1000",
}


def parse_attributes(text: str | None) -> Options:
    """Read the header ``X-Amzn-SageMaker-Custom-Attributes``: ``top_k=3,width=640,height=480``.

    Raises ``bad_attributes`` for a part that is not ``name=value``, and for an unknown, repeated or wrong attribute.
    """
    values: dict[str, str] = {}
    for part in (text or "").split(","):
        if not part.strip():
            continue
        name, equals, value = (word.strip() for word in part.partition("="))
        message = None
        if not equals or name not in _EXPECTED:
            message = f"found {quote(part.strip())}, expected {', '.join(f'{option}=…' for option in _EXPECTED)}"
        elif name in values:
            message = "found the attribute twice, expected it once"
        elif not _is_option(name, value, strict=False):
            message = f"found {quote(value)}, expected {_EXPECTED[name]}"
        if message is not None:
            raise InputError(ErrorCode.BAD_ATTRIBUTES, message, f"attribute {quote(name)}")
        values[name] = value
    return msgspec.convert(values, Options, strict=False)


def check_option(name: str, value: object) -> None:
    """Raise ``wrong_type`` if `value` is neither None nor valid for the option `name` of `Options`."""
    plain = value.item() if isinstance(value, np.generic) else value
    if plain is not None and not _is_option(name, plain, strict=True):
        raise InputError(ErrorCode.WRONG_TYPE, f"found {quote(value)}, expected {_EXPECTED[name]}", name)


def _is_option(name: str, value: object, strict: bool) -> bool:
    """Return whether `value` is valid for an option and not None."""
    try:
        return getattr(msgspec.convert({name: value}, Options, strict=strict), name) is not None
    except msgspec.ValidationError:
        return False


def quote(value: object, size: int = 40) -> str:
    """Quote a value of a request for an error: its repr, cut to `size` characters."""
    text = repr(value[:size] if isinstance(value, str) else value)  # a string may be as long as the body
    return text if len(text) <= size else f"{text[: size - 1]}…"


def decode_each(parts: Iterable[T], decode_clip: Callable[[T], Clip], place: Callable[[int], str]) -> list[ClipOrError]:
    """Decode the clips of a request: each part becomes a Clip or an error whose place starts with ``place(number)``."""
    clips: list[ClipOrError] = []
    for i, part in enumerate(parts):
        try:
            clips.append(decode_clip(part))
        except InputError as error:
            clips.append(error.within(place(i)))
    return clips


def check_estimator_name(name: str | None) -> None:
    """Raise ``unknown_estimator`` for a name that is not in `ESTIMATORS`."""
    if name is not None and name not in ESTIMATORS:
        raise InputError(
            ErrorCode.UNKNOWN_ESTIMATOR, f"found {quote(name)}, expected {', '.join(ESTIMATORS)}", "estimator"
        )


def check_estimator(name: str, options: Options) -> None:
    """Raise ``wrong_estimator`` if the points are of estimator `name` but the options name another."""
    if options.estimator not in (None, name):
        raise InputError(
            ErrorCode.WRONG_ESTIMATOR, f"found points of {name}, but the request names {options.estimator}"
        )


def finish_clip(
    points: FloatArray, names: tuple[str, ...], estimator: str | None, layout: Layout, options: Options
) -> Clip:
    """Make a Clip from decoded points: the last step of all formats.

    Points in pixels are divided by the picture's size in `options`. The size is required for an estimator that writes
    pixels; without a size, pixels of another estimator are out of range.

    Parameters
    ----------
    points : numpy.ndarray, shape (T, N, 2)
        Image units or pixels, y down, NaN = missing.
    names, estimator
        As for `Clip`.
    layout : Layout
        The model's layout.
    options : Options
        Only `width`, `height` and `fps` are used.

    Raises
    ------
    InputError
        ``missing_image_size``, ``no_usable_frames``, and those of `make_clip` and `Layout.select`.
    """
    if (options.width is None) != (options.height is None):
        present, absent = ("width", "height") if options.height is None else ("height", "width")
        raise InputError(ErrorCode.MISSING_IMAGE_SIZE, f"found {present} without {absent}, expected both or neither")
    if (options.width or estimator in _WRITE_PIXELS) and is_in_pixels(points):
        if options.width is None:
            largest = np.nanmax(np.abs(points))
            raise InputError(
                ErrorCode.MISSING_IMAGE_SIZE,
                f"found points in pixels (up to {largest:g}) without the picture's size; send width and height "
                "(commands: --width and --height), or divide the points by them (0 to 1)",
            )
        points = points / np.array([options.width, options.height])
    clip = make_clip(points, names, estimator, options.fps, layout.used_columns(names, estimator))
    if np.isnan(layout.select(clip)).all():
        raise InputError(
            ErrorCode.NO_USABLE_FRAMES,
            f"found no landmark of layout {layout.name} in any of {len(clip)} frames, expected some in at least one",
        )
    return clip
