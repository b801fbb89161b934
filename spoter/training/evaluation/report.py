"""The files of an evaluation: evaluation.json, pictures, and a self-contained HTML page."""

import base64
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from matplotlib.figure import Figure as Picture

from spoter import __version__
from spoter.files import atomic_write_bytes
from spoter.training.evaluation import descriptions, metrics
from spoter.training.evaluation.evaluate import ConditionFigures, Evaluation
from spoter.training.evaluation.metrics import Reliability
from spoter.training.evaluation.predictions import Predictions

_BLUE, _RED, _GREY = "#2f6db3", "#c8553d", "#8a8f98"
_DPI = 110
_MOST_NUMBERED = 30  # with more glosses, the cells have no room for numbers


def draw_pictures(evaluation: Evaluation) -> dict[str, bytes]:
    """Return the PNG pictures by name: confusion, reliability, and robustness if it was evaluated."""
    predictions, figures = evaluation.predictions, evaluation.figures
    pictures = {
        "confusion": draw_confusion(predictions),
        "reliability": draw_reliability(metrics.compute_reliability(predictions), figures.ece_by_chance),
    }
    if evaluation.robustness:
        pictures["robustness"] = draw_robustness(evaluation.robustness)
    return pictures


def render_page(evaluation: Evaluation, pictures: dict[str, bytes]) -> str:
    """Return the report: HTML with embedded pictures, without scripts and external references."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = resources.files("spoter.training.evaluation").joinpath("report.html.jinja").read_text("utf-8")
    return environment.from_string(template).render(
        evaluation=evaluation,
        figures=evaluation.figures,
        figures_table=descriptions.tabulate_figures(evaluation.figures),
        note=descriptions.describe_intervals(evaluation.figures),
        robustness_table=descriptions.tabulate_robustness(evaluation.robustness),
        unknown_signs=descriptions.describe_unknown_detection(evaluation.known, evaluation.unknown),
        gloss_table=descriptions.tabulate_glosses(evaluation.predictions),
        pictures={name: f"data:image/png;base64,{base64.b64encode(png).decode()}" for name, png in pictures.items()},
        version=__version__,
    )


def to_document(evaluation: Evaluation) -> Any:
    """Return the content of evaluation.json; None is a figure that could not be computed."""
    predictions = evaluation.predictions
    bins = metrics.compute_reliability(predictions)
    document = {
        "model": evaluation.model,
        "data": evaluation.data,
        "sha256": evaluation.digest,
        "side": evaluation.side,
        "clips_of_trained_groups": evaluation.trained_on,
        "figures": asdict(evaluation.figures),
        "known": evaluation.known,
        "unknown": evaluation.unknown and asdict(evaluation.unknown),
        "robustness": {
            row.condition.key: {name: value for name, value in asdict(row).items() if name != "condition"}
            for row in evaluation.robustness[1:]
        },
        "per_gloss": [asdict(row) for row in metrics.compute_gloss_figures(predictions)],
        "reliability": {name: getattr(bins, name).tolist() for name in ("edges", "counts", "score", "right")},
        "glosses": predictions.glosses,
        "confusion": predictions.confusion().tolist(),  # last column: refused clips
        "refused": predictions.refused,
        "skipped": [{"place": skipped.place, "reason": skipped.reason} for skipped in evaluation.skipped],
    }
    return _without_nan(document)


def write_report(evaluation: Evaluation, out: Path | None, report: Path | None) -> list[Path]:
    """Write all files into the folder `out` and the page to the file `report`; return the written paths."""
    pictures = draw_pictures(evaluation)
    html = render_page(evaluation, pictures).encode()
    files = {}
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        text = json.dumps(to_document(evaluation), indent=2, ensure_ascii=False, allow_nan=False)
        files[out / "evaluation.json"] = f"{text}\n".encode()
        files |= {out / f"{name}.png": png for name, png in pictures.items()}
        files[out / "report.html"] = html
    if report is not None:
        files[report] = html
    for path, content in files.items():
        atomic_write_bytes(path, content)
    return list(files)


def _without_nan(value: Any) -> Any:
    """Return `value` with None instead of NaN, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _without_nan(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(part) for part in value]
    return None if isinstance(value, float) and np.isnan(value) else value


