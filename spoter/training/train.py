"""From a data set to a model folder: `spoter train`."""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import torch

from spoter import __version__
from spoter.errors import DataError
from spoter.files import atomic_write_bytes, exclusive_lock
from spoter.model.config import ModelConfig
from spoter.model.folder import CARD, CONFIG, ModelFolder, refuse_enrolled, write_model_folder
from spoter.model.network import Spoter
from spoter.progress import progress_bar
from spoter.runtime.torch_runtime import TorchRuntime
from spoter.serving.recognizer import Recognizer
from spoter.training.calibration import finish
from spoter.training.curves import CURVES, METRICS, MetricsWriter, draw_curves, metrics_lines
from spoter.training.data import DataSet
from spoter.training.data.folds import split_into_folds
from spoter.training.data.split import Split
from spoter.training.data.split_record import SPLIT, SplitRecord
from spoter.training.distributed import ProcessGroup, join_processes
from spoter.training.evaluation.evaluate import predict, robustness
from spoter.training.evaluation.robustness import CONDITIONS
from spoter.training.loop import FitResult, LabelledLogits, TrainContext, fit, score
from spoter.training.model_card import Results, model_card
from spoter.training.prepare import Task, prepare
from spoter.training.resume import UnfinishedRun
from spoter.training.settings import TrainSettings

# What may differ between a killed run and the one that goes on with it. Data are told by their content.
_NO_MATTER = ("data", "validation_data", "test_data", "group_regex", "skip_bad", "out", "about", "name", "version",
              "tensorboard")  # fmt: skip


@dataclass(frozen=True)
class Trained:
    """What a run leaves besides its model folder."""

    config: ModelConfig
    data: DataSet
    split: Split
    fitted: FitResult
    results: Results


