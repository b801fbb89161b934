"""The training loop: train a model on clips and keep its best weights."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from spoter.errors import DataError
from spoter.progress import progress_bar
from spoter.training.batches import Batch, ClipSet
from spoter.training.distributed import ProcessGroup
from spoter.training.resume import UnfinishedRun
from spoter.training.settings import TrainSettings


@dataclass(frozen=True)
class LabelledLogits:
    """A model's `logits` (clips, classes) for a set of clips, and their true `labels` (clips,)."""

    logits: Tensor
    labels: Tensor

    def top(self, k: int) -> float:
        """Return the share of clips whose gloss is among the `k` highest logits."""
        best = self.logits.topk(min(k, self.logits.shape[1]), dim=1).indices
        return (best == self.labels[:, None]).any(dim=1).double().mean().item()

    def loss(self) -> float:
        """Return the mean cross-entropy."""
        return F.cross_entropy(self.logits, self.labels).item()


@dataclass(frozen=True)
class FitResult:
    """The result of `fit`: weights, the epoch they are from, the metrics of each epoch, and the total seconds."""

    state: dict[str, Tensor]
    epoch: int
    history: list[dict[str, float]]
    seconds: float


@dataclass(frozen=True)
class TrainContext:
    """How and where a model is trained; apart from rounding errors, the weights do not depend on it."""

    processes: ProcessGroup = field(default_factory=ProcessGroup)
    precision: str = "fp32"  # or bf16 for autocast; weights, their average and validation stay in fp32
    run: UnfinishedRun | None = None  # saves the state after each epoch, and loads that of a killed run
    on_epoch: Callable[[list[dict[str, float]]], None] | None = None  # called with the history after each epoch
    progress: bool = False


def fit(
    model: nn.Module,
    train: ClipSet,
    validation: ClipSet | None,
    settings: TrainSettings,
    context: TrainContext,
    name: str = "model",
) -> FitResult:
    """Train a model in place, or resume its training if `context.run` holds a saved state.

    On the same machine with the same number of threads, a resumed run yields exactly the weights and metrics of an
    uninterrupted run, except the seconds: augmentation and dropout depend only on the seed and the epoch number, and
    the state holds everything else.

    The result has the weights with the highest validation accuracy; of equal epochs, the latest. Without a validation
    set, all epochs are run and the result has the last weights. `name` names the state and the progress bar. Raises
    `DataError` for a loss that is not finite.
    """
    trainer = _Trainer(model, settings, context, name)
    validation_batches = validation.batches(settings.batch_size) if validation else []
    processes, best, history = context.processes, trainer.best, trainer.history
    total, done = settings.epochs * len(train), len(history) * len(train)
    bar = progress_bar(shown=context.progress, total=total, initial=done, desc=name, unit="clip")
    for epoch in range(len(history) + 1, settings.epochs + 1):
        if settings.patience and epoch - 1 - best.epoch >= settings.patience:
            break
        line = {"epoch": epoch, **trainer.train_epoch(train, epoch, bar)}
        if validation and processes.is_main:
            scores = predict_logits(trainer.kept_model, validation_batches, processes.device)
            line["validation_loss"], line["validation_top1"] = scores.loss(), scores.top(1)
        line["seconds"] = round(trainer.seconds, 2)
        line = processes.broadcast(line)
        best.offer(line.get("validation_top1", 0.0), epoch, trainer.kept_model)
        history.append(line)
        bar.set_postfix(
            {"epoch": epoch} | {key: f"{value:.3f}" for key, value in line.items() if key.endswith(("loss", "top1"))},
            best=best.epoch,
        )
        if context.run and processes.is_main:
            context.run.save_state(name, trainer.state())
        if context.on_epoch:
            context.on_epoch(history)
    bar.close()
    return FitResult(best.state, best.epoch, history, trainer.seconds)


@torch.inference_mode()
def predict_logits(model: nn.Module, batches: Sequence[Batch], device: torch.device) -> LabelledLogits:
    """Return the logits and labels of batches of clips."""
    model.eval()
    logits = [model(batch.frames.to(device), batch.lengths.to(device)).cpu() for batch in batches]
    return LabelledLogits(torch.cat(logits), torch.cat([batch.labels for batch in batches]))


@dataclass
class _Best:
    """The weights with the highest validation accuracy so far; of equal epochs, the latest."""

    # With few clips, many epochs are equal. The loss would depend on the one wrong clip; later weights saw more data.

    accuracy: float = -1.0
    epoch: int = 0
    state: dict[str, Tensor] = field(default_factory=dict)

    def offer(self, accuracy: float, epoch: int, model: nn.Module) -> None:
        if accuracy >= self.accuracy:
            state = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
            self.accuracy, self.epoch, self.state = accuracy, epoch, state


