"""An evaluation as files: evaluation.json, pictures, and one HTML page that needs nothing but itself."""

from __future__ import annotations

import base64
import json
from dataclasses import asdict
from importlib import resources
from pathlib import Path

import jinja2
import numpy as np

from spoter import __version__
from spoter.files import atomic_write_bytes
from spoter.training.evaluation import descriptions, metrics, plots
from spoter.training.evaluation.evaluate import Evaluation

_TEMPLATE = "report.html.jinja"


def draw_pictures(evaluation: Evaluation) -> dict[str, bytes]:
    """Return the PNG pictures by name: confusion, reliability, and robustness where it was judged."""
    answers, figures = evaluation.answers, evaluation.figures
    drawn = {
        "confusion": plots.draw_confusion(answers),
        "reliability": plots.draw_reliability(metrics.compute_reliability(answers), figures.ece_by_chance),
    }
    if evaluation.robustness:
        drawn["robustness"] = plots.draw_robustness(
            descriptions.build_robustness_rows(figures, evaluation.known, evaluation.robustness)
        )
    return drawn


def render_page(evaluation: Evaluation, drawn: dict[str, bytes]) -> str:
    """Return the report: HTML with its pictures inside, no script, and no reference to anything elsewhere."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters |= {
        "number": descriptions.format_number,
        "interval": descriptions.format_interval,
        "taken_for": descriptions.format_confusions,
    }
    template = environment.from_string(
        resources.files("spoter.training.evaluation").joinpath(_TEMPLATE).read_text("utf-8")
    )
    return template.render(
        evaluation=evaluation,
        figures=evaluation.figures,
        rows=descriptions.describe_figures(evaluation.figures),
        note=descriptions.describe_intervals(evaluation.figures),
        conditions=descriptions.build_robustness_rows(evaluation.figures, evaluation.known, evaluation.robustness),
        knowing=descriptions.describe_unknown_detection(evaluation.known, evaluation.unknown),
        glosses=metrics.compute_gloss_figures(evaluation.answers),
        pictures={name: f"data:image/png;base64,{base64.b64encode(png).decode()}" for name, png in drawn.items()},
        version=__version__,
    )


def to_document(evaluation: Evaluation) -> dict:
    """Return all that was measured, fit for JSON: null stands for what could not be."""
    answers = evaluation.answers
    bins = metrics.compute_reliability(answers)
    table = answers.confusion()
    found = {
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
            for row in evaluation.robustness
        },
        "per_gloss": [asdict(row) for row in metrics.compute_gloss_figures(answers)],
        "reliability": {name: getattr(bins, name).tolist() for name in ("edges", "counts", "score", "right")},
        "glosses": answers.glosses,
        "confusion": table.tolist(),  # the last column: refused
        "refused": answers.refused,
        "skipped": [{"place": skipped.place, "reason": skipped.reason} for skipped in evaluation.skipped],
    }
    return _without_nan(found)


def write_report(evaluation: Evaluation, out: Path | None, report: Path | None) -> list[Path]:
    """Write all files into the folder `out`, and the page alone to `report`; return what was written."""
    drawn = draw_pictures(evaluation)
    html = render_page(evaluation, drawn).encode()
    files = {}
    if out is not None:
        Path(out).mkdir(parents=True, exist_ok=True)
        text = json.dumps(to_document(evaluation), indent=2, ensure_ascii=False, allow_nan=False)
        files[Path(out) / "evaluation.json"] = f"{text}\n".encode()
        files |= {Path(out) / f"{name}.png": png for name, png in drawn.items()}
        files[Path(out) / "report.html"] = html
    if report is not None:
        files[Path(report)] = html
    for path, content in files.items():
        atomic_write_bytes(path, content)
    return list(files)


def _without_nan(value):
    """Return `value` with None for each NaN in it, which JSON has no word for."""
    if isinstance(value, dict):
        return {key: _without_nan(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(part) for part in value]
    return None if isinstance(value, float) and np.isnan(value) else value
