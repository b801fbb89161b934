"""Compare our training recipe with the original's, and the effect of positions and layouts on accuracy.

`python -m benchmarks.training.recipes --data FILE`. All variants of a table use the same clips, the same split by
groups and the same number of epochs. Each run keeps the epoch with the best validation, as `spoter train` does.

Each run writes a file into the results folder, and runs whose file exists are skipped: re-run the command to resume an
interrupted benchmark, or start it a second time to share the work between two processes.
"""

import fcntl
import itertools
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from sklearn.metrics import f1_score

from benchmarks.command import run_command, split_names, split_numbers
from benchmarks.tables import markdown_table
from spoter.errors import DataError
from spoter.files import atomic_write_bytes
from spoter.training.loop import TrainContext, fit, predict_logits
from spoter.training.prepare import prepare
from spoter.training.settings import RECIPES, TrainSettings

SPLIT_SEED = 0  # all runs have the same split; the default of `spoter train`


@dataclass(frozen=True)
class Variant:
    """A row of a table: settings that differ from ours, and whether the training data has face points."""

    title: str
    settings: Mapping[str, object]
    faces: bool = False


VARIANTS = {
    "original": Variant("the original's recipe", RECIPES["original"]),
    "ours": Variant("ours: AdamW, batches of 32, per-frame positions, layout 54", {}),
    "ours-shared": Variant("ours, but `shared` positions", {"positions": "shared"}),
    "ours-29": Variant("ours, but layout 29", {"layout": "29"}),
    **{
        # One signer, so no groups to split by: each clip is a group.
        f"face-{layout}": Variant(f"ours, layout {layout}", {"layout": layout, "group_regex": "(.+)"}, faces=True)
        for layout in ("29", "54", "71")
    },
}

_COLUMNS = {
    "test_top1": ("test top-1", ".4f"),
    "test_top5": ("test top-5", ".4f"),
    "test_macro_f1": ("test macro F1", ".4f"),
    "validation_top1": ("validation top-1", ".4f"),
    "epochs": ("epochs run", ".0f"),
    "best_epoch": ("best epoch", ".0f"),
    "cpu_seconds_per_epoch": ("CPU s per epoch", ".1f"),
    "seconds": ("total wall time, s", ".0f"),
}


def main(
    data: Annotated[Path, typer.Option(help="Labeled clips with groups to split by.")],
    asl: Annotated[Path | None, typer.Option(help="Clips with face points, split by clip, to compare layouts.")] = None,
    seeds: Annotated[str, typer.Option(help="Seeds of initial weights, dropout, order and augmentation.")] = "0,1,2",
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of each run.")] = 60,
    only: Annotated[str, typer.Option(help=f"Comma-separated, from {', '.join(VARIANTS)}.")] = ",".join(VARIANTS),
    out: Annotated[Path, typer.Option(help="Folder for the results, one file per run.")] = Path("build/recipe"),
) -> None:
    """Train every variant with every seed, skip runs that have a result, and print Markdown tables."""
    chosen = split_names(only, VARIANTS, "--only")
    train_variants(data, asl, split_numbers(seeds, "--seeds", range(2**31)), epochs, chosen, out)
    for source, faces in ((data, False), (asl, True)):
        names = [name for name in chosen if VARIANTS[name].faces == faces]
        if names and source:
            print(results_table(source.name, names, out))


def train_variants(
    data: Path,
    asl: Path | None,
    seeds: Sequence[int],
    epochs: int,
    names: Sequence[str],
    out: Path,
    smaller: Mapping[str, Any] | None = None,  # overrides settings of all variants, for tests
) -> None:
    """Train the variants `names` without a result in `out`; raise `DataError` if the data is unusable."""
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    # Seeds are the outer loop, so that an interrupted benchmark has runs of every variant.
    for seed, name in itertools.product(seeds, names):
        source = asl if VARIANTS[name].faces else data
        if source is None:
            continue
        # No early stopping: all runs have the same number of epochs.
        fixed = dict(epochs=epochs, patience=0, seed=seed, threads=1)
        chosen = {**VARIANTS[name].settings, **(smaller or {}), **fixed}
        settings = TrainSettings(data=source, out=out / name, **chosen)
        path = out / f"{name}.seed{seed}.json"
        with try_lock(path) as locked:
            if locked and not is_done(path, settings):
                figures = train_once(settings, f"{name}, seed {seed}")
                result = {"variant": name, "settings": describe_settings(settings), **figures}
                atomic_write_bytes(path, json.dumps(result).encode() + b"\n")


