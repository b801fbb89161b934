"""Prepare a training run: read, check and split the data, and configure the model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import msgspec
import torch

from spoter.errors import DataError
from spoter.landmarks.layouts import BUILT_IN, load_layout
from spoter.landmarks.normalize import check_scheme
from spoter.model.config import ModelConfig, default_max_frames
from spoter.model.network import Spoter
from spoter.training.batches import ClipEncoder, ClipSet
from spoter.training.data import DataSet, LabelledClip, Skipped, merge_presplit, read_dataset
from spoter.training.data.split import SUBSETS, Split, SplitOptions
from spoter.training.data.split_record import split_dataset
from spoter.training.settings import TrainSettings


@dataclass(frozen=True)
class Task:
    """The settings, data, split and model configuration of a run, fixed before the first epoch."""

    settings: TrainSettings
    config: ModelConfig
    encoder: ClipEncoder  # turns clips into input of the model
    about: str  # opens the model card; may be empty
    data: DataSet  # all clips except the skipped ones
    split: Split
    left_out: tuple[str, ...]  # glosses of the data that the model is not trained on
    layout_csv: bytes | None  # of the layout's file, which may be edited during training; None for a built-in layout

    @cached_property
    def clip_sets(self) -> dict[str, ClipSet]:
        """The clips of each of `SUBSETS`."""
        return {subset: self.clip_set(self.select(subset)) for subset in SUBSETS}

    def new_model(self) -> Spoter:
        """Return a model whose initial weights depend only on the seed."""
        torch.manual_seed(self.settings.seed)
        return Spoter(self.config.sizes(2 * len(self.encoder.layout)), self.config.positions, self.settings.dropout)

    def clip_set(self, clips: Sequence[LabelledClip]) -> ClipSet:
        """Return labeled clips as input of the model."""
        return ClipSet(clips, self.data.glosses, self.encoder)

    def select(self, subset: str) -> list[LabelledClip]:
        """Return the clips of a subset of the split."""
        return self.split.select(self.data.clips, subset)


def prepare(settings: TrainSettings, progress: bool = False, note: Callable[[str], None] = lambda text: None) -> Task:
    """Read the data, check that they fit the settings, and split them.

    `progress` shows progress on stderr. `note` is called with one line for each skipped clip, immediately, and for each
    warning about the split.

    Raises `DataError` for data that cannot be read or split, that are from another estimator than the settings name,
    or that do not fit the model, and for bad clips unless the settings skip them; `ModelFolderError` for an unknown
    layout and a normalization that does not fit the layout.
    """
    about = _read_about(settings.about)
    layout = load_layout(settings.layout)
    layout_csv = None if settings.layout in BUILT_IN else Path(settings.layout).read_bytes()
    check_scheme(layout, settings.normalize)
    config = _make_config(settings, 2 * len(layout))  # before reading the data, which may take long
    encoder = ClipEncoder(layout, settings.normalize, config.max_frames)
    data, split, left_out = _read_data(settings, encoder, progress, note)
    config = msgspec.structs.replace(config, classes=len(data.glosses), estimator=data.estimator)
    return Task(settings, config, encoder, about, data, split, left_out, layout_csv)


def _read_about(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"--about {path}: {reason}; expected a Markdown file in UTF-8") from error


def _make_config(settings: TrainSettings, width: int) -> ModelConfig:
    """Return the config of a model, with one gloss until the data are read."""
    try:
        config = ModelConfig(
            name=settings.name or settings.out.resolve().name,
            version=settings.version,
            layout=settings.layout if settings.layout in BUILT_IN else Path(settings.layout).name,
            normalize=settings.normalize,
            positions=settings.positions,
            # At most 9, the number of heads of the original.
            heads=settings.heads or max(heads for heads in range(1, 10) if width % heads == 0),
            encoder_layers=settings.encoder_layers,
            decoder_layers=settings.decoder_layers,
            encoder_feedforward=settings.encoder_feedforward,
            decoder_feedforward=settings.decoder_feedforward,
            position_rows=settings.position_rows,
            classes=1,
            max_frames=default_max_frames(settings.positions, settings.position_rows),
        )
        config.sizes(width)  # checks that the width is divisible by the number of heads
    except ValueError as error:
        raise DataError(f"settings: {error}") from None
    return config


def _read_data(
    settings: TrainSettings, encoder: ClipEncoder, progress: bool, note: Callable[[str], None]
) -> tuple[DataSet, Split, tuple[str, ...]]:
    """Return the usable clips, their split, and the glosses that are left out."""
    if settings.validation_data and settings.validation_by_clip:
        raise DataError("found --validation-data and --validation-by-clip, expected only one of them")
    glosses: set[str] = set()

    def read(path: Path) -> DataSet:
        data = read_dataset(path, skip_bad=settings.skip_bad, groups=settings.group_regex, progress=progress)
        for skip in data.skipped:
            note(f"skipped: {skip}")
        glosses.update(data.glosses)
        return _select_usable(data, settings, encoder, note)

    def read_subset(path: Path | None, groups: tuple[str, ...]) -> DataSet | None:
        if path is not None and groups:
            raise DataError(f"{path}: found groups {', '.join(groups)} for the same subset; give a file or groups")
        return read(path) if path is not None else None

    train = read(settings.data)
    validation = read_subset(settings.validation_data, settings.val_groups)
    test = read_subset(settings.test_data, settings.test_groups)
    data, validation_groups, test_groups = merge_presplit(train, validation, test, skip_bad=settings.skip_bad)
    reported = sum(len(subset.skipped) for subset in (train, validation, test) if subset is not None)
    for skip in data.skipped[reported:]:
        note(f"skipped: {skip}")
    absent = sorted(set(settings.leave_out) - glosses)
    if absent:
        raise DataError(f"--leave-out: found no gloss {', '.join(absent)} in {settings.data}")
    if settings.estimator not in ("", data.estimator):
        problem = f"{settings.data}: found landmarks of {data.estimator}"
        raise DataError(f"{problem}, expected landmarks of {settings.estimator}, as in the settings")
    groups = validation_groups or settings.val_groups, test_groups or settings.test_groups
    by_clip = settings.validation_by_clip
    options = SplitOptions(settings.validation, settings.test, *groups, seed=settings.seed, by_clip=by_clip)
    data, split = split_dataset(data, options, skip_bad=settings.skip_bad, note=note)
    return data, split, tuple(sorted(glosses - set(data.glosses)))


def _select_usable(
    data: DataSet, settings: TrainSettings, encoder: ClipEncoder, note: Callable[[str], None]
) -> DataSet:
    """Leave out the glosses of --leave-out, and with --skip-bad the clips that do not fit the model."""
    clips = [clip for clip in data.clips if clip.gloss not in settings.leave_out]
    if not clips:
        raise DataError(f"{data.place}: --leave-out names all {len(data.glosses)} glosses, expected at least one other")
    usable: list[LabelledClip] = []
    skipped = list(data.skipped)
    for clip in clips:
        try:
            encoder.encode(clip)
        except DataError as error:
            if not settings.skip_bad:
                raise
            skipped.append(Skipped(clip.name, str(error).removeprefix(f"{clip.name}: ")))
            note(f"skipped: {skipped[-1]}")
        else:
            usable.append(clip)
    if not usable:
        raise DataError(f"{data.place}: found no clip that fits the model; {skipped[0]}")
    return replace(data, clips=usable, skipped=skipped)
