"""`spoter data summary`: its figures, its table, its JSON and its picture."""

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
    """The generated clips; of CIRCLE's the right hand is missing in every other frame, and one clip is there twice."""
    clips = []
    for name, gloss, points in generated_clips():
        if gloss == "CIRCLE":
            points[::2, 522:] = points[::2, None, 16]
        if gloss == "WAVE":
            points[:, [0, 526]] = 0  # of a part that is there a point may be missing
        clips.append((name, gloss, points))
    clips.append(("camera05/twin/0", clips[0][1], clips[0][2]))
    return write_hdf5(tmp_path_factory.mktemp("data") / "signs.hdf5", clips)


def run(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["data", "summary", *map(str, words)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout


def test_figures_are_those_of_the_clips(path):
    data = read_dataset(path)
    found = summarize(data)
    assert found.sources == ("signs.hdf5",) and found.grouped and found.estimator == "mediapipe"
    assert found.digest == data.digest()
    lengths = [len(clip.clip) for clip in data.clips]
    total = found.total
    assert (total.clips, total.groups, total.frames) == (55, 6, sum(lengths))
    assert (total.shortest, total.median, total.longest) == (min(lengths), np.median(lengths), max(lengths))
    assert list(found.glosses) == list(GLOSSES)
    assert {gloss: row.clips for gloss, row in found.glosses.items()} == {"CIRCLE": 19, "NOD": 18, "WAVE": 18}
    assert found.groups == {"camera05": 10} | dict.fromkeys(GROUPS[:5], 9)
    assert found.cells["CIRCLE"]["camera05"] == 4 and found.cells["NOD"]["camera05"] == 3
    assert found.rare == {}
    assert found.duplicates == [["camera00/circle/0", "camera05/twin/0"]]
    circle = [len(clip.clip) for clip in data.clips if clip.gloss == "CIRCLE"]
    gone = sum((length + 1) // 2 for length in circle)
    assert found.glosses["CIRCLE"].missing["right_hand"] == pytest.approx(gone / sum(circle))
    assert found.glosses["NOD"].missing == {"left_hand": 1.0, "right_hand": 0.0, "pose": 0.0}
    assert found.glosses["WAVE"].missing == found.glosses["NOD"].missing
    assert total.missing["right_hand"] == pytest.approx(gone / sum(lengths))


def test_the_table_shows_them(path):
    code, text = run(path)
    assert code == 0
    assert "55 clips of 3 glosses, 6 groups, landmarks of mediapipe" in text
    (row,) = (line for line in text.splitlines() if "NOD" in line)
    assert [cell.strip() for cell in row.split("│")[1:-1]][:3] == ["NOD", "18", "6"] and "100.0%" in row
    assert "hold the very same points: 1" in text and "camera00/circle/0 = camera05/twin/0" in text
    assert "clips skipped: 0" in text


def test_json_holds_all_of_it_and_skipped_clips_are_listed(path):
    code, text = run(path, "--json", "--skip-bad", "--group-regex", r"/(\d)$")
    found = json.loads(text)
    assert code == 0 and set(found["groups"]) == {"0", "1", "2"}
    assert found["total"]["clips"] == 54 and found["duplicates"] == []
    (skipped,) = found["skipped"]
    assert skipped["place"].startswith("camera05/twin/0") and "camera00/circle/0" in skipped["reason"]
    _, text = run(path, "--skip-bad")
    assert "clips skipped: 1" in text and "camera05/twin/0 (CIRCLE): holds the very same points" in text


def test_data_without_groups_say_so_and_glosses_too_rare_to_split_are_listed(tmp_path):
    clips = [(f"clip{i}", gloss, points) for i, (_, gloss, points) in enumerate(generated_clips()) if i < 4]
    _, text = run(write_hdf5(tmp_path / "few.hdf5", clips))
    assert "no groups told (each clip is its own)" in text and "clips of each group" not in text
    assert "fewer groups than the three sides of a split: 1" in text and "NOD: 1" in text


def test_words_in_brackets_are_no_markup(tmp_path):
    clips = [(f"[red]/{i}", "[bold]HOLA[/bold]", points) for i, (_, _, points) in enumerate(generated_clips()) if i < 2]
    _, text = run(write_hdf5(tmp_path / "brackets.hdf5", clips))
    assert "[bold]HOLA[/bold]" in text and "[red] 2" in text


def test_the_picture_shows_the_figures(path):
    pytest.importorskip("matplotlib", reason="pictures need the extra train")
    found = summarize(read_dataset(path))
    clips, lengths, hands, groups = draw_figure(found).axes[:4]
    assert [bar.get_width() for bar in clips.patches] == [19, 18, 18]
    assert [label.get_text() for label in clips.get_yticklabels()] == list(GLOSSES)
    assert sum(bar.get_height() for bar in lengths.patches) == 55
    shares = [row.missing[hand] for hand in ("left_hand", "right_hand") for row in found.glosses.values()]
    assert [bar.get_width() for bar in hands.patches] == pytest.approx(shares)
    assert [label.get_text() for label in groups.get_xticklabels()] == list(GROUPS)
    np.testing.assert_array_equal(groups.images[0].get_array(), [[3] * 5 + [4], [3] * 6, [3] * 6])


def test_the_picture_says_where_the_data_tell_no_groups(path):
    pytest.importorskip("matplotlib", reason="pictures need the extra train")
    axes = draw_figure(summarize(read_dataset(path, groups="(.+)"))).axes
    assert not axes[3].images and "no groups" in axes[3].texts[0].get_text()


def test_a_picture_is_written_by_the_command_and_only_as_png(tmp_path, path):
    pytest.importorskip("matplotlib", reason="pictures need the extra train")
    code, _ = run(path, "--picture", tmp_path / "a.png")
    assert code == 0 and (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(DataError, match=r"a\.jpg: found \.jpg, expected a picture ending in \.png"):
        run(path, "--picture", tmp_path / "a.jpg")
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.slow
def test_the_real_data_are_summarised(shared_data):
    found = summarize(read_dataset(shared_data / "dgs11-train.hdf5"))
    assert (found.total.clips, len(found.glosses), len(found.groups), found.duplicates) == (678, 11, 18, [])
    assert (found.total.shortest, found.total.longest) == (47, 182)
    assert found.total.missing["pose"] == 0 and 0.4 < found.total.missing["right_hand"] < 0.55
