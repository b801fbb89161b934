"""Signs that a model was not trained on: how often it calls them unknown, and its accuracy after enrolling them.

`python -m benchmarks.training.unknown_signs --data FILE`. Each draw leaves some glosses out and trains a model on the
other glosses. It then measures
- how well similarities separate clips of trained and of left-out glosses (AUROC), and the share of clips of each kind
  that the model calls known;
- the accuracy for all clips of the test groups, after the left-out glosses were enrolled from clips of the training
  groups.

Models stay in the results folder. A draw that has figures in its folder is skipped.
"""

import json
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from tqdm import tqdm

from benchmarks.command import run_command, split_numbers
from benchmarks.tables import markdown_table
from spoter.files import atomic_write_bytes
from spoter.model.folder import CONFIG
from spoter.serving.enroll import enroll
from spoter.serving.recognizer import Recognizer
from spoter.training.data import DataSet, LabelledClip, read_dataset
from spoter.training.data.split_record import SPLIT, read_split
from spoter.training.evaluation.evaluate import evaluate_unknown_signs
from spoter.training.evaluation.metrics import auroc, mean_ignoring_nan
from spoter.training.evaluation.predictions import Predictions, predict
from spoter.training.settings import TrainSettings
from spoter.training.train import train

FIGURES = {
    "top1": "top-1, trained glosses",
    "auroc": "AUROC, similarity",
    "auroc_softmax": "AUROC, highest score",
    "refused_at_95": "untrained called unknown, if 95 % of trained are known",
    "called_known": "trained called known",
    "refused": "untrained called unknown",
}
ENROLLED = {
    "all": "top-1, all glosses",
    "trained": "top-1, trained glosses",
    "enrolled": "top-1, enrolled glosses",
    "known": "enrolled called known",
}


def main(
    data: Annotated[Path, typer.Option(help="Labeled clips with groups to split by.")],
    draws: Annotated[int, typer.Option(min=1, help="Number of draws of left-out glosses.")] = 6,
    size: Annotated[int, typer.Option(min=1, help="Left-out glosses per draw.")] = 3,
    clips: Annotated[str, typer.Option(help="Clips to enroll a gloss from, comma-separated numbers.")] = "1,3,5",
    tries: Annotated[int, typer.Option(min=1, help="Random choices of these clips per draw.")] = 10,
    epochs: Annotated[int, typer.Option(min=1, help="Training epochs.")] = TrainSettings.epochs,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draws and of the choices of clips.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder for models and figures.")] = Path("build/left-out"),
) -> None:
    """Train a model for each draw that has no model, and print Markdown tables."""
    counts = split_numbers(clips, "--clips", range(1, 1001))
    data_set = read_dataset(data)
    results = []
    for number, glosses in enumerate(draw_glosses(data_set.glosses, draws, size, seed)):
        settings = TrainSettings(data=data, out=out / f"draw{number}", leave_out=glosses, epochs=epochs, threads=1)
        results.append(measure_draw(settings, data_set, counts, tries, seed))
        print(f"without {', '.join(glosses)}: {json.dumps(results[-1])}", file=sys.stderr)
    print(results_tables(results, counts))


def draw_glosses(glosses: Sequence[str], draws: int, size: int, seed: int) -> list[tuple[str, ...]]:
    """Draw glosses to leave out: every gloss is drawn once before any gloss is drawn twice."""
    rng = np.random.default_rng(seed)
    queue: list[str] = []
    drawn = []
    while len(drawn) < draws:
        while len(queue) < size:
            # Glosses in the queue go to the end of the new permutation, so that no draw has a gloss twice.
            queue += sorted(rng.permutation(glosses).tolist(), key=queue.__contains__)
        drawn.append(tuple(sorted(queue[:size])))
        queue = queue[size:]
    return drawn


