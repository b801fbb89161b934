"""Judging a model on labelled clips, by the very path that serves requests: `spoter evaluate`, and a card's figures."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from spoter.errors import DataError, InputError
from spoter.progress import progress_bar
from spoter.runtime.device import choose_device
from spoter.serving.recognizer import Recognizer
from spoter.training.data import LabelledClip, Skipped, read_dataset
from spoter.training.data.split import SUBSETS, match_groups
from spoter.training.data.split_record import SPLIT, SplitRecord, find_split, reading_options
from spoter.training.evaluation import metrics
from spoter.training.evaluation.metrics import Figure, Figures
from spoter.training.evaluation.predictions import Predictions
from spoter.training.evaluation.robustness import CONDITIONS, Condition

_BATCH = 32


@dataclass(frozen=True)
class ConditionFigures:
    """A row of the robustness table: the figures of the same clips under a condition; `known` as in `Evaluation`."""

    condition: Condition
    refused: int
    top1: Figure
    top5: Figure
    ece: float
    known: float | None


@dataclass(frozen=True)
class UnknownSignFigures:
    """How a model takes signs that it does not know.

    Attributes
    ----------
    glosses : tuple of str
    clips : int
        That show one of them.
    auroc : Figure or None
        Of telling known signs from these by `Prediction.similarity`; None where the model has no such score.
    called_unknown, falsely_called_unknown : float or None
        Share of these clips, and of those of known signs, that the model calls unknown; None where it does not tell.
    """

    glosses: tuple[str, ...]
    clips: int
    auroc: Figure | None
    called_unknown: float | None
    falsely_called_unknown: float | None


@dataclass(frozen=True)
class Evaluation:
    """A model judged on labelled clips.

    Attributes
    ----------
    model : str
        Its name and version.
    data, digest : str
        The data set's name, and the SHA-256 of all that was read of it (`DataSet.digest`).
    side : str
        In words, which of its clips, and whether their landmarks are of another estimator than the model's.
    trained_on : int
        How many of them are of groups that the model was trained on, by its split.json.
    skipped : list of Skipped
        Bad clips of the data set that were left out.
    answers : Predictions
        To the clips whose glosses the model knows.
    figures : Figures
    known : float or None
        Share of those clips that the model says it knows; None where it does not tell.
    robustness : tuple of ConditionFigures
        Empty where it was not asked for.
    unknown : UnknownSignFigures or None
        None where the data hold no gloss that the model does not know.
    """

    model: str
    data: str
    digest: str
    side: str
    trained_on: int
    skipped: list[Skipped]
    answers: Predictions
    figures: Figures
    known: float | None
    robustness: tuple[ConditionFigures, ...]
    unknown: UnknownSignFigures | None

    def to_json(self) -> str:
        """Return the line ``{"top1": …, "top5": …, "ece": …, "clips": …}``; ece is null where no clip was answered."""
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
    """Judge a model folder on a data set.

    Parameters
    ----------
    folder, data : Path
    groups : sequence of str
        Judge on these groups' clips only, by name or pattern; on all of them where empty.
    split : str
        Judge on the groups of this side of the model's own split instead.
    robust : bool
        Whether to judge under each of `spoter.training.evaluation.robustness.CONDITIONS` too.
    count_unknown : bool
        Take clips of glosses that the model does not know as unknown signs, instead of raising `DataError`.
    group_regex, skip_bad
        As in `spoter.training.data.split_record.reading_options`.
    seed : int
        Of the intervals, and of what the conditions draw.
    device : str
        A torch device.
    progress : bool
        Whether to show progress on stderr.
    note : callable
        Called with a line for each clip that is left out.

    Raises
    ------
    ModelFolderError
        For a model folder that cannot be used.
    DataError
        For data that cannot be read, unknown groups, and glosses that the model does not know, naming them.
    """
    recognizer = Recognizer.load(folder, choose_device(device))
    record = _record(folder, split) if split else find_split(folder)
    data_set = read_dataset(data, **reading_options(record, group_regex, skip_bad), progress=progress)
    skipped, kept = list(data_set.skipped), data_set.clips
    if record and not count_unknown:
        left_out = set(record.left_out) - set(recognizer.glosses)
        kept = [clip for clip in kept if clip.gloss not in left_out]
        reason = "its gloss was left out of training; --unknown count judges it as an unknown sign"
        skipped += [Skipped(f"{clip.name} ({clip.gloss})", reason) for clip in data_set.clips if clip.gloss in left_out]
    for skip in skipped:
        note(f"skipped: {skip}")
    known_groups = {clip.group for clip in data_set.clips}
    if split:
        chosen = getattr(record.split, split)
        if absent := sorted(set(chosen) - known_groups):
            raise DataError(
                f"{data}: found no group {', '.join(absent)} of the model's own split, expected the data that it was "
                "trained on, and the --group-regex of its training"
            )
        clips = record.split.select(kept, split)
    else:
        chosen = match_groups(groups, known_groups, "--groups")
        clips = [clip for clip in kept if not chosen or clip.group in chosen]
    unknown = sorted({clip.gloss for clip in clips} - set(recognizer.glosses))
    known = [clip for clip in clips if clip.gloss not in unknown]
    if (unknown and not count_unknown) or not known:
        more = ", …" if len(unknown) > 10 else ""
        raise DataError(
            f"{data}: found {len(unknown)} glosses that the model does not know: {', '.join(unknown[:10])}{more}; "
            f"expected some of its {len(recognizer.glosses)}, or --unknown count to judge the others as unknown signs"
        )
    trained_groups = set(record.split.train) if record else set()  # of a converted checkpoint nobody knows
    conditions = CONDITIONS if robust else ()
    total = len(clips) + len(conditions) * len(known)
    with progress_bar(shown=progress, total=total, desc="evaluating", unit="clip") as bar:
        answers = predict(recognizer, known, bar=bar)
        others = predict(recognizer, [clip for clip in clips if clip.gloss in unknown], bar=bar)
        changed = robustness(recognizer, known, conditions, seed, bar)
    if split:
        side = f"the {split} side of the model's own split: {', '.join(chosen)}"
    else:
        side = f"the groups {', '.join(chosen)}" if chosen else "all clips"
    for foreign in sorted({clip.clip.estimator for clip in clips} - {None, recognizer.config.estimator}):
        side += f"; landmarks of {foreign}, though the model was trained on those of {recognizer.config.estimator}"
    return Evaluation(
        model=f"{recognizer.config.name} {recognizer.config.version}",
        data=Path(data).name,
        digest=data_set.digest(),
        side=side,
        trained_on=sum(clip.group in trained_groups for clip in known),
        skipped=skipped,
        answers=answers,
        figures=metrics.compute_figures(answers, seed),
        known=metrics.mean_ignoring_nan(answers.known),
        robustness=changed,
        unknown=evaluate_unknown_signs(answers, others, tuple(unknown), seed) if unknown else None,
    )


def predict(
    recognizer: Recognizer,
    clips: Sequence[LabelledClip],
    condition: Condition | None = None,
    seed: int = 0,
    bar: tqdm | None = None,
) -> Predictions:
    """Let a recognizer answer clips, as they are or under a condition; a gloss that it does not know has label -1."""
    glosses = recognizer.glosses
    place = {gloss: label for label, gloss in enumerate(glosses)}
    scores = np.full((len(clips), len(glosses)), np.nan)
    known, similarities = np.full(len(clips), np.nan), np.full(len(clips), np.nan)
    refused = {}
    for start in range(0, len(clips), _BATCH):
        batch = clips[start : start + _BATCH]
        shown = [
            member.clip if condition is None else condition.apply(member.clip, member.name, seed) for member in batch
        ]
        for row, answer in enumerate(recognizer.recognize(shown, top_k=len(glosses)), start):
            if isinstance(answer, InputError):
                refused[clips[row].name] = answer.code
                continue
            for ranked in answer.glosses:
                scores[row, ranked.index] = ranked.score
            known[row] = _told(answer.known)
            similarities[row] = _told(answer.similarity)
        if bar is not None:
            bar.update(len(batch))
    return Predictions(
        glosses=tuple(glosses),
        names=tuple(member.name for member in clips),
        groups=tuple(member.group for member in clips),
        labels=np.array([place.get(member.gloss, -1) for member in clips], dtype=np.int64),
        scores=scores,
        known=known,
        similarities=similarities,
        refused=refused,
    )


def robustness(
    recognizer: Recognizer,
    clips: Sequence[LabelledClip],
    conditions: Sequence[Condition] = CONDITIONS,
    seed: int = 0,
    bar: tqdm | None = None,
) -> tuple[ConditionFigures, ...]:
    """Judge the same clips under each condition."""
    rows = []
    for condition in conditions:
        answers = predict(recognizer, clips, condition, seed, bar)
        top1, top5 = (metrics.mean_with_interval(answers.right(k).astype(float), answers.groups, seed) for k in (1, 5))
        ece, known = metrics.compute_reliability(answers).ece, metrics.mean_ignoring_nan(answers.known)
        rows.append(ConditionFigures(condition, len(answers.refused), top1, top5, ece, known))
    return tuple(rows)


def groups_of_side(model_folder: Path, side: str) -> tuple[str, ...]:
    """Return the groups of one side of the split a model was trained by, from its split.json.

    Raises
    ------
    DataError
        Where the folder has no split.json, or that no such side.
    """
    return getattr(_record(model_folder, side).split, side)


def _record(model_folder: Path, side: str) -> SplitRecord:
    path = Path(model_folder) / SPLIT
    if side not in SUBSETS:
        raise DataError(f"{path}: found no side {side!r}, expected one of {', '.join(SUBSETS)}")
    record = find_split(model_folder)
    if record is None:
        raise DataError(
            f"{path}: found no such file, which spoter train writes; expected --groups GROUP,… in place of --split "
            "for a model from elsewhere"
        )
    return record


def evaluate_unknown_signs(
    answers: Predictions, others: Predictions, glosses: tuple[str, ...], seed: int = 0
) -> UnknownSignFigures:
    """Judge how a model takes `others`, clips of signs that it does not know, beside `answers`, of signs it does."""
    scores = np.concatenate([answers.similarities, others.similarities])
    is_known = np.arange(len(scores)) < len(answers)
    groups = np.array(answers.groups + others.groups)
    told = ~np.isnan(scores)
    scores, is_known, groups = scores[told], is_known[told], tuple(groups[told])
    figure = metrics.auroc(scores, is_known, groups, seed)
    called, called_falsely = (metrics.mean_ignoring_nan(1 - some.known) for some in (others, answers))
    return UnknownSignFigures(glosses, len(others), figure, called, called_falsely)


def _told(value: float | None) -> float:
    return np.nan if value is None else float(value)
