"""Data sets: a reader for each form, all to labelled clips. docs/datasets.md shows the forms."""

from __future__ import annotations

from spoter.training.data.labelled import DataSet, LabelledClip, Skipped, merge_presplit
from spoter.training.data.reader import read_dataset

__all__ = ["DataSet", "LabelledClip", "Skipped", "merge_presplit", "read_dataset"]
