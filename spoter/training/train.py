"""From a data set to a model folder: `spoter train`."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from spoter.config import ModelConfig, Sizes, longest_clip
from spoter.errors import DataError
from spoter.files import write_whole
from spoter.layouts import BUILT_IN, Layout, load_layout
from spoter.model import Spoter
from spoter.model_folder import CARD, write_model_folder
from spoter.normalize import check_scheme
from spoter.training.batches import ClipSet
from spoter.training.card import Figures, model_card
from spoter.training.datasets import LabelledClip, read_connecting_points
from spoter.training.fit import Fitted, Scores, choose_device, fit, score
from spoter.training.settings import TrainSettings
from spoter.training.split import Split, folds, split_groups

SPLIT, METRICS = "split.json", "metrics.jsonl"


@dataclass(frozen=True)
class Trained:
    """What a run leaves besides its model folder."""

    config: ModelConfig
    split: Split
    fitted: Fitted
    figures: Figures


def train(settings: TrainSettings, progress: bool = False) -> Trained:
    """Train a model and write its model folder, with split.json and metrics.jsonl beside the weights.

    The data are split by whole groups from the seed. Weights are selected by their validation groups; the test groups
    are looked at once, after that.

    Parameters
    ----------
    settings : TrainSettings
    progress : bool
        Whether to draw progress bars on stderr.

    Raises
    ------
    DataError
        For data that cannot be read, split, or used with these settings.
    ModelFolderError
        For an unknown layout, or a scheme that does not fit it.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    about = _read_about(settings.about)
    layout = load_layout(settings.layout)
    check_scheme(layout, settings.normalize)
    device = choose_device(settings.device)
    clips = read_connecting_points(settings.data)
    glosses = tuple(sorted({clip.gloss for clip in clips}))
    config = _config(settings, layout, len(glosses))
    split = split_groups(
        clips, settings.validation, settings.test, settings.val_groups, settings.test_groups, settings.seed
    )
    sides = {
        side: ClipSet(split.select(clips, side), glosses, layout, config.normalize, config.max_frames)
        for side in ("train", "validation", "test")
    }
    _prepare(settings.out)
    model = _new_model(config, layout, settings)
    fitted = fit(model, sides["train"], sides["validation"], settings.recipe, device, progress)
    model.load_state_dict(fitted.state)

    def judge(side: str, tempo: float = 1.0) -> Scores:
        return score(model, sides[side].plain(settings.batch_size, tempo), device)

    figures = Figures(
        validation=judge("validation"),
        test=judge("test"),
        other_tempos={tempo: judge("test", tempo) for tempo in (0.5, 2.0)},
    )
    card = model_card(about, settings, config, glosses, clips, split, fitted, figures)
    _write(settings, config, glosses, clips, split, fitted, card)
    if settings.folds:
        figures = replace(figures, folds=_try_folds(settings, config, layout, glosses, clips, device, progress))
        card = model_card(about, settings, config, glosses, clips, split, fitted, figures)
        write_whole(settings.out / CARD, card.encode())
    return Trained(config, split, fitted, figures)


def _config(settings: TrainSettings, layout: Layout, classes: int) -> ModelConfig:
    try:
        sizes = Sizes(
            width=2 * len(layout),
            heads=settings.heads or _heads(2 * len(layout)),
            encoder_layers=settings.encoder_layers,
            decoder_layers=settings.decoder_layers,
            encoder_feedforward=settings.encoder_feedforward,
            decoder_feedforward=settings.decoder_feedforward,
            position_rows=settings.position_rows,
            classes=classes,
        )
        return ModelConfig(
            name=settings.name or settings.out.resolve().name,
            version=settings.version,
            layout=settings.layout if settings.layout in BUILT_IN else Path(settings.layout).name,
            normalize=settings.normalize,
            positions=settings.positions,
            **sizes.without_width(),
            max_frames=longest_clip(settings.positions, sizes.position_rows),
        )
    except ValueError as error:
        raise DataError(f"settings: {error}") from None


def _heads(width: int) -> int:
    """Return the most heads, up to the original's nine, that a width can be divided among."""
    return max(heads for heads in range(1, 10) if width % heads == 0)


def _new_model(config: ModelConfig, layout: Layout, settings: TrainSettings) -> Spoter:
    """Return a model with first weights that the seed alone decides."""
    torch.manual_seed(settings.seed)
    return Spoter(config.sizes(2 * len(layout)), config.positions, settings.dropout)


def _try_folds(
    settings: TrainSettings,
    config: ModelConfig,
    layout: Layout,
    glosses: Sequence[str],
    clips: Sequence[LabelledClip],
    device: torch.device,
    progress: bool,
) -> dict[tuple[str, ...], Scores]:
    """Train anew for each fold without it, and return the answers to it: last weights, nothing selected."""
    recipe = replace(settings.recipe, epochs=settings.fold_epochs or settings.epochs)
    results = {}
    dealt = folds(clips, settings.folds, settings.seed)
    for number, left_out in enumerate(dealt, start=1):
        inside = [clip for clip in clips if clip.group not in left_out]
        unseen = set(glosses) - {clip.gloss for clip in inside}
        if unseen:
            raise DataError(f"fold {number} leaves training without {', '.join(sorted(unseen))}: try other folds")
        outside = [clip for clip in clips if clip.group in left_out]
        train_set, test_set = (
            ClipSet(part, glosses, layout, config.normalize, config.max_frames) for part in (inside, outside)
        )
        model = _new_model(config, layout, settings)
        fitted = fit(model, train_set, None, recipe, device, progress, f"fold {number} of {len(dealt)}")
        model.load_state_dict(fitted.state)
        results[left_out] = score(model, test_set.plain(settings.batch_size), device)
    return results


def _read_about(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: {error}") from error


def _prepare(out: Path) -> None:
    """Make the folder to write, now rather than after hours of training."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise DataError(f"{out}: cannot be written in ({error.strerror or error})") from error


def _write(
    settings: TrainSettings,
    config: ModelConfig,
    glosses: Sequence[str],
    clips: Sequence[LabelledClip],
    split: Split,
    fitted: Fitted,
    card: str,
) -> None:
    """Write all files; the model folder's own come last, and of these config.json."""
    sizes = {side: {"clips": len(split.select(clips, side)), "groups": names} for side, names in asdict(split).items()}
    write_whole(settings.out / SPLIT, json.dumps({"seed": settings.seed, **sizes}, indent=2).encode() + b"\n")
    lines = [json.dumps({name: round(value, 5) for name, value in line.items()}) for line in fitted.history]
    write_whole(settings.out / METRICS, "".join(f"{line}\n" for line in lines).encode())
    layout_file = None if settings.layout in BUILT_IN else Path(settings.layout)
    write_model_folder(settings.out, fitted.state, config, glosses, card, layout_file)
