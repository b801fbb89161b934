"""The training loop: clips and a model in, the best weights out. It writes no file."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from spoter.errors import DataError
from spoter.training.batches import Batch, ClipSet
from spoter.training.settings import Recipe


@dataclass(frozen=True)
class Scores:
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
class Fitted:
    """What `fit` returns: weights, the epoch they are from, and a line of metrics for each epoch."""

    state: dict[str, Tensor]
    epoch: int
    history: list[dict[str, float]]
    seconds: float


def fit(
    model: nn.Module,
    train: ClipSet,
    validation: ClipSet | None,
    recipe: Recipe,
    device: torch.device,
    progress: bool = False,
    title: str = "training",
) -> Fitted:
    """Train a model.

    Parameters
    ----------
    model : torch.nn.Module
        `spoter.model.Spoter`; its weights are changed.
    train, validation : ClipSet
        The weights with the highest validation accuracy are kept, the lower loss deciding between equals. Without a
        validation set nothing is selected: all epochs are run and the last weights kept.
    recipe : Recipe
    device : torch.device
    progress : bool
        Whether to draw a progress bar on stderr.
    """
    started = time.monotonic()
    model.to(device)
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(recipe.average)) if recipe.average else None
    kept = averaged.module if averaged else model
    optimizer = torch.optim.AdamW(_decaying(model, recipe.weight_decay), lr=recipe.learning_rate)
    held_out = validation.plain(recipe.batch_size) if validation else []
    best_key, best_epoch, best_state = (-1.0, 0.0), 0, {}
    history: list[dict[str, float]] = []
    bar = tqdm(range(1, recipe.epochs + 1), desc=title, unit="epoch", disable=not progress)
    for epoch in bar:
        line = {"epoch": epoch}
        line["train_loss"], line["train_top1"] = _epoch(model, averaged, train, recipe, epoch, optimizer, device)
        if validation:
            scores = score(kept, held_out, device)
            line["validation_loss"], line["validation_top1"] = scores.loss(), scores.top(1)
            key = (scores.top(1), -scores.loss())
        else:
            key = (float(epoch), 0.0)
        if key > best_key:
            best_key, best_epoch = key, epoch
            best_state = {name: tensor.detach().cpu().clone() for name, tensor in kept.state_dict().items()}
        line["seconds"] = round(time.monotonic() - started, 2)
        history.append(line)
        shown = {name: f"{value:.3f}" for name, value in line.items() if name.endswith(("loss", "top1"))}
        bar.set_postfix(shown, best=best_epoch)
        if epoch - best_epoch >= recipe.patience:
            break
    bar.close()
    return Fitted(best_state, best_epoch, history, time.monotonic() - started)


def choose_device(name: str) -> torch.device:
    """Return the device of a name such as cpu, cuda or cuda:1; raise `DataError` where there is no such thing here."""
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise DataError(f"found device {name!r}, expected cpu, cuda or cuda:1")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DataError(f"found device {name!r}, but torch sees {torch.cuda.device_count()} CUDA devices here")
    return device


@torch.inference_mode()
def score(model: nn.Module, batches: Sequence[Batch], device: torch.device) -> Scores:
    """Let a model answer batches of clips."""
    model.eval()
    logits = [model(batch.frames.to(device), batch.lengths.to(device)).cpu() for batch in batches]
    return Scores(torch.cat(logits), torch.cat([batch.labels for batch in batches]))


def _epoch(
    model: nn.Module,
    averaged: AveragedModel | None,
    train: ClipSet,
    recipe: Recipe,
    epoch: int,
    optimizer: torch.optim.Optimizer,
    device: torch.device,
) -> tuple[float, float]:
    """Look at all clips once; return mean loss and accuracy on the way, both of the changed clips."""
    model.train()
    loss_sum = right = seen = 0
    for batch in train.augmented(recipe.batch_size, recipe.changes, recipe.seed, epoch):
        rate = recipe.learning_rate * warm_cosine((epoch - 1 + seen / len(train)) / recipe.epochs)
        for group in optimizer.param_groups:
            group["lr"] = rate
        labels = batch.labels.to(device)
        logits = model(batch.frames.to(device), batch.lengths.to(device))
        loss = F.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing, reduction="sum")
        optimizer.zero_grad(set_to_none=True)
        (loss / recipe.batch_size).backward()  # a batch of a few long clips has no more say than its share
        nn.utils.clip_grad_norm_(model.parameters(), recipe.gradient_norm)
        optimizer.step()
        if averaged:
            averaged.update_parameters(model)
        loss_sum += loss.item()
        right += (logits.argmax(dim=1) == labels).sum().item()
        seen += len(labels)
    return loss_sum / seen, right / seen


def warm_cosine(done: float, warm: float = 0.1) -> float:
    """Return the learning rate's factor after `done` of the training, 0 to 1: a straight rise, then half a cosine."""
    if done < warm:
        return 0.02 + 0.98 * done / warm
    return 0.5 * (1 + math.cos(math.pi * (done - warm) / (1 - warm)))


def _decaying(model: nn.Module, decay: float) -> list[dict]:
    """Return AdamW's parameter groups: matrices of layers decay, all else does not."""
    matrices = [p for name, p in model.named_parameters() if name.endswith("weight") and p.dim() > 1]
    rest = [p for name, p in model.named_parameters() if not (name.endswith("weight") and p.dim() > 1)]
    return [{"params": matrices, "weight_decay": decay}, {"params": rest, "weight_decay": 0.0}]
