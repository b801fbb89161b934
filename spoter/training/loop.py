"""The training loop: clips and a model in, the best weights out. What it may write, `UnfinishedRun` writes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

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
from spoter.training.settings import Recipe


@dataclass(frozen=True)
class LabelledLogits:
    """A model's answers to a set of clips: `logits` (clips, classes) and the right `labels`."""

    logits: Tensor
    labels: Tensor

    def top(self, k: int) -> float:
        """Return the share of clips whose gloss is among the first `k` answers."""
        best = self.logits.topk(min(k, self.logits.shape[1]), dim=1).indices
        return (best == self.labels[:, None]).any(dim=1).double().mean().item()

    def loss(self) -> float:
        return F.cross_entropy(self.logits, self.labels).item()


@dataclass(frozen=True)
class FitResult:
    """What `fit` returns: weights, the epoch they are from, a line of metrics for each epoch, and seconds in all."""

    state: dict[str, Tensor]
    epoch: int
    history: list[dict[str, float]]
    seconds: float


@dataclass
class _Best:
    """The best weights so far: those of the highest validation accuracy, between equals of the later epoch.

    On few clips many epochs are equal. The loss would then let the one clip that is wrong decide; the later weights
    have seen more, and were moved less.
    """

    accuracy: float = -1.0
    epoch: int = 0
    state: dict[str, Tensor] = field(default_factory=dict)

    def offer(self, accuracy: float, epoch: int, model: nn.Module) -> None:
        if accuracy >= self.accuracy:
            state = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
            self.accuracy, self.epoch, self.state = accuracy, epoch, state


@dataclass(frozen=True)
class TrainContext:
    """How and where a model is trained; none of it changes what is trained but for floating-point noise.

    Attributes
    ----------
    ranks : ProcessGroup
        The processes that train together, and this one's device.
    precision : str
        ``fp32``, or ``bf16`` for autocast; weights, their average and validation stay fp32.
    run : UnfinishedRun or None
        Keeps the state after each epoch, and has that of a killed run to go on with.
    watch : callable or None
        Is shown the history after each epoch.
    progress : bool
        Whether to show progress on stderr: a bar, or a line an epoch.
    """

    ranks: ProcessGroup = ProcessGroup()
    precision: str = "fp32"
    run: UnfinishedRun | None = None
    watch: Callable[[list[dict[str, float]]], None] | None = None
    progress: bool = False


def fit(
    model: nn.Module,
    train: ClipSet,
    validation: ClipSet | None,
    recipe: Recipe,
    where: TrainContext = TrainContext(),
    name: str = "model",
) -> FitResult:
    """Train a model, or go on with its training where `where.run` has a state of it.

    Going on gives the very weights and metrics, but for seconds, of a run that was never interrupted, on the same
    machine with the same number of threads: an epoch's changes of clips and its dropout hang on the seed and the
    epoch's number alone, and all else that it depends on is in the state.

    Parameters
    ----------
    model : torch.nn.Module
        `spoter.model.network.Spoter`; its weights are changed.
    train, validation : ClipSet
        The weights with the highest validation accuracy are kept, of equals the later. Without a validation set
        nothing is selected: all epochs are run and the last weights kept.
    recipe : Recipe
    where : TrainContext
    name : str
        The state's, and the progress bar's.

    Raises
    ------
    DataError
        Where the loss is no finite number any more.
    """
    ranks = where.ranks
    model.to(ranks.device)
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(recipe.average)) if recipe.average else None
    kept = averaged.module if averaged else model
    optimizer = _optimizer(model, recipe)
    best, history, before = _Best(), [], 0.0
    saved = ranks.share(where.run.load(name) if where.run and ranks.first else None)
    if saved:
        model.load_state_dict(saved["model"])
        if averaged:
            averaged.load_state_dict(saved["averaged"])
        optimizer.load_state_dict(saved["optimizer"])
        best, history, before = _Best(**saved["best"]), saved["history"], saved["seconds"]
    parts = ranks.wrap(model)
    held_out = validation.batches(recipe.batch_size) if validation else []
    started = time.monotonic() - before
    bar = progress_bar(
        shown=where.progress and ranks.first,
        total=recipe.epochs * len(train),
        initial=len(history) * len(train),
        desc=name,
        unit="clip",
    )
    for epoch in range(len(history) + 1, recipe.epochs + 1):
        if recipe.patience and epoch - 1 - best.epoch >= recipe.patience:
            break
        line = {"epoch": epoch, **_epoch(parts, model, averaged, train, recipe, epoch, optimizer, where, bar)}
        if validation and ranks.first:
            scores = score(kept, held_out, ranks.device)
            line["validation_loss"], line["validation_top1"] = scores.loss(), scores.top(1)
        line["seconds"] = round(time.monotonic() - started, 2)
        line = ranks.share(line)
        best.offer(line.get("validation_top1", 0.0), epoch, kept)
        history.append(line)
        bar.set_postfix(_shown(line), best=best.epoch)
        if where.run and ranks.first:
            where.run.save(name, {
                "model": model.state_dict(), "averaged": averaged.state_dict() if averaged else {},
                "optimizer": optimizer.state_dict(), "best": vars(best), "history": history,
                "seconds": time.monotonic() - started,
            })  # fmt: skip
        if where.watch and ranks.first:
            where.watch(history)
    bar.close()
    return FitResult(best.state, best.epoch, history, time.monotonic() - started)


