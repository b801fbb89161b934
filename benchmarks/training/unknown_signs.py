"""Signs that a model was never trained on: whether they are refused, and whether they can be enrolled.

`python -m benchmarks.training.unknown_signs --data FILE`. In each draw some glosses are left out, a model is trained on
the others, and then
- it predicts clips of both kinds: how well do similarities separate them (AUROC), and which share of either kind does
  it call known;
- the left-out glosses are enrolled from clips of the training groups, and it predicts all clips of the test groups.

Models stay in the results folder; a draw whose figures are in its folder is not repeated.
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
    "top1": "top-1 of the trained",
    "auroc": "AUROC, similarity",
    "auroc_softmax": "AUROC, highest score",
    "refused_at_95": "unknown refused, 95 % of trained kept",
    "called_known": "trained called known",
    "refused": "unknown refused",
}
ENROLLED = {
    "all": "top-1 on all glosses",
    "trained": "on the trained",
    "enrolled": "on the enrolled",
    "known": "enrolled signs called known",
}


def main(
    data: Annotated[Path, typer.Option(help="Labelled clips, with groups to split by.")],
    draws: Annotated[int, typer.Option(min=1, help="How many times glosses are left out.")] = 6,
    size: Annotated[int, typer.Option(min=1, help="How many of them each time.")] = 3,
    clips: Annotated[str, typer.Option(help="From how many clips a gloss is enrolled, comma-separated.")] = "1,3,5",
    tries: Annotated[int, typer.Option(min=1, help="Choices of these clips in each draw.")] = 10,
    epochs: Annotated[int, typer.Option(min=1, help="Of training.")] = TrainSettings.epochs,
    seed: Annotated[int, typer.Option(min=0, help="Of the draws and of the choices of clips.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder for models and figures.")] = Path("build/left-out"),
) -> None:
    """Train a model for each draw that has none, and print Markdown tables."""
    counts = split_numbers(clips, "--clips", range(1, 1001))
    data_set = read_dataset(data)
    results = []
    for number, glosses in enumerate(draw_glosses(data_set.glosses, draws, size, seed)):
        settings = TrainSettings(data=data, out=out / f"draw{number}", leave_out=glosses, epochs=epochs, threads=1)
        results.append(measure_draw(settings, data_set, counts, tries, seed))
        print(f"without {', '.join(glosses)}: {json.dumps(results[-1])}", file=sys.stderr)
    print(results_tables(results, counts))


def draw_glosses(glosses: Sequence[str], draws: int, size: int, seed: int) -> list[tuple[str, ...]]:
    """Draw glosses to leave out: each is left out once before any is twice."""
    rng = np.random.default_rng(seed)
    queue: list[str] = []
    drawn = []
    while len(drawn) < draws:
        while len(queue) < size:
            # Those still in the queue come late in the new permutation: no draw holds a gloss twice.
            queue += sorted(rng.permutation(glosses).tolist(), key=queue.__contains__)
        drawn.append(tuple(sorted(queue[:size])))
        queue = queue[size:]
    return drawn


def measure_draw(
    settings: TrainSettings, data: DataSet, counts: Sequence[int], tries: int, seed: int
) -> dict[str, Any]:
    """Train unless a model exists, and return the figures of a draw."""
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
    """Return how well clips of trained glosses are separated from others."""
    unknown_figures = evaluate_unknown_signs(known, unknown, ())
    highest = np.concatenate([answers.scores[answers.answered].max(axis=1) for answers in (known, unknown)])
    groups = tuple(np.concatenate([np.array(answers.groups)[answers.answered] for answers in (known, unknown)]))
    is_known = np.arange(len(highest)) < known.answered.sum()
    # So many unknown signs can be refused where 95 % of the known ones are let through: what the literature compares.
    bar = np.nanquantile(known.similarities, 0.05)
    return {
        "top1": known.top(1),
        "auroc": unknown_figures.auroc.value,
        "auroc_softmax": auroc(highest, is_known, groups).value,
        "refused_at_95": float((unknown.similarities < bar).mean()),
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
    new = answers.labels >= len(answers.glosses) - len(settings.leave_out)
    right = answers.right()
    return right.mean(), right[~new].mean(), right[new].mean(), mean_ignoring_nan(answers.known[new])


def results_tables(results: Sequence[Mapping[str, Any]], counts: Sequence[int]) -> str:
    """Return Markdown tables: a row a draw with the mean of all, and a row for each number of enrolled clips."""
    rows = [[", ".join(figures["leave_out"]), *(f"{figures[key]:.3f}" for key in FIGURES)] for figures in results]
    rows.append(["**mean**", *(f"**{np.mean([figures[key] for figures in results]):.3f}**" for key in FIGURES)])
    enrolled = []
    for count in counts:
        values = [np.array([figures[f"{name}_{count}"] for figures in results]) for name in ENROLLED]
        cells = [f"{each.mean():.3f} ({each.min():.3f} to {each.max():.3f})" for each in values]
        enrolled.append([f"{count} clip{'s' * (count > 1)}", *cells])
    tables = (
        markdown_table(("left out", *FIGURES.values()), rows),
        markdown_table(("enrolled from", *ENROLLED.values()), enrolled),
    )
    return "\n".join([*tables, f"Mean over {len(results)} draws (least to most of a draw).\n"])


if __name__ == "__main__":
    run_command(main)
