"""An evaluation as files: evaluation.json, pictures, and a self-contained HTML page."""

from __future__ import annotations

import base64
import json
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from spoter import __version__
from spoter.files import atomic_write_bytes
from spoter.training.evaluation import descriptions, metrics, plots
from spoter.training.evaluation.evaluate import Evaluation


def draw_pictures(evaluation: Evaluation) -> dict[str, bytes]:
    """Return the PNG pictures by name: confusion, reliability, and robustness where it was judged."""
    predictions, figures = evaluation.predictions, evaluation.figures
    drawn = {
        "confusion": plots.draw_confusion(predictions),
        "reliability": plots.draw_reliability(metrics.compute_reliability(predictions), figures.ece_by_chance),
    }
    if evaluation.robustness:
        drawn["robustness"] = plots.draw_robustness(evaluation.robustness)
    return drawn


def render_page(evaluation: Evaluation, drawn: dict[str, bytes]) -> str:
    """Return the report: HTML with its pictures inside, no script, and no reference to anything elsewhere."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = resources.files("spoter.training.evaluation").joinpath("report.html.jinja").read_text("utf-8")
    return environment.from_string(template).render(
        evaluation=evaluation,
        figures=evaluation.figures,
        figures_table=descriptions.tabulate_figures(evaluation.figures),
        note=descriptions.describe_intervals(evaluation.figures),
        robustness_table=descriptions.tabulate_robustness(evaluation.robustness),
        knowing=descriptions.describe_unknown_detection(evaluation.known, evaluation.unknown),
        gloss_table=descriptions.tabulate_glosses(evaluation.predictions),
        pictures={name: f"data:image/png;base64,{base64.b64encode(png).decode()}" for name, png in drawn.items()},
        version=__version__,
    )


def to_document(evaluation: Evaluation) -> Any:
    """Return evaluation.json's content; None stands for a figure that could not be computed."""
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
        "confusion": predictions.confusion().tolist(),  # the last column: refused
        "refused": predictions.refused,
        "skipped": [{"place": skipped.place, "reason": skipped.reason} for skipped in evaluation.skipped],
    }
    return _without_nan(document)


def write_report(evaluation: Evaluation, out: Path | None, report: Path | None) -> list[Path]:
    """Write all files into the folder `out`, and the page alone to `report`; return what was written."""
    drawn = draw_pictures(evaluation)
    html = render_page(evaluation, drawn).encode()
    files = {}
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        text = json.dumps(to_document(evaluation), indent=2, ensure_ascii=False, allow_nan=False)
        files[out / "evaluation.json"] = f"{text}\n".encode()
        files |= {out / f"{name}.png": png for name, png in drawn.items()}
        files[out / "report.html"] = html
    if report is not None:
        files[report] = html
    for path, content in files.items():
        atomic_write_bytes(path, content)
    return list(files)


def _without_nan(value: Any) -> Any:
    """Return `value` with None for each NaN in it: JSON has no NaN."""
    if isinstance(value, dict):
        return {key: _without_nan(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(part) for part in value]
    return None if isinstance(value, float) and np.isnan(value) else value