def measure_draw(
    settings: TrainSettings, data: DataSet, counts: Sequence[int], tries: int, seed: int
) -> dict[str, Any]:
    """Return the figures of a draw; train its model unless the model exists."""
    path = settings.out / "left_out.json"
    options = {"leave_out": list(settings.leave_out), "epochs": settings.epochs, "counts": list(counts)}
    options |= {"tries": tries, "seed": seed, "data": data.digest()}
    if path.exists() and (earlier := json.loads(path.read_bytes()))["settings"] == options:
        return earlier["figures"]
    if not (settings.out / CONFIG).exists():
        train(settings, progress=sys.stderr.isatty(), resume=True)
    split = read_split(settings.out / SPLIT).split
    test = split.select(data.clips, "test")
    unknown = [clip for clip in data.clips if clip.gloss in settings.leave_out]
    recognizer = Recognizer.load(settings.out)
    known = predict(recognizer, [clip for clip in test if clip.gloss not in settings.leave_out])
    figures: dict[str, Any] = {"leave_out": list(settings.leave_out)}
    figures |= measure_separation(known, predict(recognizer, unknown))
    pool = [clip for clip in unknown if clip.group in split.train]
    rng = np.random.default_rng(seed)
    with tqdm(total=len(counts) * tries, desc="enrolling", disable=not sys.stderr.isatty()) as bar:
        for count in counts:
            rows = []
            for _ in range(tries):
                rows.append(measure_enrolled(settings, pool, test, count, rng))
                bar.update()
            for name, values in zip(ENROLLED, zip(*rows, strict=True), strict=True):
                figures[f"{name}_{count}"] = float(np.mean(values))
    atomic_write_bytes(path, json.dumps({"settings": options, "figures": figures}).encode() + b"\n")
    return figures


def measure_separation(known: Predictions, unknown: Predictions) -> dict[str, float]:
    """Return how well the model separates clips of trained glosses from other clips."""
    unknown_figures = evaluate_unknown_signs(known, unknown, ())
    highest = np.concatenate([answers.scores[answers.answered].max(axis=1) for answers in (known, unknown)])
    groups = tuple(np.concatenate([np.array(answers.groups)[answers.answered] for answers in (known, unknown)]))
    is_known = np.arange(len(highest)) < known.answered.sum()
    # The literature compares the share of unknown signs below a threshold that 95 % of the known signs reach.
    threshold = np.nanquantile(known.similarities, 0.05)
    return {
        "top1": known.top(1),
        "auroc": unknown_figures.auroc.value,
        "auroc_softmax": auroc(highest, is_known, groups).value,
        "refused_at_95": float((unknown.similarities < threshold).mean()),
        "called_known": 1 - unknown_figures.falsely_called_unknown,
        "refused": unknown_figures.called_unknown,
    }


def measure_enrolled(
    settings: TrainSettings,
    pool: Sequence[LabelledClip],
    test: Sequence[LabelledClip],
    count: int,
    rng: np.random.Generator,
) -> tuple[float, float, float, float]:
    """Enroll each left-out gloss from `count` clips of `pool`, predict `test`, and return the figures of `ENROLLED`."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(shutil.copytree(settings.out, Path(scratch, "model")))
        for gloss in settings.leave_out:
            clips = [clip for clip in pool if clip.gloss == gloss]
            chosen = rng.choice(len(clips), count, replace=False)
            enroll(folder, gloss, [clips[i].clip for i in chosen])
        answers = predict(Recognizer.load(folder), test)
    enrolled = answers.labels >= len(answers.glosses) - len(settings.leave_out)
    right = answers.right()
    return right.mean(), right[~enrolled].mean(), right[enrolled].mean(), mean_ignoring_nan(answers.known[enrolled])


def results_tables(results: Sequence[Mapping[str, Any]], counts: Sequence[int]) -> str:
    """Return Markdown tables: one row per draw and their mean, and one row per number of enrolled clips."""
    rows = [[", ".join(figures["leave_out"]), *(f"{figures[key]:.3f}" for key in FIGURES)] for figures in results]
    rows.append(["**mean**", *(f"**{np.mean([figures[key] for figures in results]):.3f}**" for key in FIGURES)])
    enrolled = []
    for count in counts:
        values = [np.array([figures[f"{name}_{count}"] for figures in results]) for name in ENROLLED]
        cells = [f"{each.mean():.3f} ({each.min():.3f} to {each.max():.3f})" for each in values]
        enrolled.append([f"{count} clip{'s' * (count > 1)}", *cells])
    tables = (
        markdown_table(("left-out glosses", *FIGURES.values()), rows),
        markdown_table(("enrolled from", *ENROLLED.values()), enrolled),
    )
    return "\n".join([*tables, f"Mean over {len(results)} draws (minimum to maximum over draws).\n"])


if __name__ == "__main__":
    run_command(main)
