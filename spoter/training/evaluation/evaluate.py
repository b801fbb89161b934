"""Evaluate a model on labeled clips, for `spoter evaluate` and the model card."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from spoter.errors import DataError
from spoter.progress import progress_bar
from spoter.runtime.device import choose_device
from spoter.serving.recognizer import Recognizer
from spoter.training.data import LabelledClip, Skipped, read_dataset
from spoter.training.data.split import SUBSETS, join_first, match_groups
from spoter.training.data.split_record import SPLIT, SplitRecord, find_split, reading_options
from spoter.training.evaluation import metrics
from spoter.training.evaluation.metrics import Figure, Figures
from spoter.training.evaluation.predictions import Predictions, predict
from spoter.training.evaluation.robustness import AS_RECORDED, CONDITIONS, Condition


@dataclass(frozen=True)
class ConditionFigures:
    """A row of the robustness table: figures for the clips under a condition; `known` as in `Evaluation`."""

    condition: Condition
    refused: int
    top1: Figure
    top5: Figure
    ece: float
    known: float | None


@dataclass(frozen=True)
class UnknownSignFigures:
    """Figures on the detection of unknown signs: clips of glosses that the model does not have."""

    glosses: tuple[str, ...]  # unknown to the model
    clips: int  # of these glosses
    auroc: Figure | None  # of `Predictions.similarities`; None if the model has no similarities
    called_unknown: float | None  # share of these clips that the model calls unknown; None without detection
    falsely_called_unknown: float | None  # the same share for clips of known signs


@dataclass(frozen=True)
class Evaluation:
    """An evaluation on labeled clips; predictions and figures are for clips of glosses that the model knows."""

    model: str  # name and version
    data: str  # the data set's name
    digest: str  # SHA-256 of the whole data set (`DataSet.digest`)
    side: str  # text: the evaluated clips, and their estimator if it is not that of the model
    trained_on: int  # number of these clips in the training groups of the model, by its split.json
    skipped: list[Skipped]  # skipped clips of the data set
    predictions: Predictions
    figures: Figures
    known: float | None  # share of these clips that the model calls known; None without detection
    robustness: tuple[ConditionFigures, ...]  # as `evaluate_robustness` returns it; empty if it was not evaluated
    unknown: UnknownSignFigures | None  # None if the data have no unknown gloss

    def to_json(self) -> str:
        """Return the line ``{"top1": …, "top5": …, "ece": …, "clips": …}``; ece is null if all clips were refused."""
        figures = self.figures
        numbers = {"top1": figures.top1.value, "top5": figures.top5.value, "ece": figures.ece}
        rounded = {name: None if np.isnan(value) else round(value, 6) for name, value in numbers.items()}
        return json.dumps(rounded | {"clips": figures.clips})


def evaluate(
    folder: Path,
    data: Path,
    groups: Sequence[str] = (),
    *,
    split: str = "",
    robust: bool = True,
    count_unknown: bool = False,
    group_regex: str | None = None,
    skip_bad: bool = False,
    seed: int = 0,
    device: str = "cpu",
    progress: bool = False,
    note: Callable[[str], None] = lambda text: None,
) -> Evaluation:
    """Evaluate a model folder on a data set.

    `groups`, names or patterns, restrict the evaluation to clips of these groups, and `split` to a subset of the
    model's split. `robust` adds the robustness table; `seed` is the seed of its random numbers and of the intervals.
    With `count_unknown`, clips of glosses that the model does not know count as unknown signs instead of raising
    `DataError`. `group_regex` and `skip_bad` are as in `spoter.training.data.split_record.reading_options`. `note` is
    called with one line per skipped clip.

    Raises `ModelFolderError` for an unusable model folder, and `DataError` for data that cannot be read, unknown
    groups, and glosses that the model does not know, naming them.
    """
    recognizer = Recognizer.load(folder, str(choose_device(device)))
    glosses, config = set(recognizer.glosses), recognizer.config
    record = _read_split_of_model(folder, split) if split else find_split(folder)
    data_set = read_dataset(data, **reading_options(record, group_regex, skip_bad), progress=progress)
    skipped, clips = list(data_set.skipped), data_set.clips
    if record and not count_unknown:
        left_out = set(record.left_out) - glosses
        reason = "its gloss was left out of training; --unknown count evaluates it as an unknown sign"
        skipped += [Skipped(f"{clip.name} ({clip.gloss})", reason) for clip in clips if clip.gloss in left_out]
        clips = [clip for clip in clips if clip.gloss not in left_out]
    for skip in skipped:
        note(f"skipped: {skip}")
    all_groups = {clip.group for clip in data_set.clips}
    if record and split:
        chosen = record.split.groups(split)
        if absent := sorted(set(chosen) - all_groups):
            raise DataError(
                f"{data}: found no group {', '.join(absent)} of the model's split, expected its training data with the "
                "--group-regex of its training"
            )
        clips = record.split.select(clips, split)
        side = f"the {split} subset of the model's split: {', '.join(chosen)}"
    else:
        chosen = match_groups(groups, all_groups, "--groups")
        clips = [clip for clip in clips if not chosen or clip.group in chosen]
        side = f"the groups {', '.join(chosen)}" if chosen else "all clips"
    for estimator in sorted({clip.clip.estimator or config.estimator for clip in clips} - {config.estimator}):
        side += f"; landmarks of {estimator}, but the model was trained on landmarks of {config.estimator}"
    known = [clip for clip in clips if clip.gloss in glosses]
    unknown = [clip for clip in clips if clip.gloss not in glosses]
    unknown_glosses = tuple(sorted({clip.gloss for clip in unknown}))
    if (unknown and not count_unknown) or not known:
        raise DataError(
            f"{data}: found {len(unknown_glosses)} glosses that the model does not know: "
            f"{join_first(unknown_glosses)}; expected some of its {len(glosses)} glosses; --unknown count evaluates "
            "other glosses as unknown signs"
        )
    total = len(clips) + robust * len(CONDITIONS) * len(known)
    with progress_bar(shown=progress, total=total, desc="evaluating", unit="clip") as bar:
        predictions = predict(recognizer, known, bar=bar)
        on_unknown = predict(recognizer, unknown, bar=bar)
        robustness = evaluate_robustness(recognizer, known, predictions, seed, bar) if robust else ()
    trained_groups = set(record.split.train) if record else set()  # not recorded for a converted checkpoint
    return Evaluation(
        model=f"{config.name} {config.version}",
        data=Path(data).name,
        digest=data_set.digest(),
        side=side,
        trained_on=sum(clip.group in trained_groups for clip in known),
        skipped=skipped,
        predictions=predictions,
        figures=metrics.compute_figures(predictions, seed),
        known=metrics.mean_ignoring_nan(predictions.known),
        robustness=robustness,
        unknown=evaluate_unknown_signs(predictions, on_unknown, unknown_glosses, seed) if unknown else None,
    )


def evaluate_robustness(
    recognizer: Recognizer,
    clips: Sequence[LabelledClip],
    as_recorded: Predictions,
    seed: int = 0,
    bar: tqdm[Any] | None = None,
) -> tuple[ConditionFigures, ...]:
    """Return the robustness table of clips; its first row is for `as_recorded`, the predictions without changes."""
    rows = []
    for condition in (AS_RECORDED, *CONDITIONS):
        predictions = as_recorded if condition is AS_RECORDED else predict(recognizer, clips, condition, seed, bar)
        top1, top5 = (metrics.mean_with_interval(predictions.right(k), predictions.groups, seed) for k in (1, 5))
        ece, known = metrics.compute_reliability(predictions).ece, metrics.mean_ignoring_nan(predictions.known)
        rows.append(ConditionFigures(condition, len(predictions.refused), top1, top5, ece, known))
    return tuple(rows)


def evaluate_unknown_signs(
    known: Predictions, unknown: Predictions, glosses: tuple[str, ...], seed: int = 0
) -> UnknownSignFigures:
    """Return figures on the separation of unknown signs, with the glosses `glosses`, from known signs."""
    scores = np.concatenate([known.similarities, unknown.similarities])
    scored = ~np.isnan(scores)
    is_known = (np.arange(len(scores)) < len(known))[scored]
    groups = tuple(np.array(known.groups + unknown.groups)[scored])
    return UnknownSignFigures(
        glosses,
        len(unknown),
        metrics.auroc(scores[scored], is_known, groups, seed),
        metrics.mean_ignoring_nan(1 - unknown.known),
        metrics.mean_ignoring_nan(1 - known.known),
    )


def _read_split_of_model(model_folder: Path, subset: str) -> SplitRecord:
    path = Path(model_folder) / SPLIT
    if subset not in SUBSETS:
        raise DataError(f"{path}: found no subset {subset!r}, expected one of {', '.join(SUBSETS)}")
    record = find_split(model_folder)
    if record is None:
        raise DataError(
            f"{path}: found no such file; only spoter train writes it. For other models, use --groups GROUP,… instead "
            "of --split"
        )
    return record
