"""Estimators and layouts: a landmark has the same name for every estimator."""

from __future__ import annotations

import numpy as np
import pytest

from spoter.errors import InputError, ModelFolderError
from spoter.landmarks.clip import make_clip
from spoter.landmarks.estimators import ESTIMATORS, MEDIAPIPE, NECK, OPENPOSE, WHOLEPOSE
from spoter.landmarks.layouts import BUILT_IN, load_layout
from tests.generate import figure, figure_clip

LAYOUTS = ("29", "54", "71")
LAYOUTS_AND_ESTIMATORS = [(layout, name) for layout in (*LAYOUTS, "spoter54") for name in ESTIMATORS]


def test_sizes_of_the_estimators_arrays():
    assert MEDIAPIPE.sizes == (543, 544)
    assert OPENPOSE.sizes == (25 + 70 + 21 + 21,)
    assert WHOLEPOSE.sizes == (133,)
    for estimator in ESTIMATORS.values():
        assert len(set(estimator.names)) == len(estimator.names)
        assert (
            len(estimator.names[estimator.part("left_hand")])
            == len(estimator.names[estimator.part("right_hand")])
            == 21
        )


@pytest.mark.parametrize(("layout", "name"), LAYOUTS_AND_ESTIMATORS)
def test_table_indices_match_the_estimators_names(layout, name):
    names = ESTIMATORS[name].names_for(max(ESTIMATORS[name].sizes))
    for landmark in load_layout(layout).landmarks:
        if landmark.name == NECK and name == "wholepose":
            assert name not in landmark.index  # derived from the shoulders
        else:
            assert names[landmark.index[name]] == landmark.name


@pytest.mark.parametrize(("layout", "name"), LAYOUTS_AND_ESTIMATORS)
def test_select_returns_points_in_the_order_of_the_table(layout, name):
    clip, table = figure_clip(name, gaps=False), load_layout(layout)
    points = table.select(clip)
    assert points.shape == (20, len(table), 2) and points.dtype == np.float32
    for column, landmark in enumerate(table.names):
        if landmark in clip.names:
            np.testing.assert_array_equal(points[:, column], clip.points[:, clip.names.index(landmark)])
        else:
            shoulders = [clip.names.index(f"pose_{side}_shoulder") for side in ("left", "right")]
            np.testing.assert_allclose(points[:, column], clip.points[:, shoulders].mean(axis=1))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_have_the_number_of_landmarks_in_their_name_and_a_tree_of_parents(layout):
    table = load_layout(layout)
    assert len(table) == len(set(table.names)) == int(layout)
    roots = [landmark.name for landmark in table.landmarks if landmark.parent is None]
    assert roots == ["pose_chest_middle_up" if layout == "54" else "pose_nose"]
    assert all(landmark.parent in table.names for landmark in table.landmarks if landmark.parent)


def test_spoter54_has_the_landmarks_of_54_in_another_order():
    assert sorted(load_layout("spoter54").names) == sorted(load_layout("54").names)
    assert load_layout("spoter54").names[:4] == ("pose_nose", NECK, "pose_right_eye", "pose_left_eye")


def test_face_points_lie_on_the_side_in_their_name(shared_data):
    """In a real, unmirrored frontal face mesh, points on the signer's right have the smaller x."""
    h5py = pytest.importorskip("h5py")
    table = load_layout("71")
    with h5py.File(shared_data / "asl6.hdf5") as file:
        data = np.stack([file[key]["data"][()].mean(axis=0) for key in list(file)[:20]]).mean(axis=0).T
    for landmark in table.landmarks:
        if landmark.section == "face" and "_right_" in landmark.name:
            twin = table.landmarks[table.column(landmark.name.replace("_right_", "_left_"))]
            assert data[landmark.index["mediapipe"], 0] < data[twin.index["mediapipe"], 0], landmark.name


def test_openpose_and_wholepose_use_the_same_68_face_points():
    """OpenPose and COCO-WholeBody number the face in the same way: this detects an error in one column of a table."""
    for landmark in load_layout("71").landmarks:
        if landmark.section == "face":
            wholepose = landmark.index["wholepose"] - WHOLEPOSE.part("face").start
            assert wholepose == landmark.index["openpose"] - OPENPOSE.part("face").start


def test_a_known_neck_is_used_and_a_missing_neck_is_derived():
    points = figure(MEDIAPIPE)
    neck = np.full((len(points), 1, 2), 0.25, dtype=np.float32)
    neck[3] = np.nan
    clip = make_clip(np.concatenate([points, neck], axis=1), MEDIAPIPE.names_for(544), "mediapipe")
    table = load_layout("54")
    actual = table.select(clip)[:, table.column(NECK)]
    assert (np.delete(actual, 3, axis=0) == 0.25).all()
    shoulders = [MEDIAPIPE.names.index(f"pose_{side}_shoulder") for side in ("left", "right")]
    np.testing.assert_allclose(actual[3], points[3, shoulders].mean(axis=0))


def test_the_derived_neck_is_missing_if_a_shoulder_is_missing():
    clip = figure_clip("mediapipe")
    table = load_layout("54")
    assert np.isnan(table.select(clip)[18, table.column(NECK)]).all()


