"""`spoter.landmarks.clip`: clips from callers' points, masked values, and rounding."""

from __future__ import annotations

import json

import numpy as np
import pytest

from spoter.client.encoding import points_to_json
from spoter.formats import Limits, decode
from spoter.landmarks.clip import Clip, make_clip, round_points
from spoter.landmarks.estimators import MEDIAPIPE
from spoter.landmarks.layouts import load_layout
from spoter.landmarks.normalize import SCHEMES, check_scheme, normalize
from spoter.video.reader import VideoLandmarks
from spoter.video.writers import to_json
from tests.generate import figure

LAYOUT = load_layout("54")
WRIST = MEDIAPIPE.names.index("pose_right_wrist")


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int64])
@pytest.mark.parametrize(
    "form", [lambda points: points, list, lambda points: [list(frame) for frame in points]], ids=["array", "1", "2"]
)
def test_masked_values_become_missing_points(kind, form):
    points = np.ma.masked_array(np.ones((3, 54, 2), kind), mask=False)
    points[:, 30:] = np.ma.masked
    points[0, 4, 1] = np.ma.masked  # half of a point
    points.data[1, 31] = 10_000  # a masked value may be any number
    expected = np.ones((3, 54, 2), np.float32)
    expected[:, 30:] = expected[0, 4] = np.nan
    actual = make_clip(form(points), LAYOUT.names).points
    assert type(actual) is np.ndarray
    np.testing.assert_array_equal(actual, expected)


def test_clip_refuses_a_masked_array():
    with pytest.raises(ValueError, match="masked"):
        Clip(np.ma.ones((3, 54, 2), np.float32), LAYOUT.names)


@pytest.mark.parametrize("decimals", [4, 6])
def test_rounding_never_turns_a_nonzero_value_into_zero(decimals):
    step = 10.0**-decimals
    points = np.float32([0.4 * step, -0.4 * step, 1e-40, 0.0, -0.0, 0.6 * step, 0.123456789, -1.5, np.nan])
    actual = round_points(points, decimals)
    assert actual[:6].tolist() == [step, -step, step, 0, 0, step]
    np.testing.assert_array_equal(actual[6:], points[6:].astype(np.float64).round(decimals))


def _compact_json(points: np.ndarray) -> bytes:
    table = LAYOUT.select(make_clip(points, MEDIAPIPE.names, "mediapipe"))
    return json.dumps({"layout": 54, "points": points_to_json(table)}).encode()


def _video_json(points: np.ndarray) -> bytes:
    return to_json(VideoLandmarks(make_clip(points, MEDIAPIPE.names, "mediapipe"), 25.0, 640, 480))


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("write", [_compact_json, _video_json])
def test_a_point_at_the_left_edge_is_normalized_in_the_same_way_after_rounding(scheme, write):
    check_scheme(LAYOUT, scheme)
    points = figure(MEDIAPIPE, 4)
    points[:, WRIST, 0] = [4e-5, -4e-5, 4e-7, 0.0]
    exact = LAYOUT.select(make_clip(points, MEDIAPIPE.names, "mediapipe"))
    written = LAYOUT.select(decode(write(points), "application/json", LAYOUT, Limits()).clips[0])
    normalized, expected = (normalize(clip, LAYOUT, scheme) for clip in (written, exact))
    column = 2 * LAYOUT.column("pose_right_wrist")
    np.testing.assert_allclose(normalized[:, column], expected[:, column], atol=5e-4)
