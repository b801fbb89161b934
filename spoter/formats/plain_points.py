"""Clips as plain arrays of points in JSON.

``{"estimator": "mediapipe", "points": [T][N][2]}`` is an estimator's array; ``{"layout": 54, "points": [T][54][2]}``
has the points of the model's layout in order; ``{"points": {"pose_nose": [T][2], …}}`` has them by name. A missing
frame, point or coordinate is null.
"""

import difflib
from functools import partial

import msgspec
import numpy as np

from spoter.error_codes import ErrorCode
from spoter.errors import InputError
from spoter.formats.body_guards import paused_gc
from spoter.formats.estimator_frames import Pair, pair_coordinates
from spoter.formats.json_errors import Path, wrong_type
from spoter.formats.request import Options, check_estimator_name, finish_clip, quote
from spoter.landmarks.arrays import Float64Array
from spoter.landmarks.clip import Clip
from spoter.landmarks.estimators import ESTIMATORS
from spoter.landmarks.layouts import BUILT_IN, Layout
from spoter.limits import Limits

_ARRAY = msgspec.json.Decoder(list[list[Pair | None] | None])
_BY_NAME = msgspec.json.Decoder(dict[str, msgspec.Raw])
_NUMBERS = msgspec.json.Decoder(list[float])
_TRACK = msgspec.json.Decoder(list[Pair | None] | None)
# Far more than all landmarks, because the count includes the colons of objects in place of points (another error).
_MAX_NAMES = 100_000
# The characters of numbers and the white space of JSON. Without them, only the structure of an array is left.
_NUMBER_BYTES = b"0123456789+-.eE \t\n\r"


def decode_clip(points: msgspec.Raw, in_layout: bool, layout: Layout, limits: Limits, options: Options) -> Clip:
    """Make a Clip from a body's ``points``: an array of frames, in the layout's order if `in_layout`, or an object.

    Raises ``unknown_estimator``, ``wrong_estimator``, ``wrong_type``, ``wrong_point_count``, ``unknown_landmark``,
    ``wrong_frame_count``, and the errors of `finish_clip`.
    """
    check_estimator_name(options.estimator)
    if bytes(memoryview(points)[:1]) == b"{":
        array, names = _decode_by_name(points, layout, limits)
        estimator = options.estimator
    else:
        array, names, estimator = _decode_array(points, in_layout, layout, limits, options)
    return finish_clip(array, names, estimator, layout, options)


def names_of_size(size: int, layout: Layout, estimator: str | None) -> tuple[tuple[str, ...], str | None]:
    """Return the names and the estimator of an array with `size` points per frame.

    `estimator` is the request's. The returned estimator is None for the layout's points without a named estimator.
    Raises ``wrong_point_count`` if neither the layout nor an estimator has this size, and ``wrong_estimator`` if the
    size belongs to another estimator than the named one.
    """
    check_estimator_name(estimator)
    if estimator is not None and size in ESTIMATORS[estimator].sizes:
        return ESTIMATORS[estimator].names_for(size), estimator
    if size == len(layout):
        return layout.names, estimator
    for other in ESTIMATORS.values():
        if size in other.sizes:
            if estimator is None:
                return other.names_for(size), other.name
            raise InputError(
                ErrorCode.WRONG_ESTIMATOR, f"found {size} points ({other.name}), but estimator {estimator}"
            )
    expected = [ESTIMATORS[estimator]] if estimator else ESTIMATORS.values()
    sizes = ", ".join(f"{' or '.join(map(str, each.sizes))} ({each.name})" for each in expected)
    raise InputError(
        ErrorCode.WRONG_POINT_COUNT,
        f"found {size} points per frame, expected {sizes}, or {len(layout)} (layout {layout.name})",
    )


def check_layout(name: str, layout: Layout) -> None:
    """Raise ``unknown_layout`` or ``wrong_layout`` if a body names another layout than the model's."""
    if name == layout.name:
        return
    expected = f"expected {layout.name}, the model's layout"
    if name not in BUILT_IN:
        raise InputError(ErrorCode.UNKNOWN_LAYOUT, f"found layout {quote(name)}, {expected}", "layout")
    raise InputError(ErrorCode.WRONG_LAYOUT, f"found layout {name}, {expected}", "layout")


