"""What an unfinished run keeps in its model folder, so that a killed one can go on: OUT/.training.

It holds run.json (what is trained on what), a state for each model that is trained (``model.pt``, ``fold-1.pt``, …: all
that the next epoch depends on, written after each), metrics.jsonl and curves.png. Once all is done it is removed.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch

from spoter.errors import DataError
from spoter.files import atomic_write, atomic_write_bytes, fsync_folder

FOLDER = ".training"
_DONE = ".training-done"
_RUN = "run.json"


def is_unfinished(out: Path) -> bool:
    """Tell whether a model folder holds an unfinished run that has something to go on with."""
    return any((Path(out) / FOLDER).glob("*.pt"))


class UnfinishedRun:
    """The folder OUT/.training of a run that is not finished yet.

    Parameters
    ----------
    out : Path
        Model folder that is to be written; it exists.
    identity : mapping of str to str
        What a run must have in common with the one it goes on with: settings, data, version, each as text.
    """

    def __init__(self, out: Path, identity: Mapping[str, str]):
        self.out = Path(out)
        self.folder = self.out / FOLDER
        self.identity = dict(identity)

    def open(self, resume: bool = False, fresh: bool = False) -> bool:
        """Start, or go on with what is there; tell whether there is something to go on with.

        Raises
        ------
        DataError
            Where there is an unfinished run and neither to `resume` it nor to start `fresh` was asked for, and where it
            was told something else than this one, naming what.
        """
        self._sweep(self.out / _DONE)
        if fresh:
            self._sweep(self.folder)
        found = is_unfinished(self.out)
        if found and not resume:
            raise DataError(f"{self.folder}: found an unfinished run: --resume goes on with it, --fresh throws it away")
        if found:
            self._compare()
        self.folder.mkdir(exist_ok=True)
        for left_over in self.folder.glob(".*"):  # of a write that was killed
            left_over.unlink()
        if not found:
            atomic_write_bytes(self.folder / _RUN, json.dumps(self.identity, indent=2).encode() + b"\n")
        return found

    def load(self, name: str) -> dict | None:
        """Return the last state saved under `name`, on the CPU, or None where there is none yet."""
        path = self.folder / f"{name}.pt"
        if not path.exists():
            return None
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # whatever torch makes of a file that is not its own
            raise DataError(f"{path}: cannot be read ({type(error).__name__}); --fresh starts anew") from error

    def save(self, name: str, state: dict) -> None:
        """Keep `state`, tensors and plain values, in the place of what was saved under `name` before."""
        with atomic_write(self.folder / f"{name}.pt") as temporary, temporary.open("wb") as stream:
            torch.save(state, stream)  # from a path, torch takes a name for its archive, and refuses some

    def finish(self) -> None:
        """Remove the folder."""
        # Renamed first: killed half-way through removing it, a finished run shall not look like an unfinished one.
        self.folder.rename(self.out / _DONE)
        fsync_folder(self.out)
        self._sweep(self.out / _DONE)

    def _compare(self) -> None:
        try:
            then = json.loads((self.folder / _RUN).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"{self.folder / _RUN}: cannot be read ({error}); --fresh starts anew") from error
        names = [name for name in self.identity if then.get(name) != self.identity[name]]
        if names:
            changes = ", ".join(f"{name} was {then.get(name, 'not said')}, is {self.identity[name]}" for name in names)
            raise DataError(
                f"{self.folder}: the unfinished run is another one: {changes}; give the same again, or --fresh"
            )

    @staticmethod
    def _sweep(folder: Path) -> None:
        if folder.exists():
            shutil.rmtree(folder)
