"""The output of `spoter evaluate`: files, tables, and one JSON line."""

from __future__ import annotations

import html.parser
import json
import re
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from spoter.cli.main import app
from spoter.errors import DataError
from spoter.training.evaluation import report
from spoter.training.evaluation.evaluate import evaluate
from spoter.training.evaluation.predictions import predict
from spoter.training.evaluation.robustness import CONDITIONS
from tests.training.datasets import GLOSSES, generated_points, write_hdf5
from tests.training.evaluation.trained import Oracle, member, write_model

pytestmark = pytest.mark.slow


def run(*words) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["evaluate", *map(str, words)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


# --- files ---


class Page(html.parser.HTMLParser):
    """A parser that collects references, tags and texts of a page, and checks that tags are closed in order."""

    EMPTY = ("meta", "img", "br", "link")

    def __init__(self, text: str):
        super().__init__()
        self.open, self.references, self.tags, self.texts = [], [], set(), []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.references += [value for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def test_report_is_self_contained_and_has_no_scripts(tmp_path):
    bad = '<b>"&|<script>alert(1)</script>$x$ [red]'
    glosses = (*GLOSSES[:2], bad)
    folder = write_model(tmp_path / "model", glosses)
    clips = [
        (f"camera0{i}/<i>{gloss}{n}", gloss, generated_points("NOD", 12, np.random.default_rng(n)))
        for i in range(3) for n, gloss in enumerate(glosses)
    ]  # fmt: skip
    clips.append(("camera00/<u>long", bad, generated_points("NOD", 65, np.random.default_rng(9))))
    evaluation = evaluate(folder, write_hdf5(tmp_path / "d.hdf5", clips))
    written = report.write_report(evaluation, tmp_path / "out", tmp_path / "page.html")
    assert sorted(path.name for path in written) == [
        "confusion.png", "evaluation.json", "page.html", "reliability.png", "report.html", "robustness.png",
    ]  # fmt: skip
    text = (tmp_path / "out" / "report.html").read_text()
    assert text == (tmp_path / "page.html").read_text()
    page = Page(text)
    assert len(page.references) == 3 and all(value.startswith("data:image/png;base64,") for value in page.references)
    assert not page.tags & {"script", "i", "u", "link", "iframe"}
    assert "//" not in re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]*", "", text)
    assert "url(" not in text and "@import" not in text
    assert bad in page.texts and any("camera00/<u>long" in piece for piece in page.texts)
    for condition in CONDITIONS:
        assert condition.title in page.texts
    for name in ("confusion", "reliability", "robustness"):
        assert (tmp_path / "out" / f"{name}.png").read_bytes().startswith(b"\x89PNG\r\n")
    exit_code, out, _ = run(folder, tmp_path / "d.hdf5", "--no-robustness")
    assert exit_code == 0 and "[red]" in out.replace("\n", "")  # not rich markup


def test_json_file_has_the_figures_of_the_page(folder, data, tmp_path):
    evaluation = evaluate(folder, data, split="test")
    report.write_report(evaluation, tmp_path, None)
    document = json.loads((tmp_path / "evaluation.json").read_text(), parse_constant=pytest.fail)
    assert document["figures"]["top1"]["value"] == evaluation.figures.top1.value
    clips = document["figures"]["clips"]
    assert sum(map(sum, document["confusion"])) == clips == sum(document["reliability"]["counts"]) == 18
    assert set(document["robustness"]) == {condition.key for condition in CONDITIONS}
    assert [row["gloss"] for row in document["per_gloss"]] == list(GLOSSES)
    assert len(document["sha256"]) == 64 and document["model"] == "random 1.0" and "test" in document["side"]
    assert None in document["reliability"]["score"]  # an empty bin has no mean


def test_confusion_matrix_of_one_and_of_many_glosses_can_be_drawn():
    for count in (1, 100):
        oracle = Oracle(tuple(f"GLOSS-{i}-{'x' * 30}" for i in range(count)))
        scores = np.eye(count) * 0.9 + 0.1 / count
        clips = [member(oracle.glosses[i], scores[(i + i % 2) % count].tolist(), name=str(i)) for i in range(count)]
        assert report.draw_confusion(predict(oracle, clips)).startswith(b"\x89PNG")


# --- the command ---


@pytest.mark.parametrize("chosen", [["--split", "test"], ["--groups", "camera03,camera04"]])
def test_json_output_is_one_line(folder, data, chosen):
    exit_code, out, _ = run(folder, data, *chosen, "--json")
    assert exit_code == 0 and out.count("\n") == 1
    line = json.loads(out)
    assert list(line) == ["top1", "top5", "ece", "clips"] and line["clips"] == 18
    assert 0 <= line["ece"] <= 1


def test_json_output_is_one_line_with_report_files_too(folder, data, tmp_path):
    words = [folder, data, "--split", "test", "--report", tmp_path / "r.html", "--out", tmp_path / "new" / "out"]
    exit_code, out, _ = run(*words, "--json")
    assert exit_code == 0 and list(json.loads(out)) == ["top1", "top5", "ece", "clips"]
    assert (tmp_path / "r.html").read_bytes() == (tmp_path / "new" / "out" / "report.html").read_bytes()
    assert "robustness" in json.loads((tmp_path / "new" / "out" / "evaluation.json").read_text())


def test_printed_tables(folder, data):
    exit_code, out, _ = run(folder, data, "--threads", "1")
    assert exit_code == 0
    for word in ("top-1", "macro F1", "ECE", "bootstrap", "mirrored", "shuffled", *GLOSSES):
        assert word in out
    assert "trained on" in out and "18 of these clips" in out
    exit_code, out, _ = run(folder, data, "--no-robustness", "--split", "test")
    assert exit_code == 0 and "mirrored" not in out and "of these clips" not in out


def test_command_counts_unknown_glosses_or_refuses_them(tmp_path, data):
    two = write_model(tmp_path / "two", GLOSSES[:2])
    exit_code, out, _ = run(two, data, "--unknown", "count", "--no-robustness")
    assert exit_code == 0 and re.search(r"18 clips .*: WAVE", out)
    with pytest.raises(DataError, match="WAVE"):
        run(two, data)


def test_command_with_groups_by_name_and_bad_clips(folder, tmp_path):
    rng = np.random.default_rng(0)
    clips = [(f"anna-{i}", gloss, generated_points(gloss, 9, rng)) for i, gloss in enumerate(GLOSSES)]
    clips += [("ben-0", "NOD", generated_points("NOD", 9, rng)), ("ben-1", "NOD", np.zeros((9, 543, 2)))]
    data = write_hdf5(tmp_path / "d.hdf5", clips)
    regex = ["--group-regex", r"^(\w+)-"]
    with pytest.raises(DataError):
        run(folder, data, *regex, "--json")
    exit_code, out, err = run(folder, data, *regex, "--json", "--skip-bad", "--groups", "ben")
    assert exit_code == 0 and json.loads(out)["clips"] == 1 and "skipped: " in err


def test_command_refuses_invalid_options_and_missing_packages(folder, data, tmp_path, monkeypatch):
    exit_code, _, err = run(folder, data, "--split", "test", "--groups", "camera03")
    assert exit_code == 2 and "--groups" in err and "--split" in err
    with pytest.raises(DataError, match="exam"):
        run(folder, data, "--split", "exam")
    for option, place in (("--report", tmp_path / "absent" / "r.html"), ("--out", data)):
        with pytest.raises(DataError, match=str(place.parent if option == "--report" else place)):
            run(folder, data, option, place)
    with pytest.raises(DataError, match=str(tmp_path)):
        run(folder, data, "--report", tmp_path)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    monkeypatch.delitem(sys.modules, "spoter.training.evaluation.report", raising=False)
    with pytest.raises(DataError, match=r"jinja2.*'spoter\[train\]'"):
        run(folder, data, "--report", "never.html")
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(DataError, match=r"sklearn.*'spoter\[train\]'"):
        run(folder, data, "--json")