def parse_point_array(raw: bytes, size: int | None) -> Float64Array | None:
    """Parse an array of frames as one flat list of numbers, in half the time of a list of lists of pairs.

    Handles the arrays that nearly all clients send: the same number of points in each frame, each point a pair of
    numbers or null. Returns None for all other arrays; `_decode_array` reads them and reports their errors.

    `raw` is JSON that is valid except for its numbers, as `msgspec.Raw` is. `size` is the number of points in a frame,
    by default that of the first frame. Returns (T, size, 2), NaN for a null point.
    """
    raw = raw.replace(b"null", b"n")
    # Each pair becomes p and each null n: two frames of three points may be [[p,p,p],[p,n,p]].
    structure = raw.translate(None, _NUMBER_BYTES).replace(b"[,]", b"p")
    points = structure.count(b"p") + structure.count(b"n")
    size = structure.find(b"]") // 2 if size is None else size
    if not points or not size or points % size:
        return None
    frame = b"[" + b",".join([b"p"] * size) + b"]"
    if structure.replace(b"n", b"p") != b"[" + b",".join([frame] * (points // size)) + b"]":
        return None
    try:
        numbers = _NUMBERS.decode(b"[" + raw.replace(b"n", b"0,0").translate(None, b"[]") + b"]")
    except msgspec.MsgspecError:  # a number out of range
        return None
    array = np.fromiter(numbers, np.float64, 2 * points).reshape(-1, size, 2)
    if b"n" in structure:
        missing = np.frombuffer(structure.translate(None, b"[,]"), np.uint8) == ord("n")
        array[missing.reshape(-1, size)] = np.nan
    return array


def _decode_array(
    points: msgspec.Raw, in_layout: bool, layout: Layout, limits: Limits, options: Options
) -> tuple[Float64Array, tuple[str, ...], str | None]:
    array = parse_point_array(bytes(points), len(layout) if in_layout else None)
    if array is not None:
        limits.check_frames(len(array))
        return array, *_columns(array.shape[1], 0, in_layout, layout, options)
    try:
        with paused_gc():
            frames = _ARRAY.decode(points)
    except msgspec.ValidationError as error:
        names = layout.names
        if not in_layout:
            names = ESTIMATORS[options.estimator].names if options.estimator else ()
        raise wrong_type(error, partial(_describe_path, names), ("points",)) from error
    limits.check_frames(len(frames))
    present = {i: frame for i, frame in enumerate(frames) if frame is not None}
    names, estimator = layout.names, options.estimator
    if present:
        first = min(present)
        names, estimator = _columns(len(present[first]), first, in_layout, layout, options)
    for i, frame in present.items():
        if len(frame) != len(names):
            raise InputError(
                ErrorCode.WRONG_POINT_COUNT, f"found {len(frame)} points, expected {len(names)}", f"frame {i}"
            )
    array = np.full((len(frames), len(names), 2), np.nan)
    if present:
        flat = [point for frame in present.values() for point in frame]
        array[list(present)] = pair_coordinates(flat).reshape(len(present), len(names), 2)
    return array, names, estimator


def _columns(
    size: int, frame: int, in_layout: bool, layout: Layout, options: Options
) -> tuple[tuple[str, ...], str | None]:
    """Return names and estimator of an array from the number of points in `frame`, the first frame with points."""
    if in_layout:
        return layout.names, options.estimator
    try:
        return names_of_size(size, layout, options.estimator)
    except InputError as error:
        raise error.within(f"frame {frame}") from error


def _decode_by_name(points: msgspec.Raw, layout: Layout, limits: Limits) -> tuple[Float64Array, tuple[str, ...]]:
    # A client may send any estimator's landmarks in addition to the layout's.
    valid = set(layout.names).union(*((*estimator.names, *estimator.optional) for estimator in ESTIMATORS.values()))
    if len(memoryview(points)) > 6 * _MAX_NAMES and bytes(points).count(b":") > _MAX_NAMES:  # "a":0,
        raise InputError(
            ErrorCode.UNKNOWN_LANDMARK, f"found more than {_MAX_NAMES} keys, expected names of landmarks", "points"
        )
    tracks: dict[str, list[Pair | None] | None] = {}
    for name, raw in _BY_NAME.decode(points).items():
        if name not in valid:
            raise _unknown_landmark(name, layout)
        try:
            with paused_gc():
                tracks[name] = _TRACK.decode(raw)
        except msgspec.ValidationError as error:
            raise wrong_type(error, partial(_describe_track_path, name)) from error
    lengths = {name: len(track) for name, track in tracks.items() if track is not None}
    frames = next(iter(lengths.values()), 0)
    limits.check_frames(frames)
    for name, length in lengths.items():
        if length != frames:
            raise InputError(
                ErrorCode.WRONG_FRAME_COUNT,
                f"found {length} frames, expected {frames} as for {next(iter(lengths))}",
                f"point {name}",
            )
    array = np.full((frames, len(tracks), 2), np.nan)
    for column, track in enumerate(tracks.values()):
        if track is not None:
            array[:, column] = pair_coordinates(track)
    return array, tuple(tracks)


def _unknown_landmark(name: str, layout: Layout) -> InputError:
    """Return the error for an unknown landmark, with the most similar name."""
    near = difflib.get_close_matches(name[:80], layout.names, 1)
    expected = f"did you mean {near[0]}?" if near else f"expected landmarks such as {', '.join(layout.names[:3])}"
    return InputError(ErrorCode.UNKNOWN_LANDMARK, f"found landmark {quote(name)}; {expected}")


def _describe_path(names: tuple[str, ...], steps: Path) -> str:
    """Describe the path of a value: (points, 3, 15, 0) becomes "frame 3, point pose_left_wrist"."""
    words = [f"frame {step}" for step in steps[1:2]]
    for step in steps[2:3]:
        words.append(f"point {names[step] if isinstance(step, int) and step < len(names) else step}")
    return ", ".join(words) or "points"


def _describe_track_path(name: str, steps: Path) -> str:
    """Describe the path of a value of one landmark: (3, 0) becomes "point pose_nose, frame 3"."""
    return ", ".join([f"point {name}", *(f"frame {step}" for step in steps[:1])])
