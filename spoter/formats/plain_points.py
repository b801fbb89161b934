"""Clips as plain arrays of points in JSON.

``{"estimator": "mediapipe", "points": [T][N][2]}``, an estimator's own array; ``{"layout": 54, "points": [T][54][2]}``,
the points of the model's layout in its order; ``{"points": {"pose_nose": [T][2], …}}``, its points by name. null, in
the place of a frame, a point or a coordinate, marks what is missing.
"""

from __future__ import annotations

import difflib
from functools import partial

import msgspec
import numpy as np

from spoter.error_codes import ErrorCode
from spoter.errors import InputError
from spoter.formats.body_guards import without_collector
from spoter.formats.fast_points import read_flat
from spoter.formats.json_errors import wrong_type
from spoter.formats.mmpose_frames import Pair, coordinates
from spoter.formats.request import Options, finish_clip, short
from spoter.landmarks.clip import Clip
from spoter.landmarks.estimators import ESTIMATORS
from spoter.landmarks.layouts import BUILT_IN, Layout
from spoter.limits import Limits

_ARRAY = msgspec.json.Decoder(list[list[Pair | None] | None])
_BY_NAME = msgspec.json.Decoder(dict[str, msgspec.Raw])
_TRACK = msgspec.json.Decoder(list[Pair | None] | None)
# Names, among which are a clip's landmarks; of more, none is looked at. Many more than there are landmarks: colons of
# objects in the places of points count too, and a client shall be told of those in other words.
_MOST_NAMES = 100_000


def read(points: msgspec.Raw, in_layout: bool, layout: Layout, limits: Limits, options: Options) -> Clip:
    """Make a Clip of a body's ``points``.

    Parameters
    ----------
    points : msgspec.Raw
        Undecoded: an array of frames, or an object of landmarks.
    in_layout : bool
        Whether the body says that they are the layout's own, and not an estimator's.
    layout, limits, options
        The model's layout; what a request may hold; what is said beside the points.

    Raises
    ------
    InputError
        ``unknown_estimator``, ``wrong_estimator``, ``wrong_type``, ``wrong_point_count``, ``unknown_landmark``,
        ``wrong_frame_count`` and those of `finish_clip`.
    """
    known_estimator(options.estimator)
    if bytes(memoryview(points)[:1]) == b"{":
        array, names = _by_name(points, layout, limits)
        estimator = options.estimator
    else:
        array, names, estimator = _array(points, in_layout, layout, limits, options)
    return finish_clip(array, names, estimator, layout, options)


def known_estimator(name: str | None) -> None:
    """Raise ``unknown_estimator`` for a name that is none of `ESTIMATORS`."""
    if name is not None and name not in ESTIMATORS:
        raise InputError(
            ErrorCode.UNKNOWN_ESTIMATOR, f"found {short(name)}, expected {', '.join(ESTIMATORS)}", "estimator"
        )


def names_of_size(size: int, layout: Layout, estimator: str | None) -> tuple[tuple[str, ...], str | None]:
    """Tell the names and the estimator of an array of `size` points a frame.

    Parameters
    ----------
    size : int
    layout : Layout
        The model's; its own points may come without an estimator's others.
    estimator : str or None
        The one the request names.

    Returns
    -------
    names : tuple of str, length `size`
    estimator : str or None
        None where the points are the layout's and the request does not name their estimator.

    Raises
    ------
    InputError
        ``wrong_point_count`` for a size that is neither the layout's nor an estimator's; ``wrong_estimator`` for
        another estimator's than the one named.
    """
    known_estimator(estimator)
    if estimator is not None and size in ESTIMATORS[estimator].sizes:
        return ESTIMATORS[estimator].names_for(size), estimator
    if size == len(layout):
        return layout.names, estimator
    for other in ESTIMATORS.values():
        if size in other.sizes and estimator is not None:
            raise InputError(
                ErrorCode.WRONG_ESTIMATOR, f"found {other.name}'s {size} points, but estimator {estimator}"
            )
        if size in other.sizes:
            return other.names_for(size), other.name
    wanted = [ESTIMATORS[estimator]] if estimator else ESTIMATORS.values()
    sizes = ", ".join(f"{' or '.join(map(str, known.sizes))} ({known.name})" for known in wanted)
    raise InputError(
        ErrorCode.WRONG_POINT_COUNT,
        f"found {size} points a frame, expected {sizes}, or {len(layout)} (layout {layout.name})",
    )


def check_layout(name: str, layout: Layout) -> None:
    """Raise ``unknown_layout`` or ``wrong_layout`` where a body names another layout than the model's."""
    own = layout.name
    if name == own:
        return
    if name not in BUILT_IN:
        raise InputError(ErrorCode.UNKNOWN_LAYOUT, f"found {short(name)}, expected {own}, the model's layout", "layout")
    raise InputError(ErrorCode.WRONG_LAYOUT, f"found layout {name}, but this model is fed layout {own}", "layout")


