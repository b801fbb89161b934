"""Our recipe against the original's, and what positions and layouts are worth: `python -m benchmarks.training.recipes --data FILE`.

All variants of a table see the same clips, the same split by whole groups and the same number of epochs, and of each
run the epoch with the best validation is kept. They go the way of `spoter train`: settings, `fit`, `score`.

Each run is a file in the results folder, written whole. Runs that are there are not repeated, so that a bench that was
stopped goes on where it was, and the same command in a second process shares the work.
"""

from __future__ import annotations

import fcntl
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from sklearn.metrics import f1_score

from spoter.errors import DataError, SpoterError
from spoter.files import atomic_write_bytes
from spoter.training.loop import TrainContext, fit, score
from spoter.training.prepare import prepare
from spoter.training.settings import RECIPES, TrainSettings

SPLIT_SEED = 0  # of the split alone, which all runs share: that of `spoter train` unless told otherwise


@dataclass(frozen=True)
class Variant:
    """A row of a table: settings that differ from ours. Rows with `faces` are trained on data with face points."""

    title: str
    settings: Mapping[str, object]
    faces: bool = False


VARIANTS = {
    "original": Variant("the original's recipe", RECIPES["original"]),
    "ours": Variant("ours: AdamW, batches of 32, per-frame positions, layout 54", {}),
    "ours-shared": Variant("ours, but `shared` positions", {"positions": "shared"}),
    "ours-29": Variant("ours, but layout 29", {"layout": "29"}),
    **{
        # One signer, no groups to split by: each clip is its own.
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
    "best_epoch": ("epoch kept", ".0f"),
    "cpu_seconds_per_epoch": ("CPU s an epoch", ".1f"),
    "seconds": ("wall s in all", ".0f"),
}


def main(
    data: Annotated[Path, typer.Option(help="Labelled clips, with groups to split by.")],
    asl: Annotated[
        Path | None, typer.Option(help="Clips with face points, split clip by clip: to compare layouts alone.")
    ] = None,
    seeds: Annotated[str, typer.Option(help="Of first weights, dropout, order and augmentation.")] = "0,1,2",
    epochs: Annotated[int, typer.Option(min=1, help="The budget of each run.")] = 60,
    only: Annotated[str, typer.Option(help=f"Some of {', '.join(VARIANTS)}.")] = "",
    out: Annotated[Path, typer.Option(help="Folder for the results, a file a run.")] = Path("build/recipe"),
) -> None:
    """Train every variant with every seed, as far as that is not done yet, and print Markdown tables."""
    chosen = [name.strip() for name in only.split(",") if name.strip()] or list(VARIANTS)
    try:
        numbers = [int(seed) for seed in seeds.split(",")]
    except ValueError:
        raise typer.BadParameter(f"found --seeds {seeds}, expected whole numbers such as 0,1,2") from None
    try:
        measure(data, asl, numbers, epochs, chosen, out)
        for faces in (False, True):
            names = [name for name in chosen if VARIANTS[name].faces == faces]
            if names and (asl or not faces):
                print(f"### {(asl if faces else data).name}\n\n{table(names, out)}")
    except SpoterError as error:
        raise SystemExit(f"error: {error}") from None


def measure(
    data: Path,
    asl: Path | None,
    seeds: Sequence[int],
    epochs: int,
    names: Sequence[str],
    out: Path,
    smaller: Mapping[str, object] | None = None,
) -> None:
    """Make the runs of variants `names` that `out` does not hold yet.

    Parameters
    ----------
    data, asl : Path
        Without `asl`, the variants that need it are left out.
    seeds, epochs, names, out
        As `main`'s options.
    smaller : mapping, optional
        Settings that override those of all variants: a small model to try the bench itself with.

    Raises
    ------
    DataError
        For an unknown variant, data that cannot be used, and results of other settings in `out`.
    """
    unknown = [name for name in names if name not in VARIANTS]
    if unknown:
        raise DataError(f"found no variant {', '.join(unknown)}, expected some of {', '.join(VARIANTS)}")
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    for seed in seeds:  # the outer loop, so that a bench that is stopped has a seed of each
        for name in names:
            source = asl if VARIANTS[name].faces else data
            if source is None:
                continue
            # No early stop: the budget is the same for all.
            fixed = dict(epochs=epochs, patience=0, seed=seed, threads=1)
            chosen = {**VARIANTS[name].settings, **(smaller or {}), **fixed}
            settings = TrainSettings(data=source, out=out / name, **chosen)
            path = out / f"{name}.seed{seed}.json"
            with _alone(path) as mine:
                if mine and not _is_there(path, settings):
                    result = {"variant": name, "settings": _told(settings), **run(settings, f"{name}, seed {seed}")}
                    atomic_write_bytes(path, json.dumps(result).encode() + b"\n")


def run(settings: TrainSettings, name: str) -> dict[str, object]:
    """Train by `settings` and judge; return the figures of a run, by the keys of the table's columns and some more."""
    progress = sys.stderr.isatty()
    task = replace(prepare(replace(settings, seed=SPLIT_SEED), progress), settings=settings)
    model, where = task.new_model(), TrainContext(progress=progress)
    before = time.process_time()
    fitted = fit(model, task.clip_sets["train"], task.clip_sets["validation"], settings, where, name)
    cpu = time.process_time() - before
    model.load_state_dict(fitted.state)
    answers = score(model, task.clip_sets["test"].batches(settings.batch_size), where.ranks.device)
    return {
        "test_top1": answers.top(1),
        "test_top5": answers.top(5),
        "test_macro_f1": f1_score(
            answers.labels, answers.logits.argmax(dim=1), labels=answers.labels.unique(), average="macro"
        ),
        "validation_top1": fitted.history[fitted.epoch - 1]["validation_top1"],
        "epochs": len(fitted.history),
        "best_epoch": fitted.epoch,
        "cpu_seconds_per_epoch": cpu / len(fitted.history),
        "seconds": fitted.seconds,
        "parameters": sum(weights.numel() for weights in model.parameters()),
        "clips": {side: len(clips) for side, clips in task.clip_sets.items()},
        "groups": asdict(task.split),
        "data_digest": task.data.digest(),
        "history": fitted.history,
    }


def table(names: Sequence[str], out: Path) -> str:
    """Return a Markdown table of the runs in `out`: the mean over seeds of each figure, with the least and the most."""
    head = ["recipe", "parameters", "seeds", *(title for title, _ in _COLUMNS.values())]
    lines = [f"| {' | '.join(head)} |", f"|---{'|---:' * (len(head) - 1)}|"]
    clips = {}
    for name in names:
        runs = [json.loads(path.read_bytes()) for path in sorted(out.glob(f"{name}.seed*.json"))]
        if not runs:
            lines.append(f"| {VARIANTS[name].title} | | 0 |{' |' * len(_COLUMNS)}")
            continue
        clips = runs[0]["clips"]
        cells = [VARIANTS[name].title, f"{runs[0]['parameters']:,}", str(len(runs))]
        cells += [_spread([each[key] for each in runs], form) for key, (_, form) in _COLUMNS.items()]
        lines.append(f"| {' | '.join(cells)} |")
    sides = ", ".join(f"{side} {count}" for side, count in clips.items())
    note = f"Mean (least to most) over seeds. Clips: {sides}. One thread; an epoch is training and validation."
    return "\n".join(lines) + f"\n\n{note}\n"


def _spread(values: Sequence[float], form: str) -> str:
    mean = format(sum(values) / len(values), form)
    low, high = format(min(values), form), format(max(values), form)
    return mean if low == high else f"{mean} ({low} to {high})"


def _told(settings: TrainSettings) -> dict[str, object]:
    """Return the settings as JSON gives them back, without where files lie."""
    told = {key: value for key, value in asdict(settings).items() if key not in ("data", "out")}
    return json.loads(json.dumps({"data": settings.data.name, **told}))


def _is_there(path: Path, settings: TrainSettings) -> bool:
    """Tell whether a run is done; raise `DataError` where it was done with other settings."""
    if not path.exists():
        return False
    found, expected = json.loads(path.read_bytes())["settings"], _told(settings)
    other = sorted(key for key in found.keys() | expected.keys() if found.get(key) != expected.get(key))
    if other:
        raise DataError(f"{path}: found results of another {', '.join(other)}: give another --out, or remove them")
    return True


@contextmanager
def _alone(path: Path) -> Iterator[bool]:
    """Hold a lock on a run, or yield False where another process is at it; it falls when a process dies."""
    with open(path.with_name(f".{path.name}.lock"), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


if __name__ == "__main__":
    typer.run(main)