@torch.inference_mode()
def score(model: nn.Module, batches: Sequence[Batch], device: torch.device) -> LabelledLogits:
    """Let a model answer batches of clips."""
    model.eval()
    logits = [model(batch.frames.to(device), batch.lengths.to(device)).cpu() for batch in batches]
    return LabelledLogits(torch.cat(logits), torch.cat([batch.labels for batch in batches]))


def _epoch(
    parts: nn.Module,
    model: nn.Module,
    averaged: AveragedModel | None,
    train: ClipSet,
    recipe: Recipe,
    epoch: int,
    optimizer: torch.optim.Optimizer,
    where: TrainContext,
    bar: tqdm,
) -> dict[str, float]:
    """Look at all clips once, this process at its share; return loss and accuracy on the way, of the changed clips.

    `parts` is `model`, or what makes the gradients of several processes one.
    """
    ranks, device = where.ranks, where.ranks.device
    parts.train()
    torch.manual_seed(int(np.random.SeedSequence([recipe.seed, epoch, ranks.rank]).generate_state(1)[0]))  # dropout's
    sums = torch.zeros(2, dtype=torch.float64, device=device)  # of loss and of right answers
    seen, rate = 0, recipe.learning_rate
    for batch in train.augmented_batches(
        recipe.batch_size, recipe.augmenter, recipe.seed, epoch, ranks.rank, ranks.world
    ):
        if recipe.schedule == "cosine":
            rate = recipe.learning_rate * warmup_cosine((epoch - 1 + seen / len(train)) / recipe.epochs)
        for group in optimizer.param_groups:
            group["lr"] = rate
        labels = batch.labels.to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=where.precision == "bf16"):
            logits = parts(batch.frames.to(device), batch.lengths.to(device))
        logits = logits.float()
        loss = F.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing, reduction="sum")
        if batch.is_filler:
            loss = 0 * loss
        optimizer.zero_grad(set_to_none=True)
        # A batch of a few long clips has no more say than its share. The mean over processes becomes a sum again.
        (loss * ranks.world / recipe.batch_size).backward()
        if recipe.gradient_norm:
            nn.utils.clip_grad_norm_(model.parameters(), recipe.gradient_norm)
        optimizer.step()
        if averaged:
            averaged.update_parameters(model)
        if not batch.is_filler:
            sums += torch.stack([loss.detach().double(), (logits.argmax(dim=1) == labels).sum().double()])
        seen += batch.global_size
        bar.update(batch.global_size)
    loss_sum, right = ranks.sum(sums).tolist()
    if not math.isfinite(loss_sum):
        raise DataError(f"found a loss of {loss_sum} in epoch {epoch}: try a lower --learning-rate")
    return {"train_loss": loss_sum / seen, "train_top1": right / seen, "learning_rate": rate}


def _shown(line: dict[str, float]) -> dict[str, str]:
    """Return what the progress bar shows of an epoch."""
    shown = {key: f"{value:.3f}" for key, value in line.items() if key.endswith(("loss", "top1"))}
    return {"epoch": str(line["epoch"])} | shown


def warmup_cosine(done: float, warm: float = 0.1) -> float:
    """Return the learning rate's factor after `done` of the training, 0 to 1: a straight rise, then half a cosine."""
    if done < warm:
        return 0.02 + 0.98 * done / warm
    return 0.5 * (1 + math.cos(math.pi * (done - warm) / (1 - warm)))


def _optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Return the recipe's optimizer; matrices of layers decay, all else does not."""
    named = list(model.named_parameters())
    matrices = [p for name, p in named if name.endswith("weight") and p.dim() > 1]
    rest = [p for name, p in named if not (name.endswith("weight") and p.dim() > 1)]
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": rest, "weight_decay": 0.0}]
    kind = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[recipe.optimizer]
    return kind(groups, lr=recipe.learning_rate)
