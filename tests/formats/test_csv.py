"""text/csv: valid and invalid tables of the wide, long and SPOTER forms."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from spoter.errors import InputError
from spoter.formats import Options, decode
from spoter.formats.request import Request
from spoter.formats.spoter_csv import NAMES
from spoter.landmarks.clip import Clip
from spoter.landmarks.estimators import NECK
from spoter.landmarks.layouts import BUILT_IN, load_layout
from tests.generate import figure_clip
from tests.wire import LIMITS, csv, long, spoter_table, wide

LAYOUT = load_layout("54")
CLIP = figure_clip("mediapipe", 6)
POINTS = LAYOUT.select(CLIP)
WIDE = wide(POINTS, LAYOUT.names)
LONG = long(CLIP)


def request(body: pd.DataFrame | bytes, layout=LAYOUT, options=Options()) -> Request:  # noqa: B008
    return decode(body if isinstance(body, bytes) else csv(body), "text/csv", layout, LIMITS, options)


def read(body: pd.DataFrame | bytes, layout=LAYOUT, options=Options()) -> Clip:  # noqa: B008
    decoded = request(body, layout, options)
    assert len(decoded.clips) == 1 and not decoded.many and decoded.content_type == "text/csv"
    return decoded.clips[0]


def refuse(body: pd.DataFrame | bytes, options=Options()) -> InputError:  # noqa: B008
    with pytest.raises(InputError) as caught:
        request(body, options=options)
    return caught.value


@pytest.mark.parametrize("layout", BUILT_IN)
def test_wide(layout: str) -> None:
    layout = load_layout(layout)
    points = layout.select(CLIP)
    table = wide(points, layout.names)
    np.testing.assert_array_equal(layout.select(read(table, layout)), points)
    # another order of columns, and additional columns
    table = table[reversed(table.columns)]
    table.insert(3, "frame", range(6))
    table.insert(0, "signer", "unknown")
    np.testing.assert_array_equal(layout.select(read(table, layout)), points)


@pytest.mark.parametrize("name", ["29", "54"])
def test_wide_without_the_neck(name: str) -> None:
    layout = load_layout(name)
    table = wide(layout.select(CLIP), layout.names).drop(columns=[NECK + "_x", NECK + "_y"], errors="ignore")
    np.testing.assert_allclose(layout.select(read(table, layout)), layout.select(CLIP), rtol=1e-6)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("\n", "\r"),
        lambda text: "\ufeff\n\n" + text.replace("\n", "\n\n") + "  \n",
        lambda text: text.rstrip("\n"),
        lambda text: text.replace(",", ", "),
        lambda text: ",".join(f'"{name}"' for name in WIDE.columns) + text[text.index("\n") :],
        lambda text: text.replace("pose_nose_x", " pose_nose_x "),
    ],
    ids=["CRLF", "CR", "BOM and blank lines", "no final newline", "spaces", "quotes", "spaces in the header"],
)
def test_wide_in_the_styles_of_several_programs(change) -> None:
    body = change(csv(WIDE).decode()).encode()
    np.testing.assert_array_equal(LAYOUT.select(read(body)), POINTS)
    np.testing.assert_array_equal(
        LAYOUT.select(decode(body, "text/csv; charset=utf-8", LAYOUT, LIMITS).clips[0]), POINTS
    )


def test_wide_in_pixels() -> None:
    decoded = read(wide(POINTS * np.float32([640, 480]), LAYOUT.names), options=Options(width=640, height=480))
    np.testing.assert_allclose(decoded.points, POINTS, rtol=1e-6)


def test_options_apply_to_the_clip() -> None:
    options = Options(top_k=2, estimator="wholepose", fps=30)
    decoded = request(WIDE, options=options)
    assert decoded.top_k == 2 and (decoded.clips[0].estimator, decoded.clips[0].fps) == ("wholepose", 30)


@pytest.mark.parametrize("layout", BUILT_IN)
def test_long(layout: str) -> None:
    layout = load_layout(layout)
    decoded = read(LONG, layout)
    assert decoded.estimator == "mediapipe"
    np.testing.assert_array_equal(decoded.points, CLIP.points)


def test_long_in_any_order_with_gaps_and_without_z() -> None:
    table = LONG.drop(columns=["z", "row_id"]).sample(frac=1, random_state=1)
    table["frame"] = table["frame"] * 10 + 7  # every tenth frame of a video
    np.testing.assert_array_equal(read(table).points, CLIP.points)
    # a missing row is a missing point
    decoded = read(LONG[~((LONG["type"] == "pose") & (LONG["landmark_index"] == 15) & (LONG["frame"] == 1))])
    assert np.isnan(decoded.points[1, 15]).all() and len(decoded) == 6


def test_long_with_a_refined_face() -> None:
    irises = pd.DataFrame({"frame": 0, "type": "face", "landmark_index": range(468, 478), "x": 0.5, "y": 0.5})
    np.testing.assert_array_equal(read(pd.concat([LONG, irises])).points, CLIP.points)


def test_a_clip_column_separates_several_clips() -> None:
    second = figure_clip("mediapipe", 4, seed=2)
    tables = [
        WIDE.assign(clip="b"),
        wide(LAYOUT.select(second), LAYOUT.names).assign(clip="a"),
        WIDE.assign(clip=7, pose_nose_x=99.0),
    ]
    decoded = request(pd.concat(tables))
    assert decoded.many
    np.testing.assert_array_equal(LAYOUT.select(decoded.clips[0]), POINTS)
    np.testing.assert_array_equal(LAYOUT.select(decoded.clips[1]), LAYOUT.select(second))
    assert (decoded.clips[2].code, decoded.clips[2].where) == ("out_of_range", "clip 2, frame 0, point pose_nose")
    decoded = request(pd.concat([LONG.assign(clip=1), long(second).assign(clip=0)]))
    np.testing.assert_array_equal(decoded.clips[0].points, CLIP.points)
    np.testing.assert_array_equal(decoded.clips[1].points, second.points)
    assert refuse(pd.concat([WIDE.assign(clip=i) for i in range(5)])).code == "too_many_clips"


SPOTER = load_layout("spoter54")
TWO = np.stack([SPOTER.select(figure_clip("mediapipe", 5, seed=seed)) for seed in (0, 1)])


@pytest.mark.parametrize("hands", [("_left_", "_right_"), ("_0_", "_1_"), ("_Left_", "_Right_")])
@pytest.mark.parametrize("layout", ["29", "54", "spoter54"])
def test_spoter_data_set(layout: str, hands: tuple[str, str]) -> None:
    layout = load_layout(layout)
    table = spoter_table(TWO)
    table.columns = [name.replace("_left_", hands[0]).replace("_right_", hands[1]) for name in table.columns]
    decoded = request(table, layout)
    assert decoded.many and len(decoded.clips) == 2
    for clip, points in zip(decoded.clips, TWO, strict=True):
        expected = layout.select(Clip(points, SPOTER.names))
        np.testing.assert_allclose(layout.select(clip), expected, atol=1e-6)
        np.testing.assert_array_equal(np.isnan(layout.select(clip)), np.isnan(expected))


def test_spoter_data_set_without_the_neck_and_with_a_bad_row() -> None:
    table = spoter_table(TWO, neck=False)
    decoded = request(table, SPOTER)
    np.testing.assert_allclose(SPOTER.select(decoded.clips[0])[:, 1], TWO[0, :, 6:8].mean(axis=1), atol=1e-6)
    table.loc[0, "indexTip_left_Y"] = "[0.5, 0.5"
    table.loc[1, "leftEar_X"] = "[0.5]"
    first, second = request(table, SPOTER).clips
    assert (first.code, first.where) == ("wrong_type", "clip 0, line 2, column indexTip_left_Y")
    assert (second.code, second.where.split(", ")[:2]) == ("wrong_frame_count", ["clip 1", "line 3"])


def test_spoter_data_set_for_a_layout_with_a_face() -> None:
    with pytest.raises(InputError) as caught:
        request(spoter_table(TWO), load_layout("71"))
    assert caught.value.code == "missing_columns" and "face_" in caught.value.message


def test_a_point_in_two_spellings_is_refused() -> None:
    table = spoter_table(TWO)
    table["wrist_0_X"] = table["wrist_left_X"]
    error = refuse(table)
    assert error.code == "duplicate_columns" and "wrist_left_X" in error.message and "wrist_0_X" in error.message


def line(number: int, table: pd.DataFrame = WIDE, end: str = "") -> bytes:
    """Return a table with text appended to line `number`, counted from 1."""
    lines = csv(table).decode().splitlines()
    lines[number - 1] += end
    return "\n".join(lines).encode()


def cell(row: int, column: str, value: object, table: pd.DataFrame = WIDE) -> pd.DataFrame:
    """Return a table with one cell changed."""
    table = table.astype({column: object}).reset_index(drop=True)
    table.loc[row, column] = value
    return table


BAD = {
    "not UTF-8": (b"pose_nose_x,\xff\n1,2\n", "invalid_csv", "byte 12", "UTF-8"),
    "UTF-16": (csv(WIDE).decode().encode("utf-16"), "invalid_csv", "byte 0", "UTF-8"),
    "NUL": (csv(WIDE).replace(b",", b"\0", 1), "invalid_csv", "byte 11", "NUL"),
    "only quotes": (b'""\n', "unknown_form", None, "header"),
    "header only": (WIDE[:0], "no_frames", None, "row"),
    "long header only": (LONG[:0], "no_frames", None, "row"),
    "not a table": (b"hello\nworld\n", "unknown_form", "header", "'hello'"),
    "semicolons": (csv(WIDE).replace(b",", b";"), "unknown_form", "header", "commas"),
    "numbers for a header": (b"0.1,0.2\n0.3,0.4\n", "unknown_form", "header", "'0.1', '0.2'"),
    "5000 columns": (b"," * 5000 + b"\n", "unknown_form", "header", "4096"),
    "one cell too many": (line(3, end=",0.5"), "ragged_csv", "line 3", "109 cells"),
    "one cell too few": (line(4)[: line(4).rindex(b",")], "ragged_csv", "line 7", "107 cells"),
    "one cell too few, quoted": (
        b'frame,type,landmark_index,x,y\n1,"pose",1,1\n', "ragged_csv", "line 2", "4 cells",
    ),
    "one cell too many in each row": (
        csv(WIDE).replace(b"\n", b",\n").replace(b",\n", b"\n", 1), "ragged_csv", "line 2", "109",
    ),
    "open quote": (csv(WIDE).replace(b"\n0", b'\n"0', 1), "ragged_csv", "line 7", "quotes"),
    "cell of 200 kB": (b'pose_nose_x,b\n"' + b"1" * 200_000 + b'",1\n', "missing_columns", "header", "105"),
    "missing columns": (
        WIDE.drop(columns=["pose_nose_x", "leftHand_wrist_y"]),
        "missing_columns", "header", "2 of 108 columns: pose_nose_x, leftHand_wrist_y",
    ),
    "missing shoulder": (WIDE.drop(columns="pose_left_shoulder_y"), "missing_columns", "header", "left_shoulder_y"),
    "duplicate columns": (
        csv(WIDE).replace(b"pose_nose_x", b"pose_left_eye_x", 1), "duplicate_columns", "header", "'pose_left_eye_x'",
    ),
    "text": (
        cell(2, "pose_nose_y", "abc"),
        "wrong_type", "line 4, column pose_nose_y", "'abc'",
    ),
    "decimal comma": (cell(2, "pose_nose_y", "0,5"), "wrong_type", "line 4, column pose_nose_y", "'0,5'"),
    "hexadecimal": (cell(0, "pose_nose_y", "0x10"), "wrong_type", "line 2, column pose_nose_y", "'0x10'"),
    "True": (WIDE.assign(pose_nose_y=True), "wrong_type", "line 2, column pose_nose_y", "'True'"),
    "True among numbers": (cell(1, "pose_nose_y", "True"), "wrong_type", "line 3, column pose_nose_y", "'True'"),
    "a date": (cell(1, "pose_nose_y", "2024-01-01"), "wrong_type", "line 3, column pose_nose_y", "'2024-01-01'"),
    "inf": (cell(1, "pose_nose_y", "inf"), "out_of_range", "frame 1, point pose_nose", "y = inf"),
    "1e400": (cell(1, "pose_nose_y", "1e400"), "out_of_range", "frame 1, point pose_nose", "y = inf"),
    "30 digits": (cell(1, "pose_nose_y", "9" * 30), "out_of_range", "frame 1, point pose_nose", "y = 1e+30"),
    "pixels": (wide(POINTS * 500, LAYOUT.names), "out_of_range", "frame 0, point pose_nose", "pixels"),
    "no usable frames": (WIDE * np.nan, "no_usable_frames", None, "6 frames"),
    "too many frames": (pd.concat([WIDE] * 7), "too_many_frames", None, "42 frames"),
    "long, missing column": (LONG.drop(columns="y"), "missing_columns", "header", "1 of 5 columns: y"),
    "long, unknown type": (
        cell(3, "type", "hand", LONG), "wrong_type", "line 5, column type", "'hand'",
    ),
    "long, no type": (cell(3, "type", "", LONG), "wrong_type", "line 5, column type", "''"),
    "long, index 33 of the pose": (
        cell(1, "landmark_index", 33, LONG[LONG["type"] == "pose"]),
        "wrong_point_count", "line 3, column landmark_index", "index 33, expected 0 to 32",
    ),
    "long, index -1": (cell(1, "landmark_index", -1, LONG), "wrong_point_count", "line 3, column landmark_index", "-1"),
    "long, index 1.5": (
        cell(1, "landmark_index", 1.5, LONG), "wrong_type", "line 3, column landmark_index", "1.5",
    ),
    "long, no frame": (cell(1, "frame", None, LONG), "wrong_type", "line 3, column frame", "nan"),
    "long, frame inf": (cell(1, "frame", "inf", LONG), "wrong_type", "line 3, column frame", "inf"),
    "long, text as x": (cell(1, "x", "?", LONG), "wrong_type", "line 3, column x", "'?'"),
    "long, repeated row": (
        pd.concat([LONG, LONG[40:41]]),
        "duplicate_rows", "line 3260", "face_40",
    ),
    "long, too many frames": (
        pd.DataFrame({"frame": range(41), "type": "pose", "landmark_index": 0, "x": 0.5, "y": 0.5}),
        "too_many_frames", None, "41 frames",
    ),
    "long, only hips": (
        LONG[(LONG["type"] == "pose") & LONG["landmark_index"].isin([23, 24])], "no_usable_frames", None, "layout 54",
    ),
    "no clip name": (cell(3, "clip", "", WIDE.assign(clip="a")), "wrong_type", "line 5, column clip", "name"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_table(name: str) -> None:
    body, code, where, words = BAD[name]
    error = refuse(body)
    assert (error.code, error.status) == (code, 400), error
    assert error.where == where
    assert words in error.message


def test_the_long_form_is_always_mediapipe() -> None:
    assert refuse(LONG, Options(estimator="openpose")).code == "wrong_estimator"
    assert refuse(WIDE, Options(estimator="alphapose")).code == "unknown_estimator"


def test_the_names_of_the_data_sets_in_the_authors_order_give_the_layout(shared_data) -> None:
    vectors = np.load(shared_data / "reference" / "preprocess-bohacek.npz")
    assert tuple(NAMES[name] for name in vectors["names"].tolist()) == SPOTER.names


@pytest.mark.parametrize("word", ["", "nan", "NaN"])
def test_cells_that_mean_a_missing_value(word: str) -> None:
    table = WIDE.astype(object)
    table.iloc[2, 0] = word
    points = read(table).points
    assert np.isnan(points[2, 0]).all() and np.isfinite(points[1, 0]).all()


@pytest.mark.parametrize("word", ["null", "NA", "None", "n/a", "-", "#N/A", "1.#IND"])
def test_other_text_is_not_a_number(word: str) -> None:
    table = WIDE.astype(object)
    table.iloc[2, 0] = word
    error = refuse(table)
    assert (error.code, error.where) == ("wrong_type", f"line 4, column {WIDE.columns[0]}")
    assert repr(word) in error.message


def test_a_body_of_blank_lines_is_refused() -> None:
    error = refuse(csv(WIDE) + b"\n" * 200_000)
    assert (error.code, error.where) == ("invalid_csv", "line 100008")


@pytest.mark.parametrize("quote", [b"", b'"'])
def test_the_first_ragged_line_is_named_in_a_long_table(quote: bytes) -> None:
    header, _, rows = csv(WIDE).partition(b"\n")
    body = header + b"\n" + rows.replace(b"0.", quote + b"0.", 1).replace(b",", quote + b",", 1) + b"1,2\n" * 100_000
    error = refuse(body)
    assert (error.code, error.where) == ("ragged_csv", "line 8")
