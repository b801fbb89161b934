"""`spoter data summary`: statistics, table, JSON and picture."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from spoter.cli import data as commands
from spoter.errors import DataError
from spoter.training.data import read_dataset
from spoter.training.data.summary import draw_figure, summarize
from tests.training.datasets import GLOSSES, GROUPS, generated_clips, write_hdf5

app = typer.Typer()
app.add_typer(commands.app)


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    """The generated clips; the right hand of CIRCLE is missing in every second frame, and one clip is duplicated."""
    clips = []
    for name, gloss, points in generated_clips():
        if gloss == "CIRCLE":
            points[::2, 522:] = points[::2, None, 16]
        if gloss == "WAVE":
            points[:, [0, 526]] = 0  # single points may be missing in a part
        clips.append((name, gloss, points))
    clips.append(("camera05/twin/0", clips[0][1], clips[0][2]))
    return write_hdf5(tmp_path_factory.mktemp("data") / "signs.hdf5", clips)


def run(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["data", "summary", *map(str, words)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout


def test_statistics_are_those_of_the_clips(path):
    data = read_dataset(path)
    summary = summarize(data)
    assert summary.sources == ("signs.hdf5",) and summary.grouped and summary.estimator == "mediapipe"
    assert summary.digest == data.digest()
    lengths = [len(clip.clip) for clip in data.clips]
    total = summary.total
    assert (total.clips, total.groups, total.frames) == (55, 6, sum(lengths))
    assert (total.shortest, total.median, total.longest) == (min(lengths), np.median(lengths), max(lengths))
    assert list(summary.glosses) == list(GLOSSES)
    assert {gloss: row.clips for gloss, row in summary.glosses.items()} == {"CIRCLE": 19, "NOD": 18, "WAVE": 18}
    assert summary.groups == {"camera05": 10} | dict.fromkeys(GROUPS[:5], 9)
    assert summary.cells["CIRCLE"]["camera05"] == 4 and summary.cells["NOD"]["camera05"] == 3
    assert summary.rare == {}
    assert summary.duplicates == [["camera00/circle/0", "camera05/twin/0"]]
    circle = [len(clip.clip) for clip in data.clips if clip.gloss == "CIRCLE"]
    missing = sum((length + 1) // 2 for length in circle)
    assert summary.glosses["CIRCLE"].missing["right_hand"] == pytest.approx(missing / sum(circle))
    assert summary.glosses["NOD"].missing == {"left_hand": 1.0, "right_hand": 0.0, "pose": 0.0}
    assert summary.glosses["WAVE"].missing == summary.glosses["NOD"].missing
    assert total.missing["right_hand"] == pytest.approx(missing / sum(lengths))


def test_printed_table_has_the_statistics(path):
    code, text = run(path)
    assert code == 0
    assert "55 clips of 3 glosses, 6 groups, landmarks of mediapipe" in text
    (row,) = (line for line in text.splitlines() if "NOD" in line)
    assert [cell.strip() for cell in row.split("│")[1:-1]][:3] == ["NOD", "18", "6"] and "100.0%" in row
    assert "camera00/circle/0 = camera05/twin/0" in text
    assert "clips skipped: 0" in text


def test_json_has_the_statistics_and_skipped_clips_are_listed(path):
    code, text = run(path, "--json", "--skip-bad", "--group-regex", r"/(\d)$")
    document = json.loads(text)
    assert code == 0 and set(document["groups"]) == {"0", "1", "2"}
    assert document["total"]["clips"] == 54 and document["duplicates"] == []
    (skipped,) = document["skipped"]
    assert skipped["place"].startswith("camera05/twin/0") and "camera00/circle/0" in skipped["reason"]
    _, text = run(path, "--skip-bad")
    assert "clips skipped: 1" in text and "camera05/twin/0 (CIRCLE): " in text


def test_missing_groups_and_rare_glosses_are_reported(tmp_path):
    clips = [(f"clip{i}", gloss, points) for i, (_, gloss, points) in enumerate(generated_clips()) if i < 4]
    _, text = run(write_hdf5(tmp_path / "few.hdf5", clips))
    assert "without groups" in text and "clips of each group" not in text
    assert "NOD: 1" in text


def test_text_in_brackets_is_not_markup(tmp_path):
    clips = [(f"[red]/{i}", "[bold]HOLA[/bold]", points) for i, (_, _, points) in enumerate(generated_clips()) if i < 2]
    _, text = run(write_hdf5(tmp_path / "brackets.hdf5", clips))
    assert "[bold]HOLA[/bold]" in text and "[red] 2" in text


def test_picture_shows_the_statistics(path):
    pytest.importorskip("matplotlib", reason="pictures need the extra train")
    summary = summarize(read_dataset(path))
    clips, lengths, hands, groups = draw_figure(summary).axes[:4]
    assert [bar.get_width() for bar in clips.patches] == [19, 18, 18]
    assert [label.get_text() for label in clips.get_yticklabels()] == list(GLOSSES)
    assert sum(bar.get_height() for bar in lengths.patches) == 55
    shares = [row.missing[hand] for hand in ("left_hand", "right_hand") for row in summary.glosses.values()]
    assert [bar.get_width() for bar in hands.patches] == pytest.approx(shares)
    assert [label.get_text() for label in groups.get_xticklabels()] == list(GROUPS)
    np.testing.assert_array_equal(groups.images[0].get_array(), [[3] * 5 + [4], [3] * 6, [3] * 6])


def test_picture_without_groups_has_a_text_instead_of_the_map(path):
    pytest.importorskip("matplotlib", reason="pictures need the extra train")
    axes = draw_figure(summarize(read_dataset(path, groups="(.+)"))).axes
    assert not axes[3].images and "no groups" in axes[3].texts[0].get_text()


def test_command_writes_the_picture_only_as_png(tmp_path, path):
    pytest.importorskip("matplotlib", reason="pictures need the extra train")
    code, _ = run(path, "--picture", tmp_path / "a.png")
    assert code == 0 and (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(DataError, match=r"a\.jpg: .*\.png"):
        run(path, "--picture", tmp_path / "a.jpg")
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.slow
def test_statistics_of_the_real_data(shared_data):
    summary = summarize(read_dataset(shared_data / "dgs11-train.hdf5"))
    assert (summary.total.clips, len(summary.glosses), len(summary.groups), summary.duplicates) == (678, 11, 18, [])
    assert (summary.total.shortest, summary.total.longest) == (47, 182)
    assert summary.total.missing["pose"] == 0 and 0.4 < summary.total.missing["right_hand"] < 0.55