class _Trainer:
    """A model in training, its optimizer, the average of its weights, and its history; restored from a saved state."""

    def __init__(self, model: nn.Module, settings: TrainSettings, context: TrainContext, name: str) -> None:
        self.model, self.settings, self.context = model.to(context.processes.device), settings, context
        self.averaged: AveragedModel | None = None
        if settings.average:
            self.averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(settings.average))  # type: ignore[no-untyped-call]
        self.kept_model = self.averaged.module if self.averaged else model
        self.optimizer = _new_optimizer(model, settings)
        self.best, self.history = _Best(), list[dict[str, float]]()
        self._started = time.monotonic()
        processes, run = context.processes, context.run
        saved = processes.broadcast(run.load_state(name) if run and processes.is_main else None)
        if saved:
            self.model.load_state_dict(saved["model"])
            if self.averaged:
                self.averaged.load_state_dict(saved["averaged"])
            self.optimizer.load_state_dict(saved["optimizer"])
            self.best, self.history = _Best(**saved["best"]), saved["history"]
            self._started -= saved["seconds"]
        self.wrapped_model = processes.wrap(self.model)

    @property
    def seconds(self) -> float:
        """Seconds of training, including those before an interruption."""
        return time.monotonic() - self._started

    def state(self) -> dict[str, Any]:
        """Return everything that the next epoch depends on."""
        return {
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict() if self.averaged else {},
            "optimizer": self.optimizer.state_dict(),
            "best": vars(self.best),
            "history": self.history,
            "seconds": self.seconds,
        }

    def train_epoch(self, train: ClipSet, epoch: int, bar: tqdm[Any]) -> dict[str, float]:
        """Train on all clips once; return the mean loss and accuracy on the augmented clips, and the learning rate."""
        settings, processes = self.settings, self.context.processes
        device, rank, world_size = processes.device, processes.rank, processes.world_size
        self.wrapped_model.train()
        torch.manual_seed(int(np.random.SeedSequence([settings.seed, epoch, rank]).generate_state(1)[0]))  # for dropout
        sums = torch.zeros(2, dtype=torch.float64, device=device)  # of the loss and of correct predictions
        count, rate = 0, settings.learning_rate  # count of clips so far
        for batch in train.augmented_batches(
            settings.batch_size, settings.augmenter, settings.seed, epoch, rank, world_size
        ):
            if settings.schedule == "cosine":
                rate = settings.learning_rate * warmup_cosine((epoch - 1 + count / len(train)) / settings.epochs)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            labels = batch.labels.to(device)
            with torch.autocast(device.type, torch.bfloat16, enabled=self.context.precision == "bf16"):
                logits = self.wrapped_model(batch.frames.to(device), batch.lengths.to(device))
            logits = logits.float()
            loss = F.cross_entropy(logits, labels, label_smoothing=settings.label_smoothing, reduction="sum")
            if batch.is_filler:
                loss = 0 * loss
            # Not the mean: batches of long clips hold fewer clips. Processes average their gradients.
            self._step(loss * world_size / settings.batch_size)
            if not batch.is_filler:
                sums += torch.stack([loss.detach().double(), (logits.argmax(dim=1) == labels).sum().double()])
            count += batch.global_size
            bar.update(batch.global_size)
        loss_sum, correct = processes.sum(sums).tolist()
        if not math.isfinite(loss_sum):
            raise DataError(f"found a loss of {loss_sum} in epoch {epoch}; lower --learning-rate")
        return {"train_loss": loss_sum / count, "train_top1": correct / count, "learning_rate": rate}

    def _step(self, loss: Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        if self.settings.gradient_norm:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.gradient_norm)
        self.optimizer.step()
        if self.averaged:
            self.averaged.update_parameters(self.model)


def warmup_cosine(done: float, warmup: float = 0.1) -> float:
    """Return the factor of the learning rate at `done`, 0 to 1, of the training: a linear rise, then half a cosine."""
    if done < warmup:
        return 0.02 + 0.98 * done / warmup
    return 0.5 * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup)))


def _new_optimizer(model: nn.Module, settings: TrainSettings) -> torch.optim.Optimizer:
    """Return the optimizer. Only weight matrices decay, not biases, norms, positions and the class query."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        (matrices if name.endswith("weight") and parameter.dim() > 1 else others).append(parameter)
    groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=settings.learning_rate)  # without momentum
    return torch.optim.AdamW(groups, lr=settings.learning_rate)
