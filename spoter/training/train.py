"""Train a model on a data set and write its model folder: `spoter train`."""

import hashlib
import json
import math
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path

import torch

from spoter import __version__
from spoter.errors import DataError
from spoter.files import atomic_write_bytes, exclusive_lock
from spoter.model.config import CONFIG
from spoter.model.folder import CARD, ModelFolder, refuse_enrolled, write_model_folder
from spoter.model.network import Spoter
from spoter.progress import progress_bar
from spoter.runtime.torch_runtime import TorchRuntime
from spoter.serving.recognizer import Recognizer
from spoter.training.calibration import fit_calibration
from spoter.training.curves import CURVES, METRICS, MetricsWriter, draw_curves, metrics_lines
from spoter.training.data.folds import split_into_folds
from spoter.training.data.split_record import SPLIT, SplitRecord
from spoter.training.distributed import ProcessGroup, join_processes
from spoter.training.evaluation.evaluate import evaluate_robustness
from spoter.training.evaluation.predictions import predict
from spoter.training.evaluation.robustness import CONDITIONS
from spoter.training.loop import FitResult, LabelledLogits, TrainContext, fit, predict_logits
from spoter.training.model_card import Trained, model_card
from spoter.training.prepare import Task, prepare
from spoter.training.resume import UnfinishedRun
from spoter.training.settings import OPTIONS, TrainSettings

# These may differ between an interrupted run and the run that resumes it. The data are compared by their content.
_NOT_IN_IDENTITY = (
    "data", "validation_data", "test_data", "group_regex", "skip_bad", "out", "about", "name", "version", "tensorboard",
)  # fmt: skip


def train(
    settings: TrainSettings,
    progress: bool = False,
    resume: bool = False,
    fresh: bool = False,
    note: Callable[[str], None] = lambda text: None,
) -> Trained | None:
    """Train a model and write its model folder, with split.json, metrics.jsonl and curves.png next to the weights.

    The data are split by whole groups with the seed, or as their files are. The validation clips select the weights;
    the test clips are used once, afterwards. Processes that torchrun started train together.

    `progress` and `note` are as for `spoter.training.prepare.prepare`, in the main process only. `resume` resumes an
    unfinished run in the model folder, `fresh` deletes it. Returns None in all processes except the main process.

    Raises `DataError` for data that cannot be read, split, or used with these settings, and for an unfinished run
    without `resume` or `fresh`, or with another identity; `ModelFolderError` for an unknown layout, a normalization
    that does not fit it, and a model folder with enrolled glosses.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    with join_processes(settings.device) as processes, ExitStack() as locks:
        is_main, device = processes.is_main, processes.device
        task = prepare(settings, progress and is_main, note if is_main else lambda text: None)
        folds = split_into_folds(task.data.clips, settings.folds, settings.seed) if settings.folds else []
        run = UnfinishedRun(settings.out, _run_identity(task, processes))
        precision = settings.precision or ("bf16" if device.type == "cuda" else "fp32")
        context = TrainContext(processes, precision, run, progress=progress and is_main)
        writer = None
        if is_main:
            _make_folder(settings.out)
            locks.enter_context(exclusive_lock(settings.out))
            run.open(resume, fresh)
            writer = MetricsWriter(run.folder, settings.tensorboard)
        model, clip_sets = task.new_model(), task.clip_sets
        fitted = fit(model, clip_sets["train"], clip_sets["validation"], settings, replace(context, on_epoch=writer))
        trained = None
        if writer:
            writer(fitted.history)  # a run killed after its last epoch has not written that epoch
            writer.close()
            trained = _write_model(task, model, fitted, device, context.progress)
        if folds:
            logits = {groups: _train_fold(task, groups, context, f"fold-{i}") for i, groups in enumerate(folds, 1)}
            if trained:
                trained = replace(trained, folds=logits)
                atomic_write_bytes(settings.out / CARD, model_card(task.about, settings, trained).encode())
        if is_main:
            run.finish()
    return trained


def _run_identity(task: Task, processes: ProcessGroup) -> dict[str, str]:
    """Return everything that determines the weights, by name, as text. A run resumes only if it is unchanged."""
    settings, split = task.settings, repr(task.encoder.layout.landmarks) + json.dumps(asdict(task.split))
    identity = {name: getattr(settings, name) for name in OPTIONS if name not in _NOT_IN_IDENTITY} | {
        "processes": processes.world_size,
        "spoter": __version__,
        "data": f"clips {task.data.digest()[:12]}",
        "split": f"layout and sides {hashlib.sha256(split.encode()).hexdigest()[:12]}",
    }
    return {name: ",".join(value) if isinstance(value, tuple) else str(value) for name, value in identity.items()}


def _write_model(task: Task, model: Spoter, fitted: FitResult, device: torch.device, progress: bool) -> Trained:
    """Calibrate and evaluate a model with its best weights, and write its model folder."""
    settings, clip_sets = task.settings, task.clip_sets
    loss = fitted.history[fitted.epoch - 1]["validation_loss"]
    if not math.isfinite(loss):  # the last step can destroy the weights after a finite training loss
        raise DataError(f"found a validation loss of {loss} in epoch {fitted.epoch}; lower --learning-rate")
    model.load_state_dict(fitted.state)
    config, prototypes = fit_calibration(
        model, clip_sets["train"], clip_sets["validation"], task.config, device, settings.augmenter, settings.seed
    )
    recognizer = Recognizer(
        ModelFolder(config, task.data.glosses, task.encoder.layout, prototypes), TorchRuntime(model, device)
    )
    validation, test = task.select("validation"), task.select("test")
    total = len(validation) + (1 + len(CONDITIONS)) * len(test)
    with progress_bar(shown=progress, total=total, desc="evaluating", unit="clip") as bar:
        on_validation, on_test = (predict(recognizer, clips, bar=bar) for clips in (validation, test))
        robustness = evaluate_robustness(recognizer, test, on_test, settings.seed, bar)
    trained = Trained(config, task.data, task.split, fitted, on_validation, on_test, robustness)

    # An earlier model must not remain with this split.json: its training groups could count as test groups.
    (settings.out / CONFIG).unlink(missing_ok=True)
    record = SplitRecord(task.split, settings.seed, settings.group_regex or None, settings.skip_bad, task.left_out)
    atomic_write_bytes(settings.out / SPLIT, record.to_json(task.data.clips))
    atomic_write_bytes(settings.out / METRICS, metrics_lines(fitted.history))
    draw_curves(settings.out / CURVES, fitted.history)
    card = model_card(task.about, settings, trained)
    write_model_folder(settings.out, fitted.state, config, task.data.glosses, card, task.layout_csv, prototypes)
    return trained


def _train_fold(task: Task, left_out: tuple[str, ...], context: TrainContext, name: str) -> LabelledLogits:
    """Train a new model without these groups, keep its last weights, and return its logits for these groups."""
    settings, clips = task.settings, task.data.clips
    inside = task.clip_set([clip for clip in clips if clip.group not in left_out])
    outside = task.clip_set([clip for clip in clips if clip.group in left_out])
    model = task.new_model()
    fold_settings = replace(settings, epochs=settings.fold_epochs or settings.epochs)
    fitted = fit(model, inside, None, fold_settings, context, name)
    model.load_state_dict(fitted.state)
    return predict_logits(model, outside.batches(settings.batch_size), context.processes.device)


def _make_folder(out: Path) -> None:
    """Create the model folder and check that it is writable, before hours of training."""
    refuse_enrolled(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise DataError(f"{out}: cannot write into this folder ({error.strerror or error})") from error
