"""Choices for options of `spoter deploy`, in a module that imports nothing slow."""

from enum import StrEnum


class Mode(StrEnum):
    """How SageMaker runs the model: as one of three kinds of endpoint, or as a batch transform job."""

    realtime = "realtime"
    serverless = "serverless"
    asynchronous = "async"
    batch = "batch"


class EntryPoint(StrEnum):
    """Which of the archive's two entry points SageMaker's container code calls."""

    handler = "handler"  # spoter_handler.py, which MAR-INF/MANIFEST.json names: the unchanged archive
    functions = "functions"  # code/inference.py: without MAR-INF/