def train_once(settings: TrainSettings, name: str) -> dict[str, Any]:
    """Train and evaluate; return the figures of a run: the columns of the table, and details."""
    progress = sys.stderr.isatty()
    task = replace(prepare(replace(settings, seed=SPLIT_SEED), progress), settings=settings)
    model, context = task.new_model(), TrainContext(progress=progress)
    before = time.process_time()
    fitted = fit(model, task.clip_sets["train"], task.clip_sets["validation"], settings, context, name)
    cpu = time.process_time() - before
    model.load_state_dict(fitted.state)
    answers = predict_logits(model, task.clip_sets["test"].batches(settings.batch_size), context.processes.device)
    labels, predicted = answers.labels, answers.logits.argmax(dim=1)
    return {
        "test_top1": answers.top(1),
        "test_top5": answers.top(5),
        "test_macro_f1": f1_score(labels, predicted, labels=labels.unique(), average="macro"),
        "validation_top1": fitted.history[fitted.epoch - 1]["validation_top1"],
        "epochs": len(fitted.history),
        "best_epoch": fitted.epoch,
        "cpu_seconds_per_epoch": cpu / len(fitted.history),
        "seconds": fitted.seconds,
        "parameters": sum(weights.numel() for weights in model.parameters()),
        "clips": {subset: len(clips) for subset, clips in task.clip_sets.items()},
        "groups": asdict(task.split),
        "data_digest": task.data.digest(),
        "history": fitted.history,
    }


def results_table(title: str, names: Sequence[str], out: Path) -> str:
    """Return a Markdown table of the runs in `out`: mean, minimum and maximum of each figure over seeds."""
    rows: list[list[object]] = []
    clips: dict[str, int] = {}
    for name in names:
        runs = [json.loads(path.read_bytes()) for path in sorted(out.glob(f"{name}.seed*.json"))]
        if runs:
            clips = runs[0]["clips"]
            cells = [_mean_and_range([run[key] for run in runs], form) for key, (_, form) in _COLUMNS.items()]
            rows.append([VARIANTS[name].title, f"{runs[0]['parameters']:,}", len(runs), *cells])
        else:
            rows.append([VARIANTS[name].title, "", 0, *[""] * len(_COLUMNS)])
    subsets = ", ".join(f"{subset} {count}" for subset, count in clips.items())
    columns = ("recipe", "parameters", "seeds", *(column for column, _ in _COLUMNS.values()))
    note = f"Mean (minimum to maximum) over seeds. Clips: {subsets}. One thread; an epoch includes validation."
    return f"{markdown_table(columns, rows, title)}\n{note}\n"


def _mean_and_range(values: Sequence[float], form: str) -> str:
    mean, low, high = (format(value, form) for value in (sum(values) / len(values), min(values), max(values)))
    return mean if low == high else f"{mean} ({low} to {high})"


def describe_settings(settings: TrainSettings) -> dict[str, Any]:
    """Return the settings without paths, as they are after a round trip through JSON."""
    values = {key: value for key, value in asdict(settings).items() if key not in ("data", "out")}
    return json.loads(json.dumps({"data": settings.data.name, **values}))


def is_done(path: Path, settings: TrainSettings) -> bool:
    """Return whether a run has a result; raise `DataError` if its settings were different."""
    if not path.exists():
        return False
    earlier, present = json.loads(path.read_bytes())["settings"], describe_settings(settings)
    different = sorted(key for key in earlier.keys() | present.keys() if earlier.get(key) != present.get(key))
    if different:
        raise DataError(f"{path}: found a result with other {', '.join(different)}: delete it or choose another --out")
    return True


@contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Lock a run for this process; yield False if another process has the lock. The lock ends with the process."""
    with open(path.with_name(f".{path.name}.lock"), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


if __name__ == "__main__":
    run_command(main)
