"""The state of an unfinished run in its model folder, OUT/.training, from which a killed run resumes.

The folder holds run.json (what is trained on which data), a state for each model that is trained (``model.pt``,
``fold-1.pt``, …; written after each epoch, it holds all that the next epoch depends on), metrics.jsonl and curves.png.
A finished run removes it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from spoter.errors import DataError
from spoter.files import atomic_write, atomic_write_bytes, fsync_folder

FOLDER = ".training"
_FINISHED = ".training-done"
_RUN = "run.json"


def is_unfinished(out: Path) -> bool:
    """Tell whether a model folder holds an unfinished run that can be resumed."""
    return any((out / FOLDER).glob("*.pt"))


class UnfinishedRun:
    """The folder .training in the model folder `out`, which exists.

    `identity` holds settings, data and version as text: a run resumes only where all of these are the same.
    """

    def __init__(self, out: Path, identity: Mapping[str, str]) -> None:
        self.out, self.folder, self.identity = out, out / FOLDER, dict(identity)

    def open(self, resume: bool = False, fresh: bool = False) -> None:
        """Start, or resume the run in the folder.

        Raises `DataError` where there is an unfinished run and neither `resume` nor `fresh`, and where its identity is
        another than this run's, naming the difference.
        """
        for folder in (self.out / _FINISHED, self.folder) if fresh else (self.out / _FINISHED,):
            if folder.exists():
                shutil.rmtree(folder)
        if unfinished := is_unfinished(self.out):
            if not resume:
                raise DataError(f"{self.folder}: found an unfinished run: --resume resumes it, --fresh deletes it")
            self._check_identity()
        self.folder.mkdir(exist_ok=True)
        for left_over in self.folder.glob(".*"):  # of a write that was killed
            left_over.unlink()
        if not unfinished:
            atomic_write_bytes(self.folder / _RUN, json.dumps(self.identity, indent=2).encode() + b"\n")

    def load_state(self, name: str) -> dict[str, Any] | None:
        """Return the last state saved under `name`, on the CPU, or None where there is none yet."""
        path = self.folder / f"{name}.pt"
        if not path.exists():
            return None
        try:
            return dict(torch.load(path, map_location="cpu", weights_only=True))
        except Exception as error:  # torch raises errors of many kinds for a file that it did not write
            raise DataError(f"{path}: cannot be read ({type(error).__name__}); start again with --fresh") from error

    def save_state(self, name: str, state: Mapping[str, Any]) -> None:
        """Save `state`, tensors and plain values, in place of the state saved under `name` before."""
        with atomic_write(self.folder / f"{name}.pt") as temporary, temporary.open("wb") as stream:
            torch.save(dict(state), stream)  # torch names its archive after a path, and refuses some names

    def finish(self) -> None:
        """Remove the folder."""
        # Renamed first: a finished run that is killed while it removes the folder must not look unfinished.
        finished = self.folder.rename(self.out / _FINISHED)
        fsync_folder(self.out)
        shutil.rmtree(finished)

    def _check_identity(self) -> None:
        path = self.folder / _RUN
        try:
            saved = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: cannot be read ({error}); start again with --fresh") from error
        changed = [name for name, value in self.identity.items() if saved.get(name) != value]
        if changed:
            changes = (f"{name} was {saved.get(name, 'absent')}, is {self.identity[name]}" for name in changed)
            raise DataError(
                f"{self.folder}: the unfinished run has another configuration: {', '.join(changes)}; "
                "give the same again, or --fresh"
            )