def test_a_clip_of_named_points_fits_any_layout_with_a_subset_of_them():
    table, small = load_layout("54"), load_layout("29")
    clip = make_clip(table.select(figure_clip()), table.names)
    np.testing.assert_array_equal(small.select(clip), small.select(figure_clip()))
    with pytest.raises(InputError, match=r"22 .*71 .*face_right_mouth_up") as caught:
        load_layout("71").select(clip)
    assert caught.value.code == "missing_landmarks"


def test_a_custom_layout_file(tmp_path):
    path = tmp_path / "hands.csv"
    path.write_text(
        "name,section,mediapipe,wholepose,openpose,parent\nmy_thumb,leftHand,505,95,99,\npose_nose,pose,0,0,0,my_thumb\n"
    )
    table = load_layout(str(path))
    clip = figure_clip("openpose")
    np.testing.assert_array_equal(table.select(clip)[:, 0], clip.points[:, 99])
    assert table.names == ("my_thumb", "pose_nose")


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("name,section\n", "name.*section.*mediapipe"),
        ("name,section,mediapipe,wholepose,openpose,parent\n", "layout.csv"),
        ("name,section,mediapipe,wholepose,openpose,parent\na,foot,1,1,1,\n", "line 2: .*'foot'"),
        ("name,section,mediapipe,wholepose,openpose,parent\na,pose,544,1,1,\n", "line 2: .*mediapipe .*'544'"),
        ("name,section,mediapipe,wholepose,openpose,parent\na,pose,1,.,1,\n", r"line 2: .*wholepose .*'\.'"),
        (
            "name,section,mediapipe,wholepose,openpose,parent\na,pose,1,1,1,\na,pose,2,2,2,\n",
            "line 3: .*'a'",
        ),
        ("name,section,mediapipe,wholepose,openpose,parent\na,pose,1\n", "line 2: .*3 .*6"),
        ("name,section,mediapipe,wholepose,openpose,parent\na,pose,1,1,1,,b\n", "line 2: .*7 .*6"),
        # an unmatched quote puts the rest of the file into one cell
        (
            'name,section,mediapipe,wholepose,openpose,parent\na,pose,1,1,1,"b\nc,pose,2,2,2,\n',
            "line 3",
        ),
    ],
)
def test_an_invalid_layout_file_is_refused_with_the_line_number(tmp_path, text, pattern):
    path = tmp_path / "layout.csv"
    path.write_text(text)
    with pytest.raises(ModelFolderError, match=pattern):
        load_layout(str(path))


def test_a_changed_layout_file_is_read_again_and_equal_content_is_cached(tmp_path, monkeypatch):
    header = "name,section,mediapipe,wholepose,openpose,parent\n"
    for folder, row in (("first", "pose_nose,pose,0,,,"), ("second", "pose_left_eye,pose,2,,,")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "custom.csv").write_text(f"{header}{row}\n")
        monkeypatch.chdir(tmp_path / folder)
        assert load_layout("custom.csv").names == (row.partition(",")[0],)
    cached = load_layout("custom.csv")
    assert load_layout("custom.csv") is cached  # caches use the layout object as their key
    (tmp_path / "second" / "custom.csv").write_text(f"{header}pose_nose,pose,0,,,\n")
    assert load_layout("custom.csv").names == ("pose_nose",) and cached.names == ("pose_left_eye",)
    assert load_layout("54") is load_layout("54")


def test_the_error_for_an_unknown_layout_names_the_known_layouts():
    with pytest.raises(ModelFolderError, match=r"'55'.*29, 54, 71, spoter54"):
        load_layout("55")


@pytest.mark.parametrize(
    ("value", "pattern"),
    [(np.inf, "x = inf"), (1e30, "x = 1e"), (11.0, "x = 11")],
)
def test_a_coordinate_out_of_range_is_named(value, pattern):
    points = figure(WHOLEPOSE).astype(np.float64)
    points[17, WHOLEPOSE.names.index("pose_left_wrist"), 0] = value
    with pytest.raises(InputError, match=pattern) as caught:
        make_clip(points, WHOLEPOSE.names)
    assert (caught.value.code, caught.value.where) == ("out_of_range", "frame 17, point pose_left_wrist")


def test_pixels_are_detected():
    with pytest.raises(InputError, match="pixels") as caught:
        make_clip(640 * figure(WHOLEPOSE), WHOLEPOSE.names)
    assert caught.value.code == "out_of_range"


def test_a_point_with_one_coordinate_is_missing():
    points = figure(WHOLEPOSE)
    points[0, 0, 1] = np.nan
    assert np.isnan(make_clip(points, WHOLEPOSE.names).points[0, 0]).all()


def test_a_single_outlier_is_not_reported_as_pixels():
    points = figure(WHOLEPOSE)
    points[3, 0, 1] = 11
    with pytest.raises(InputError) as caught:
        make_clip(points, WHOLEPOSE.names)
    assert "pixels" not in caught.value.message


def test_used_columns_are_those_that_select_reads():
    clip = figure_clip("wholepose", gaps=False)
    for layout in BUILT_IN:
        table = load_layout(layout)
        used = table.used_columns(clip.names, clip.estimator)
        blank = clip.points.copy()
        blank[:, ~used] = np.nan
        np.testing.assert_array_equal(
            table.select(make_clip(blank, clip.names, clip.estimator)), table.select(clip), strict=True
        )
        assert used.sum() == len(table) - (NECK in table.names)
