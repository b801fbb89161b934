"""SPOTER's CSV, long tables and lists of parquet files: their clips, and errors with their places."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from spoter.errors import DataError
from spoter.landmarks.clip import Clip
from spoter.landmarks.estimators import MEDIAPIPE
from spoter.landmarks.layouts import load_layout
from spoter.training.data import DataSet, read_dataset
from tests.generate import figure_clip
from tests.training.datasets import put
from tests.wire import csv, long, spoter_table

CLIPS = {f"{gloss}/{i}": figure_clip(frames=6 + i, seed=i) for i, gloss in enumerate(("CASA", "CASA", "COMER"))}


def assert_points(clip: Clip, expected: np.ndarray, atol: float = 0.0) -> None:
    np.testing.assert_allclose(clip.points, expected, rtol=0, atol=atol)


# --- SPOTER's CSV ---


def spoter_file(tmp_path: Path, name: str = "data.csv", **columns) -> Path:
    """Write three clips with the labels 1, 2, 2."""
    layout = load_layout("spoter54")
    table = spoter_table(np.stack([layout.select(figure_clip(seed=seed)) for seed in range(3)]))
    return put(tmp_path / name, csv(table.assign(**({"labels": [1, 2, 2]} | columns))))


def test_spoter_csv_with_labels_names_and_groups(tmp_path):
    path = spoter_file(tmp_path)
    data = read_dataset(path)
    assert [(clip.name, clip.gloss, clip.group) for clip in data.clips] == [
        (f"data/{i}", gloss, f"data/{i}") for i, gloss in enumerate("122")
    ]
    assert not data.grouped and data.labels == {}
    layout = load_layout("spoter54")
    for seed, clip in enumerate(data.clips):
        assert_points(Clip(layout.select(clip.clip), layout.names), layout.select(figure_clip(seed=seed)), 1e-6)
    put(tmp_path / "meaning.json", b'{"0": "CASA", "1": "COMER"}')
    named = read_dataset(spoter_file(tmp_path, clip=["a", "b", "c"], group=["x", "x", "y"]))
    assert [(clip.name, clip.gloss, clip.group) for clip in named.clips] == [
        ("a", "CASA", "x"), ("b", "COMER", "x"), ("c", "COMER", "y"),
    ]  # fmt: skip
    assert named.grouped and named.labels == {"1": "CASA", "2": "COMER"}


@pytest.mark.parametrize("label", ["0", "x", "", "1.5"])
def test_wrong_label_is_an_error_with_its_line(tmp_path, label):
    path = spoter_file(tmp_path, labels=["1", "2", label])
    with pytest.raises(DataError, match=rf"data\.csv, line 4: .*'{label}'"):
        read_dataset(path)
    data = read_dataset(path, skip_bad=True)
    assert len(data.clips) == 2 and data.skipped[0].place == f"{path}, line 4"


def test_label_without_a_gloss_in_meaning_json_is_an_error(tmp_path):
    put(tmp_path / "meaning.json", b'\xef\xbb\xbf{"0": "CASA"}')  # with a byte order mark
    with pytest.raises(DataError, match=r"line 3: .*\b2\b.*\b1\b.*meaning\.json"):
        read_dataset(spoter_file(tmp_path))


@pytest.mark.parametrize(
    "content", [b"[]", b'{"a": "CASA"}', b'{"0": " "}', b'{"0": "CASA", "1": "CASA"}', b"\xff", b'{"0": 3}']
)
def test_wrong_meaning_json_is_an_error(tmp_path, content):
    put(tmp_path / "meaning.json", content)
    with pytest.raises(DataError, match=r"meaning\.json: "):
        read_dataset(spoter_file(tmp_path))


def test_bad_rows_of_a_spoter_csv_are_errors_or_skipped(tmp_path):
    path = spoter_file(tmp_path)
    table = pd.read_csv(path, dtype=str)
    table.loc[1, "nose_X"] = "[0.5, 0.5]"
    table.loc[2, "neck_Y"] = "oops"
    put(path, csv(table))
    with pytest.raises(DataError, match=r"data\.csv, line 3: "):
        read_dataset(path)
    data = read_dataset(path, skip_bad=True)
    assert [clip.name for clip in data.clips] == ["data/0"]
    assert "column neck_Y" in data.skipped[1].reason


def test_spoter_csv_without_labels_or_points_is_refused(tmp_path):
    path = spoter_file(tmp_path)
    table = pd.read_csv(path, dtype=str)
    put(path, csv(table.drop(columns="labels")))
    with pytest.raises(DataError, match=r"data\.csv: .*labels"):
        read_dataset(path)
    put(path, csv(table.drop(columns="nose_X")))
    with pytest.raises(DataError, match=r"data\.csv: .*pose_nose_X"):
        read_dataset(path)
    put(path, b"a,b\n1,2\n")
    with pytest.raises(DataError, match=r"data\.csv: .*\ba, b\b"):
        read_dataset(path)
    put(path, b"\xff\xfe")
    with pytest.raises(DataError, match=r"data\.csv: .*UTF-8"):
        read_dataset(path)


# --- long tables ---


def long_table(group: bool = True) -> pd.DataFrame:
    parts = []
    for name, clip in CLIPS.items():
        part = long(clip).assign(clip=name, gloss=name.split("/")[0])
        parts.append(part.assign(group=f"signer{int(name[-1]) % 2}") if group else part)
    return pd.concat(parts)


def write_table(path: Path, table: pd.DataFrame) -> Path:
    if path.suffix == ".parquet":
        pytest.importorskip("pyarrow", reason="parquet needs the extra train")
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False)
    return path


def check_long(data: DataSet, grouped: bool) -> None:
    assert [clip.name for clip in data.clips] == sorted(CLIPS) and data.grouped == grouped
    for clip in data.clips:
        assert_points(clip.clip, CLIPS[clip.name].points, 1e-7)
        assert clip.gloss == clip.name.split("/")[0]
        assert clip.group == (f"signer{int(clip.name[-1]) % 2}" if grouped else clip.name)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
@pytest.mark.parametrize("grouped", [True, False])
def test_long_table_is_read_with_rows_in_any_order(tmp_path, ending, grouped):
    table = long_table(grouped).sample(frac=1, random_state=0)
    check_long(read_dataset(write_table(tmp_path / f"t.{ending}", table)), grouped)


def test_points_of_the_irises_are_ignored_and_absent_rows_are_missing_points(tmp_path):
    clip = figure_clip(gaps=False)
    table = long(clip).assign(clip="a", gloss="A")
    iris = table[(table.type == "face") & (table.landmark_index < 10)].assign(
        landmark_index=lambda rows: rows.landmark_index + 468
    )
    table = pd.concat([table[table.type != "left_hand"], iris])
    (labelled,) = read_dataset(write_table(tmp_path / "t.csv", table)).clips
    expected = clip.points.copy()
    expected[:, MEDIAPIPE.part("left_hand")] = np.nan
    assert_points(labelled.clip, expected, 1e-7)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("column", "value", "named"),
    [
        ("frame", 0.5, r"column frame: .*0\.5"),
        ("landmark_index", 33, r"frame 2, column landmark_index: .*33.*32"),
        ("landmark_index", -1, "column landmark_index: .*-1"),
        ("type", "foot", "column type: .*'foot'"),
        ("gloss", "OTHER", "gloss 'CASA' and 'OTHER'"),
        ("group", "OTHER", "group 'OTHER'"),
        ("landmark_index", 4, r"frame 2: .*pose_right_eye_inner"),
        ("x", 99.0, r"frame 2, point pose_left_eye_outer: .*99"),
    ],
)
def test_bad_clip_of_a_long_table_is_an_error_or_skipped(tmp_path, ending, column, value, named):
    table = long_table().reset_index(drop=True)
    row = table.index[(table["clip"] == "CASA/1") & (table.type == "pose") & (table.frame == 2)][3]
    table[column] = table[column].astype(float if isinstance(value, float) else table[column].dtype)
    table.loc[row, column] = value
    path = write_table(tmp_path / f"t.{ending}", table)
    with pytest.raises(DataError, match=rf"t\.{ending}, clip CASA/1: .*{named}"):
        read_dataset(path)
    data = read_dataset(path, skip_bad=True)
    assert [clip.name for clip in data.clips] == ["CASA/0", "COMER/2"] and len(data.skipped) == 1


def test_rows_without_the_name_of_a_clip_are_an_error(tmp_path):
    table = long_table()
    table.loc[table["clip"] == "CASA/1", "clip"] = ""
    with pytest.raises(DataError, match="column clip"):
        read_dataset(write_table(tmp_path / "t.csv", table))
    with pytest.raises(DataError, match="column clip"):
        read_dataset(write_table(tmp_path / "t.parquet", table.assign(clip=table["clip"].replace("", None))))


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_table_without_columns_rows_or_numbers_is_refused(tmp_path, ending):
    path = tmp_path / f"t.{ending}"
    with pytest.raises(DataError, match=rf"t\.{ending}: .*gloss, x\b"):
        read_dataset(write_table(path, long_table().drop(columns=["gloss", "x"])))
    with pytest.raises(DataError, match=rf"t\.{ending}.*x"):
        read_dataset(write_table(path, long_table().assign(x="here")))
    with pytest.raises(DataError, match=rf"t\.{ending}: "):
        read_dataset(write_table(path, long_table().iloc[:0]))
    put(path, b"PAR1 and no more")
    with pytest.raises(DataError, match=rf"t\.{ending}: "):
        read_dataset(path)


def test_text_that_is_not_utf_8_is_refused(tmp_path):
    path = write_table(tmp_path / "t.parquet", long_table().assign(group=b"\xff"))
    with pytest.raises(DataError, match=r"t\.parquet: .*UTF-8.*type, clip, gloss, group"):
        read_dataset(path)


@pytest.fixture
def kaggle(tmp_path) -> Path:
    rows = []
    for name, clip in CLIPS.items():
        path = tmp_path / "landmarks" / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_table(path, long(clip).assign(frame=lambda rows: rows.frame + 20))
        rows.append((f"landmarks/{name}.parquet", 26734 + int(name[-1]) % 2, name[-1], name.split("/")[0]))
    pd.DataFrame(rows, columns=["path", "participant_id", "sequence_id", "sign"]).to_csv(
        tmp_path / "train.csv", index=False
    )
    return tmp_path


@pytest.mark.parametrize("where", ["", "train.csv"])
def test_train_csv_with_one_parquet_file_per_clip_is_read(kaggle, where):
    data = read_dataset(kaggle / where)
    assert data.grouped
    assert [(clip.name, clip.gloss, clip.group) for clip in data.clips] == [
        ("26734/0", "CASA", "26734"), ("26734/2", "COMER", "26734"), ("26735/1", "CASA", "26735"),
    ]  # fmt: skip
    for clip in data.clips:
        (expected,) = (other for name, other in CLIPS.items() if name[-1] == clip.name[-1])
        assert_points(clip.clip, expected.points, 1e-7)


def test_wrong_rows_of_a_train_csv_are_errors_with_their_lines_or_skipped(kaggle):
    (kaggle / "landmarks/CASA/1.parquet").unlink()
    put(kaggle / "landmarks/CASA/0.parquet", b"PAR1")
    index = pd.read_csv(kaggle / "train.csv", dtype=str)
    index.loc[2, "sign"] = ""
    index.to_csv(kaggle / "train.csv", index=False)
    with pytest.raises(DataError, match=r"train\.csv, line 2: .*0\.parquet: "):
        read_dataset(kaggle)
    with pytest.raises(DataError) as caught:
        read_dataset(kaggle, skip_bad=True)
    assert str(caught.value).count("skipped: ") == 3
    shutil.copy(kaggle / "landmarks/COMER/2.parquet", kaggle / "landmarks/CASA/0.parquet")
    data = read_dataset(kaggle, skip_bad=True)
    assert [clip.name for clip in data.clips] == ["26734/0"]
    reasons = {skip.place[-6:]: skip.reason for skip in data.skipped}
    assert "1.parquet: " in reasons["line 3"] and "gloss" in reasons["line 4"]
