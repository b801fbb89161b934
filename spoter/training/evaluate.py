"""Judging a model folder on labelled clips, by the very path that serves requests: `spoter evaluate`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from spoter.errors import DataError, InputError
from spoter.recognizer import Recognizer
from spoter.training.datasets import LabelledClip, read_connecting_points
from spoter.training.fit import choose_device
from spoter.training.train import SPLIT

_BATCH = 32


@dataclass(frozen=True)
class Evaluation:
    """A model's answers to labelled clips.

    Attributes
    ----------
    top1, top5 : float
        Share of all clips whose gloss comes first, or among the first five.
    clips : int
    refused : dict of str to str
        Clips that a server would refuse, by name, with the reason; they count as wrong.
    glosses : tuple of str
        By label index.
    confusion : numpy.ndarray, shape (classes, classes + 1), int64
        Clips of each gloss (row) by the gloss that came first (column); the last column holds those refused.
    """

    top1: float
    top5: float
    clips: int
    refused: dict[str, str]
    glosses: tuple[str, ...]
    confusion: np.ndarray

    def to_json(self) -> str:
        """Return the line ``{"top1": …, "top5": …, "clips": …}``."""
        return json.dumps({"top1": round(self.top1, 6), "top5": round(self.top5, 6), "clips": self.clips})

    def per_gloss(self) -> dict[str, tuple[int, int]]:
        """Return for each gloss that occurs its number of clips, and how many of them were named right."""
        counts = self.confusion.sum(axis=1)
        return {gloss: (int(counts[i]), int(self.confusion[i, i])) for i, gloss in enumerate(self.glosses) if counts[i]}


def evaluate(
    model_folder: Path, data: Path, groups: Sequence[str] = (), progress: bool = False, device: str = "cpu"
) -> Evaluation:
    """Judge a model on a ConnectingPoints HDF5 file.

    Parameters
    ----------
    model_folder, data : Path
    groups : sequence of str
        Judge on these groups' clips only; on all of them where empty.
    progress : bool
        Whether to draw a progress bar on stderr.
    device : str
        A torch device.

    Raises
    ------
    ModelFolderError
        For a model folder that cannot be used.
    DataError
        For data that cannot be read, unknown groups, and glosses that the model does not know, naming them.
    """
    recognizer = Recognizer.load(model_folder, choose_device(device))
    clips = _of_groups(read_connecting_points(data), groups, data)
    unknown = sorted({clip.gloss for clip in clips} - set(recognizer.glosses))
    if unknown:
        more = ", …" if len(unknown) > 10 else ""
        raise DataError(
            f"{data}: found {len(unknown)} glosses that the model does not know: {', '.join(unknown[:10])}{more}; "
            f"expected some of its {len(recognizer.glosses)}"
        )
    classes = len(recognizer.glosses)
    confusion = np.zeros((classes, classes + 1), dtype=np.int64)
    among_five = 0
    refused: dict[str, str] = {}
    with tqdm(total=len(clips), desc="evaluating", unit="clip", disable=not progress) as bar:
        for start in range(0, len(clips), _BATCH):
            batch = clips[start : start + _BATCH]
            for clip, answer in zip(batch, recognizer.recognize([clip.clip for clip in batch], top_k=5), strict=True):
                label = recognizer.glosses.index(clip.gloss)
                if isinstance(answer, InputError):
                    refused[clip.name] = answer.code
                    confusion[label, classes] += 1
                    continue
                order = [ranked.index for ranked in answer.instances]
                confusion[label, order[0]] += 1
                among_five += label in order
            bar.update(len(batch))
            bar.set_postfix(top1=f"{np.trace(confusion) / confusion.sum():.4f}")
    top1 = float(np.trace(confusion) / len(clips))
    return Evaluation(top1, among_five / len(clips), len(clips), refused, recognizer.glosses, confusion)


def groups_of_side(model_folder: Path, side: str) -> tuple[str, ...]:
    """Return the groups of one side of the split a model was trained by, from its split.json.

    Raises
    ------
    DataError
        Where the folder has no split.json, or that no such side.
    """
    path = Path(model_folder) / SPLIT
    try:
        return tuple(json.loads(path.read_bytes())[side]["groups"])
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}; name the groups with --groups instead") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: found no groups of a side {side!r}, expected train, validation or test") from error


def _of_groups(clips: list[LabelledClip], groups: Sequence[str], data: Path) -> list[LabelledClip]:
    known = {clip.group for clip in clips}
    absent = sorted(set(groups) - known)
    if absent:
        raise DataError(f"{data}: found no group {', '.join(absent)}, expected some of {', '.join(sorted(known)[:20])}")
    return [clip for clip in clips if not groups or clip.group in groups]