def _array(
    points: msgspec.Raw, in_layout: bool, layout: Layout, limits: Limits, options: Options
) -> tuple[np.ndarray, tuple[str, ...], str | None]:
    array = read_flat(bytes(points), len(layout) if in_layout else None)
    if array is not None:
        limits.check_frames(len(array))
        names, estimator = _columns(array.shape[1], 0, in_layout, layout, options)
        return array, names, estimator
    try:
        with without_collector():
            frames = _ARRAY.decode(points)
    except msgspec.ValidationError as error:
        names = layout.names
        if not in_layout:
            names = ESTIMATORS[options.estimator].names if options.estimator else ()
        raise wrong_type(error, partial(_place, names), ("points",)) from error
    limits.check_frames(len(frames))
    names, estimator = layout.names, options.estimator
    there = [i for i, frame in enumerate(frames) if frame is not None]
    if there:
        names, estimator = _columns(len(frames[there[0]]), there[0], in_layout, layout, options)
    for i in there:
        if len(frames[i]) != len(names):
            raise InputError(
                ErrorCode.WRONG_POINT_COUNT, f"found {len(frames[i])} points, expected {len(names)}", f"frame {i}"
            )
    array = np.full((len(frames), len(names), 2), np.nan)
    if there:
        flat = [point for i in there for point in frames[i]]
        array[there] = coordinates(flat).reshape(len(there), len(names), 2)
    return array, names, estimator


def _columns(
    size: int, frame: int, in_layout: bool, layout: Layout, options: Options
) -> tuple[tuple[str, ...], str | None]:
    """Tell names and estimator of an array whose first frame with points has `size` of them; `frame` is its number."""
    if in_layout:
        return layout.names, options.estimator
    try:
        return names_of_size(size, layout, options.estimator)
    except InputError as error:
        raise error.within(f"frame {frame}") from error


def _by_name(points: msgspec.Raw, layout: Layout, limits: Limits) -> tuple[np.ndarray, tuple[str, ...]]:
    tracks = {}
    # Those of the layout, and any estimator's, which a client may send besides.
    known = set(layout.names).union(*((*estimator.names, *estimator.optional) for estimator in ESTIMATORS.values()))
    if len(memoryview(points)) > 6 * _MOST_NAMES and bytes(points).count(b":") > _MOST_NAMES:  # "a":0,
        raise InputError(
            ErrorCode.UNKNOWN_LANDMARK, f"found more than {_MOST_NAMES} keys, expected names of landmarks", "points"
        )
    for name, raw in _BY_NAME.decode(points).items():
        if name not in known:
            raise _unknown_landmark(name, layout)
        try:
            with without_collector():
                tracks[name] = _TRACK.decode(raw)
        except msgspec.ValidationError as error:
            raise wrong_type(error, partial(_track_place, name)) from error
    lengths = {name: len(track) for name, track in tracks.items() if track is not None}
    frames = next(iter(lengths.values()), 0)
    limits.check_frames(frames)
    for name, length in lengths.items():
        if length != frames:
            raise InputError(
                ErrorCode.WRONG_FRAME_COUNT,
                f"found {length} frames, expected {frames}, as many as {next(iter(lengths))} has",
                f"point {name}",
            )
    array = np.full((frames, len(tracks), 2), np.nan)
    for column, track in enumerate(tracks.values()):
        if track is not None:
            array[:, column] = coordinates(track)
    return array, tuple(tracks)


def _unknown_landmark(name: str, layout: Layout) -> InputError:
    """Return the error for a name that no estimator and no layout has, with the likeliest one that was meant."""
    near = difflib.get_close_matches(name[:80], layout.names, 1)
    expected = f"did you mean {near[0]}?" if near else f"expected landmarks such as {', '.join(layout.names[:3])}"
    return InputError(ErrorCode.UNKNOWN_LANDMARK, f"found landmark {short(name)}; {expected}")


def _place(names: tuple[str, ...], steps: list[str | int]) -> str | None:
    """Put the path of a value into words: points, 3, 15, 0 -> "frame 3, point pose_left_wrist"."""
    words = [f"frame {step}" for step in steps[1:2]]
    for step in steps[2:3]:
        words.append(f"point {names[step] if step < len(names) else step}")
    return ", ".join(words) or "points"


def _track_place(name: str, steps: list[str | int]) -> str | None:
    """Put the path of a value of one landmark into words: 3, 0 -> "point pose_nose, frame 3"."""
    return ", ".join([f"point {name}", *(f"frame {step}" for step in steps[:1])])
