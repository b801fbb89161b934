"""The commands of `spoter` that training and judging add: a module each."""

from __future__ import annotations

import typer

from spoter.cli import augmentations
from spoter.cli import calibrate
from spoter.cli import data
from spoter.cli import enroll
from spoter.cli import evaluate
from spoter.cli import train


def add_to(app: typer.Typer) -> None:
    """Register all of them with a typer application."""
    for module in (train, evaluate, calibrate, enroll, data):
        module.add_to(app)
    augmentations.add_to(data.data_app)
