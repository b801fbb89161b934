"""Data sets of labeled clips, with a reader for each form. docs/datasets.md describes the forms."""

from spoter.training.data.labelled import DataSet, LabelledClip, Skipped, merge_presplit
from spoter.training.data.reader import read_dataset

__all__ = ["DataSet", "LabelledClip", "Skipped", "merge_presplit", "read_dataset"]
