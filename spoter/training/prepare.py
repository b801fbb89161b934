"""What settings ask for, before the first epoch: the model, and clips that it can be fed, split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from spoter.errors import DataError
from spoter.landmarks.layouts import BUILT_IN, Layout, load_layout
from spoter.landmarks.normalize import check_scheme
from spoter.model.config import ModelConfig, Sizes, default_max_frames
from spoter.model.network import Spoter
from spoter.training.batches import ClipSet, checked_points
from spoter.training.data import DataSet, LabelledClip, Skipped, merge_presplit, read_dataset
from spoter.training.data.split import SUBSETS, Split
from spoter.training.data.split_record import split_dataset
from spoter.training.settings import TrainSettings


@dataclass(frozen=True)
class Task:
    """All that is fixed before the first epoch.

    Attributes
    ----------
    settings : TrainSettings
    config : ModelConfig
    layout : Layout
    about : str
        Text that opens the model card, or nothing.
    data : DataSet
        All clips, without those that were skipped.
    split : Split
    clip_sets : dict of str to ClipSet
        ``train``, ``validation`` and ``test``.
    left_out : tuple of str
        Glosses of the data that the model is not trained on.
    layout_csv : bytes or None
        Content of the layout's file, which may be edited while the model is trained; None for a built-in layout.
    """

    settings: TrainSettings
    config: ModelConfig
    layout: Layout
    about: str
    data: DataSet
    split: Split
    clip_sets: dict[str, ClipSet]
    left_out: tuple[str, ...] = ()
    layout_csv: bytes | None = None

    def new_model(self) -> Spoter:
        """Return a model with first weights that the seed alone decides."""
        torch.manual_seed(self.settings.seed)
        return Spoter(self.config.sizes(2 * len(self.layout)), self.config.positions, self.settings.dropout)

    def clip_set(self, clips: Sequence[LabelledClip]) -> ClipSet:
        """Return labelled clips ready to be fed to the model."""
        return ClipSet(clips, self.data.glosses, self.layout, self.config.normalize, self.config.max_frames)

    def select(self, side: str) -> list[LabelledClip]:
        """Return the clips of one side of the split."""
        return self.split.select(self.data.clips, side)


def prepare(settings: TrainSettings, progress: bool = False, note: Callable[[str], None] = lambda text: None) -> Task:
    """Read all that settings name, and check that it fits together.

    Parameters
    ----------
    settings : TrainSettings
    progress : bool
        Whether to show progress on stderr.
    note : callable
        Called with a line for each clip that is left out, as soon as it is, and for what is doubtful about the split.

    Raises
    ------
    DataError
        For data that cannot be read, are another estimator's than settings say, do not fit the model, or cannot be
        split; of bad clips only where settings do not say to skip them.
    ModelFolderError
        For an unknown layout, or a scheme that does not fit it.
    """
    about = _read_about(settings.about)
    layout = load_layout(settings.layout)
    layout_csv = None if settings.layout in BUILT_IN else Path(settings.layout).read_bytes()
    check_scheme(layout, settings.normalize)
    config = _config(settings, layout, 1, "mediapipe")  # what cannot be is said before long reading
    data, split, left_out = _read_data(settings, layout, config.max_frames, progress, note)
    config = _config(settings, layout, len(data.glosses), data.estimator)
    task = Task(settings, config, layout, about, data, split, {}, left_out, layout_csv)
    return replace(task, clip_sets={side: task.clip_set(task.select(side)) for side in SUBSETS})


def _read_about(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"--about {path}: {reason}; expected Markdown in UTF-8") from error


def _config(settings: TrainSettings, layout: Layout, classes: int, estimator: str) -> ModelConfig:
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
            estimator=estimator,
            normalize=settings.normalize,
            positions=settings.positions,
            **sizes.config_fields(),
            max_frames=default_max_frames(settings.positions, sizes.position_rows),
        )
    except ValueError as error:
        raise DataError(f"settings: {error}") from None


def _heads(width: int) -> int:
    """Return the most heads, up to the original's nine, that a width can be divided among."""
    return max(heads for heads in range(1, 10) if width % heads == 0)


def _read_data(
    settings: TrainSettings, layout: Layout, max_frames: int, progress: bool, note: Callable[[str], None]
) -> tuple[DataSet, Split, tuple[str, ...]]:
    seen: set[str] = set()

    def read(path: Path | None, named: tuple[str, ...]) -> DataSet | None:
        if path is None:
            return None
        if named:
            raise DataError(f"{path}: found groups {', '.join(named)} for the same side, expected one or the other")
        data = read_dataset(path, skip_bad=settings.skip_bad, groups=settings.group_regex, progress=progress)
        for skip in data.skipped:
            note(f"skipped: {skip}")
        seen.update(data.glosses)
        return _usable(_without(data, settings.leave_out), layout, settings, max_frames, note)

    if settings.validation_data and settings.validation_by_clip:
        raise DataError("found --validation-data and --validation-by-clip, expected one of them")

    files = (
        read(settings.data, ()),
        read(settings.validation_data, settings.val_groups),
        read(settings.test_data, settings.test_groups),
    )
    data, validation_groups, test_groups = merge_presplit(*files, skip_bad=settings.skip_bad)
    for skip in data.skipped[sum(len(file.skipped) for file in files if file is not None) :]:
        note(f"skipped: {skip}")
    absent = sorted(set(settings.leave_out) - seen)
    if absent:
        raise DataError(f"--leave-out: found no gloss {', '.join(absent)} in {settings.data}")
    if settings.estimator not in ("", data.estimator):
        raise DataError(
            f"{settings.data}: found landmarks of {data.estimator}, but settings say estimator {settings.estimator}"
        )
    options = {
        "validation": settings.validation,
        "test": settings.test,
        "validation_groups": validation_groups or settings.val_groups,
        "test_groups": test_groups or settings.test_groups,
        "seed": settings.seed,
        "by_clip": settings.validation_by_clip,
    }
    data, split = split_dataset(data, settings.skip_bad, note, options)
    return data, split, tuple(sorted(seen - set(data.glosses)))


def _without(data: DataSet, glosses: tuple[str, ...]) -> DataSet:
    """Leave the clips of some glosses out."""
    kept = [clip for clip in data.clips if clip.gloss not in glosses]
    if not kept:
        raise DataError(f"{data.sources[0]}: found no gloss but those to leave out")
    return replace(data, clips=kept)


def _usable(
    data: DataSet, layout: Layout, settings: TrainSettings, max_frames: int, note: Callable[[str], None]
) -> DataSet:
    """Check that the model can be fed each clip; leave out those it cannot where settings say so."""
    good: list[LabelledClip] = []
    skipped = list(data.skipped)
    for clip in data.clips:
        try:
            checked_points(clip, layout, settings.normalize, max_frames)
        except DataError as error:
            if not settings.skip_bad:
                raise
            skipped.append(Skipped(clip.name, str(error).removeprefix(f"{clip.name}: ")))
            note(f"skipped: {skipped[-1]}")
        else:
            good.append(clip)
    if not good:
        first = f"{skipped[0].place}: {skipped[0].reason}"
        raise DataError(f"{', '.join(map(str, data.sources))}: found no clip that the model can be fed; {first}")
    return replace(data, clips=good, skipped=skipped)
