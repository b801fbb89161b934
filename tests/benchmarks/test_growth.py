"""Growth of cost: slopes, shares, each axis, tables and picture."""

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
def test_slope_is_the_power_in_the_upper_half(power):
    sizes = (1, 10, 100, 1000, 10_000)
    values = [7.0, 7.0, *(3 * size**power for size in sizes[2:])]
    assert growth.fit_slope(sizes, values) == pytest.approx(power)


def test_quadratic_share_is_the_share_of_attention():
    assert growth.quadratic_share(ORIGINAL, 60) == pytest.approx(
        2 * 60 * 108 / (2 * 60 * 108 + 4 * 108**2 + 2 * 108 * 2048)
    )
    shares = [growth.quadratic_share(SMALL, frames) for frames in (15, 600)]
    assert 0 < shares[0] < shares[1] < 1


def test_each_axis_is_measured_with_models_of_its_sizes(tmp_path):
    frames = growth.grow_frames(SMALL, (2, 40), 0, tmp_path)
    assert len(frames.series) == 3
    clips = growth.grow_clips(SMALL, (1, 3), 0, tmp_path)
    glosses = growth.grow_glosses(SMALL, (2, 7), 0, tmp_path)
    for axis, sizes in ((frames, (2, 40)), (clips, (1, 3)), (glosses, (2, 7))):
        assert tuple(axis.sizes) == sizes
        assert all(len(each) == 2 and min(timing.median for timing in each) > 0 for each in axis.series.values())
    assert len(Recognizer.load(tmp_path / "glosses-7-with").vocabulary.directions) == 7
    assert Recognizer.load(tmp_path / "glosses-7-without").prototypes is None
    assert Recognizer.load(tmp_path / "frames").limits.max_frames == 40


def test_request_that_fails_is_an_error(tmp_path):
    recognizer = Recognizer.load(write_random_model(tmp_path / "model", SMALL))
    with pytest.raises(SpoterError, match="400"):
        bind_request(recognizer, b"{}")()


def test_table_has_one_row_per_size_and_a_row_of_slopes():
    text = growth.growth_table(
        Growth("frames", (10, 100, 1000), {"a": timings(1, 10, 100), "b": timings(5, 5, 5)}, note="So.")
    )
    assert "| 100 | 10.00 (9.00 - 11.00) | 5.00 (4.50 - 5.50) |" in text
    assert "| slope | 1.00 | 0.00 |" in text and text.endswith("\nSo.\n")


@pytest.mark.parametrize("ending", [".png", ".svg"])
def test_picture(tmp_path, ending):
    pytest.importorskip("matplotlib")
    growths = [Growth("frames", (10, 100), {"a": timings(1, 10)}), Growth("clips", (1, 2, 4), {"b": timings(1, 2, 4)})]
    growth.draw(growths, tmp_path / "pictures" / f"growth{ending}")
    (path,) = (tmp_path / "pictures").iterdir()
    assert path.read_bytes()[:5] == {".png": b"\x89PNG\r", ".svg": b"<?xml"}[ending]


@pytest.mark.slow
def test_command(tmp_path, monkeypatch):
    for axis, sizes in (("FRAMES", (5, 9)), ("CLIPS", (1, 2)), ("GLOSSES", (2, 3))):
        monkeypatch.setattr(growth, axis, sizes)
    app = application(growth.main)
    folder = write_random_model(tmp_path / "model", SMALL)
    done = CliRunner().invoke(app, ["--model", str(folder), "--seconds", "0", "--no-server"])
    assert done.exit_code == 0, done.output
    headings = [line for line in done.stdout.splitlines() if line.startswith("###")]
    assert len(headings) == 3
    assert all(name in heading for name, heading in zip(("frames", "clips", "glosses"), headings, strict=True))
    assert CliRunner().invoke(app, ["--picture", "growth.pdf"]).exit_code == 2