def draw_confusion(predictions: Predictions) -> bytes:
    """Draw clips by true gloss (row) and predicted gloss (column): colors are shares of the row, numbers are counts.

    Rows are the glosses that occur; columns are these and all predicted glosses. Many glosses have no numbers.
    """
    table = predictions.confusion()
    rows = np.flatnonzero(table.sum(axis=1))
    columns = np.flatnonzero((table.sum(axis=0) > 0) | np.isin(np.arange(table.shape[1]), rows))
    names = [*predictions.glosses, "(refused)"]
    counts = table[np.ix_(rows, columns)]
    shares = counts / counts.sum(axis=1, keepdims=True)
    size = min(max(0.42 * len(columns), 4), 24)
    font = min(9.0, max(4.0, 60 * size / len(columns) / 1.25))
    picture = Picture(figsize=(size + 2, size * len(rows) / len(columns) + 2), layout="constrained")
    axes = picture.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(columns)), [_short(names[k]) for k in columns], rotation=90, fontsize=font)
    axes.set_yticks(range(len(rows)), [_short(names[k]) for k in rows], fontsize=font)
    for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        label.set_parse_math(False)  # a gloss may hold a dollar sign
    axes.set(xlabel="predicted gloss", ylabel="true gloss")
    if len(columns) <= _MOST_NUMBERED:
        for row, column in np.argwhere(counts):
            color = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, counts[row, column], ha="center", va="center", color=color, fontsize=font)
    else:
        axes.set_xticks(np.arange(len(columns) + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(len(rows) + 1) - 0.5, minor=True)
        axes.grid(which="minor", color="#e4e6ea", linewidth=0.4)
        axes.tick_params(which="minor", length=0)
    picture.colorbar(image, ax=axes, shrink=0.6, label="share of the clips of the gloss")
    return _png(picture)


def draw_reliability(bins: Reliability, by_chance: float) -> bytes:
    """Draw accuracy by score, and below it the number of clips in each bin."""
    picture = Picture(figsize=(5.5, 6.5), layout="constrained")
    axes, below = picture.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    filled = bins.counts > 0
    middle, width = (bins.edges[1:] + bins.edges[:-1]) / 2, np.diff(bins.edges)
    axes.plot([0, 1], [0, 1], color="black", linestyle="--", linewidth=1, zorder=3, label="perfect calibration")
    axes.bar(middle[filled], bins.right[filled], width[filled] * 0.92, color=_BLUE, label="accuracy")
    score, right = bins.score[filled], bins.right[filled]
    axes.plot(score, right, "o", color=_RED, markersize=5, zorder=4, label="mean score of the bin")
    axes.set(ylim=(-0.03, 1.05), ylabel="accuracy")  # below 0, to show the whole dot of a bin without correct clips
    axes.set_title(f"ECE {bins.ece:.3f} for {bins.counts.sum()} clips; by chance {by_chance:.3f}", fontsize=11)
    axes.legend(loc="upper left", fontsize=8)
    below.bar(middle, bins.counts, width * 0.92, color=_GREY)
    for place, count in zip(middle[filled], bins.counts[filled], strict=True):
        below.text(place, count, count, ha="center", va="bottom", fontsize=7)
    highest = max(1, bins.counts.max()) * 1.2
    below.set(xlim=(0, 1), ylim=(0, highest), xlabel="score of the predicted gloss", ylabel="clips")
    return _png(picture)


def draw_robustness(rows: Sequence[ConditionFigures]) -> bytes:
    """Draw the top-1 of each condition as a bar with its interval; the first row is for the unchanged clips."""
    unchanged = rows[0].top1
    picture = Picture(figsize=(7.5, 0.36 * len(rows) + 1.1), layout="constrained")
    axes = picture.add_subplot()
    for place, figure in enumerate(row.top1 for row in rows):
        axes.barh(place, figure.value, color=_BLUE if place else _GREY, height=0.7)
        if figure.low is not None and figure.high is not None:
            axes.plot([figure.low, figure.high], [place, place], color=_RED, linewidth=2, marker="|", markersize=8)
        axes.text(1.02, place, f"{figure.value:.3f}", va="center", fontsize=9, transform=axes.get_yaxis_transform())
    axes.axvline(unchanged.value, color=_GREY, linestyle=":", linewidth=1)
    axes.set_yticks(range(len(rows)), [row.condition.title for row in rows], fontsize=9)
    axes.invert_yaxis()
    axes.set(xlim=(0, 1), xlabel="top-1" + (", with 95 % interval by groups" if unchanged.low is not None else ""))
    axes.spines[["top", "right"]].set_visible(False)
    return _png(picture)


def _short(name: str) -> str:
    return name if len(name) <= 24 else f"{name[:23]}…"


def _png(picture: Picture) -> bytes:
    stream = io.BytesIO()
    picture.savefig(stream, format="png", dpi=_DPI)
    return stream.getvalue()
