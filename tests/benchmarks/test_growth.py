"""How costs grow: slopes and shares are right, each axis is measured, and tables and picture hold what was."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from benchmarks.command import application
from benchmarks.models import ORIGINAL, bind_request, write_random_model
from benchmarks.serving import growth
from benchmarks.serving.growth import Growth
from benchmarks.timing import Timing
from spoter.errors import SpoterError
from spoter.model.config import Sizes
from spoter.serving.recognizer import Recognizer

SMALL = Sizes(
    width=108, heads=9, encoder_layers=1, decoder_layers=1, encoder_feedforward=16, decoder_feedforward=16,
    position_rows=50, classes=5,
)  # fmt: skip


def timings(*medians: float) -> list[Timing]:
    return [Timing("", median, 0.9 * median, 1.1 * median) for median in medians]


@pytest.mark.parametrize("power", [0, 1, 2])
def test_slopes_are_powers_of_the_upper_half(power):
    sizes = (1, 10, 100, 1000, 10_000)
    values = [7.0, 7.0, *(3 * size**power for size in sizes[2:])]
    assert growth.fit_slope(sizes, values) == pytest.approx(power)


def test_attention_is_the_part_that_grows_with_the_square():
    assert growth.quadratic_share(ORIGINAL, 60) == pytest.approx(
        2 * 60 * 108 / (2 * 60 * 108 + 4 * 108**2 + 2 * 108 * 2048)
    )
    shares = [growth.quadratic_share(SMALL, frames) for frames in (15, 600)]
    assert 0 < shares[0] < shares[1] < 1


def test_each_axis_is_measured_and_its_models_are_of_its_sizes(tmp_path):
    frames = growth.grow_frames(SMALL, (2, 40), 0, tmp_path)
    assert list(frames.series) == ["compact request", "full request", "forward alone"]
    clips = growth.grow_clips(SMALL, (1, 3), 0, tmp_path)
    glosses = growth.grow_glosses(SMALL, (2, 7), 0, tmp_path)
    for found, sizes in ((frames, (2, 40)), (clips, (1, 3)), (glosses, (2, 7))):
        assert tuple(found.sizes) == sizes
        assert all(len(each) == 2 and min(timing.median for timing in each) > 0 for each in found.series.values())
    assert len(Recognizer.load(tmp_path / "glosses-7-with").vocabulary.directions) == 7
    assert Recognizer.load(tmp_path / "glosses-7-without").prototypes is None
    assert Recognizer.load(tmp_path / "frames").limits.max_frames == 40


def test_an_answer_that_is_an_error_is_not_measured(tmp_path):
    recognizer = Recognizer.load(write_random_model(tmp_path / "model", SMALL))
    with pytest.raises(SpoterError, match="400"):
        bind_request(recognizer, b"{}")()


def test_a_table_has_a_row_a_size_and_the_slopes():
    text = growth.growth_table(
        Growth("frames", (10, 100, 1000), {"a": timings(1, 10, 100), "b": timings(5, 5, 5)}, note="So.")
    )
    assert "| 100 | 10.00 (9.00 - 11.00) | 5.00 (4.50 - 5.50) |" in text
    assert "| slope | 1.00 | 0.00 |" in text and text.endswith("\nSo.\n")


@pytest.mark.parametrize("ending", [".png", ".svg"])
def test_the_picture(tmp_path, ending):
    pytest.importorskip("matplotlib")
    found = [Growth("frames", (10, 100), {"a": timings(1, 10)}), Growth("clips", (1, 2, 4), {"b": timings(1, 2, 4)})]
    growth.draw(found, tmp_path / "pictures" / f"growth{ending}")
    (path,) = (tmp_path / "pictures").iterdir()
    assert path.read_bytes()[:5] == {".png": b"\x89PNG\r", ".svg": b"<?xml"}[ending]


@pytest.mark.slow
def test_the_command(tmp_path, monkeypatch):
    for axis, sizes in (("FRAMES", (5, 9)), ("CLIPS", (1, 2)), ("GLOSSES", (2, 3))):
        monkeypatch.setattr(growth, axis, sizes)
    app = application(growth.main)
    folder = write_random_model(tmp_path / "model", SMALL)
    done = CliRunner().invoke(app, ["--model", str(folder), "--seconds", "0", "--no-server"])
    assert done.exit_code == 0, done.output
    assert [line for line in done.stdout.splitlines() if line.startswith("###")] == [
        "### Against frames, ms", "### Against clips in a request, ms", "### Against glosses, ms",
    ]  # fmt: skip
    assert CliRunner().invoke(app, ["--picture", "growth.pdf"]).exit_code == 2
