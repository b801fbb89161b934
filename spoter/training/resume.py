"""The state of an unfinished training run in OUT/.training, from which an interrupted run resumes.

The folder holds run.json (the settings and the data), metrics.jsonl, curves.png and the state of each model
(``model.pt``, ``fold-1.pt``, …). A state is written after each epoch and holds everything that the next epoch depends
on. A finished run removes the folder.
"""

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
    """Return whether a model folder holds an unfinished run that can be resumed."""
    return any((out / FOLDER).glob("*.pt"))


class UnfinishedRun:
    """The folder .training in the existing model folder `out`.

    `identity` holds settings, data and version as text. A run resumes only if all of them are unchanged.
    """

    def __init__(self, out: Path, identity: Mapping[str, str]) -> None:
        self.out, self.folder, self.identity = out, out / FOLDER, dict(identity)

    def open(self, resume: bool = False, fresh: bool = False) -> None:
        """Start a run, or resume the unfinished run in the folder; `fresh` deletes it first.

        Raises `DataError` for an unfinished run without `resume` or `fresh`, and for one with another identity, naming
        the difference.
        """
        for folder in (self.out / _FINISHED, self.folder) if fresh else (self.out / _FINISHED,):
            if folder.exists():
                shutil.rmtree(folder)
        if unfinished := is_unfinished(self.out):
            if not resume:
                raise DataError(f"{self.folder}: found an unfinished run; --resume resumes it, --fresh deletes it")
            self._check_identity()
        self.folder.mkdir(exist_ok=True)
        for temporary in self.folder.glob(".*"):  # left by an interrupted write
            temporary.unlink()
        if not unfinished:
            atomic_write_bytes(self.folder / _RUN, json.dumps(self.identity, indent=2).encode() + b"\n")

    def load_state(self, name: str) -> dict[str, Any] | None:
        """Return the last state saved under `name`, on the CPU; None if there is none. Raise `DataError` for damage."""
        path = self.folder / f"{name}.pt"
        if not path.exists():
            return None
        try:
            return dict(torch.load(path, map_location="cpu", weights_only=True))
        except Exception as error:  # torch raises many types of errors for a damaged file
            raise DataError(f"{path}: cannot be read ({type(error).__name__}); start again with --fresh") from error

    def save_state(self, name: str, state: Mapping[str, Any]) -> None:
        """Save `state`, tensors and plain values, and replace the earlier state of that `name`."""
        with atomic_write(self.folder / f"{name}.pt") as temporary, temporary.open("wb") as stream:
            torch.save(dict(state), stream)  # with a path, torch uses its name in the file, and refuses some names

    def finish(self) -> None:
        """Remove the folder."""
        # Renamed first: a finished run that is killed during the removal must not look unfinished.
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
                f"{self.folder}: the unfinished run has other settings: {', '.join(changes)}; repeat its settings, or "
                "start again with --fresh"
            )