def train(
    settings: TrainSettings,
    progress: bool = False,
    resume: bool = False,
    fresh: bool = False,
    note: Callable[[str], None] = lambda text: None,
) -> Trained | None:
    """Train a model and write its model folder, with split.json, metrics.jsonl and curves.png beside the weights.

    The data are split by whole groups from the seed, or as their files are. Weights are selected by the validation
    clips; the test clips are looked at once, after that. Started by torchrun, the processes train together.

    Parameters
    ----------
    settings : TrainSettings
    progress : bool
        Whether to show progress on stderr.
    resume, fresh : bool
        Go on with an unfinished run in the model folder, or throw it away; with neither, it is an error.
    note : callable
        As for `spoter.training.prepare.prepare`; called in the first process alone.

    Returns
    -------
    Trained or None
        None in all processes but the first.

    Raises
    ------
    DataError
        For data that cannot be read, split, or used with these settings, for another run in the folder, and for an
        unfinished run that stands in the way or is another one.
    ModelFolderError
        For an unknown layout, a scheme that does not fit it, or a model folder with enrolled glosses.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    with join_processes(settings.device) as ranks, ExitStack() as held:
        progress = progress and ranks.first
        task = prepare(settings, progress, note if ranks.first else lambda text: None)
        left_out = split_into_folds(task.data.clips, settings.folds, settings.seed) if settings.folds else []
        run = UnfinishedRun(settings.out, _identity(task, ranks))
        precision = settings.precision or ("bf16" if ranks.device.type == "cuda" else "fp32")
        where = TrainContext(ranks, precision, run, progress=progress)
        watcher = None
        if ranks.first:
            _make_folder(settings.out)
            held.enter_context(exclusive_lock(settings.out))
            run.open(resume, fresh)
            watcher = MetricsWriter(run.folder, settings.tensorboard)
        model = task.new_model()
        fitted = fit(
            model, task.clip_sets["train"], task.clip_sets["validation"], settings, replace(where, watch=watcher)
        )
        trained = None
        if ranks.first:
            watcher(fitted.history)  # a run killed after its last epoch has shown nothing by now
            watcher.close()
            trained = _finish(task, model, fitted, ranks.device, progress)
        if left_out:
            results = {
                groups: _try_fold(task, groups, where, f"fold-{i}") for i, groups in enumerate(left_out, start=1)
            }
            if trained:
                trained = replace(trained, results=replace(trained.results, folds=results))
                atomic_write_bytes(settings.out / CARD, _card(task, trained).encode())
        if ranks.first:
            run.finish()
    return trained


def _identity(task: Task, ranks: ProcessGroup) -> dict[str, str]:
    """Return what decides the weights, by name, as text: a run can go on only with one of the same."""
    settings = task.settings
    told = {field.name: getattr(settings, field.name) for field in fields(settings) if field.name not in _NO_MATTER}
    landmarks = repr(task.layout.landmarks) + json.dumps(asdict(task.split))
    told |= {"processes": ranks.world, "spoter": __version__, "data": f"clips {task.data.digest()[:12]}"}
    told |= {"split": f"layout and sides {hashlib.sha256(landmarks.encode()).hexdigest()[:12]}"}
    return {name: ",".join(value) if isinstance(value, tuple) else str(value) for name, value in told.items()}


def _finish(task: Task, model: Spoter, fitted: FitResult, device: torch.device, progress: bool) -> Trained:
    """From the last weights to a model folder: everything else about the model is fitted, it is judged and written."""
    settings, sides = task.settings, task.clip_sets
    loss = fitted.history[fitted.epoch - 1]["validation_loss"]
    if not math.isfinite(loss):  # the training loss can have been finite all the same, before the last step
        raise DataError(f"found a validation loss of {loss} in epoch {fitted.epoch}: try a lower --learning-rate")
    model.load_state_dict(fitted.state)
    config, prototypes = finish(
        model, sides["train"], sides["validation"], task.config, device, settings.augmenter, settings.seed
    )
    folder = ModelFolder(config, task.data.glosses, task.layout, model, prototypes)
    recognizer = Recognizer(folder, TorchRuntime(model, device))
    validation, test = task.select("validation"), task.select("test")
    total = len(validation) + (1 + len(CONDITIONS)) * len(test)
    with progress_bar(shown=progress, total=total, desc="judging", unit="clip") as bar:
        results = Results(
            predict(recognizer, validation, bar=bar),
            predict(recognizer, test, bar=bar),
            robustness(recognizer, test, seed=settings.seed, bar=bar),
        )
    trained = Trained(config, task.data, task.split, fitted, results)

    # An earlier model beside this split.json would be tested on groups that it was trained on.
    (settings.out / CONFIG).unlink(missing_ok=True)
    record = SplitRecord(task.split, settings.seed, settings.group_regex or None, settings.skip_bad, task.left_out)
    atomic_write_bytes(settings.out / SPLIT, record.to_json(task.data.clips))
    atomic_write_bytes(settings.out / METRICS, metrics_lines(fitted.history))
    draw_curves(settings.out / CURVES, fitted.history)
    card = _card(task, trained)
    write_model_folder(settings.out, fitted.state, config, task.data.glosses, card, task.layout_csv, prototypes)
    return trained


def _card(task: Task, trained: Trained) -> str:
    results, fitted = trained.results, trained.fitted
    return model_card(task.about, task.settings, trained.config, task.data, task.split, fitted, results)


def _try_fold(task: Task, left_out: tuple[str, ...], where: TrainContext, name: str) -> LabelledLogits:
    """Train anew without these groups, and return the answers to them: last weights, nothing selected."""
    settings, clips = task.settings, task.data.clips
    recipe = replace(settings, epochs=settings.fold_epochs or settings.epochs)
    inside = task.clip_set([clip for clip in clips if clip.group not in left_out])
    outside = task.clip_set([clip for clip in clips if clip.group in left_out])
    model = task.new_model()
    fitted = fit(model, inside, None, recipe, where, name)
    model.load_state_dict(fitted.state)
    return score(model, outside.batches(settings.batch_size), where.ranks.device)


def _make_folder(out: Path) -> None:
    """Make the folder to write, now rather than after hours of training."""
    refuse_enrolled(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise DataError(f"{out}: cannot be written in ({error.strerror or error})") from error
