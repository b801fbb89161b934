"""Choices of the options of `spoter deploy`, apart from what takes long to import."""

from __future__ import annotations

from enum import StrEnum


class Mode(StrEnum):
    """How SageMaker runs the model: endpoints of three kinds, or a batch transform job."""

    realtime = "realtime"
    serverless = "serverless"
    asynchronous = "async"
    batch = "batch"


class EntryPoint(StrEnum):
    """Which of the archive's two entry points SageMaker's container code uses."""

    handler = "handler"  # MAR-INF/MANIFEST.json, and with it spoter_handler.py: the archive as it is
    functions = "functions"  # code/inference.py, where MAR-INF is not there
