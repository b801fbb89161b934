"""What every peer serves: the recognizer by way of `spoter.serving.service.respond`, with one thread in each process."""

from __future__ import annotations

import gc
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from spoter.messages import RawRequest, Response
from spoter.serving.service import respond

if TYPE_CHECKING:
    from spoter.serving.recognizer import Recognizer

MODEL = "SPOTER_PEERS_MODEL"  # the model folder
RUNTIME = "SPOTER_PEERS_RUNTIME"  # what computes
WORKERS = "SPOTER_PEERS_WORKERS"  # how many processes load it
LOADED = "SPOTER_PEERS_LOADED"  # a folder in which each process that has loaded it leaves a file named by its number
PORT = "SPOTER_PEERS_PORT"  # for servers that are not told on their command line

# As handler/model-config.yaml has them for TorchServe: so many requests go through the model together, and the first of
# them waits so many seconds for the others.
BATCH, DELAY = 8, 0.001


def load() -> Recognizer:
    """Load the model that the environment names, and leave word that this process has it."""
    recognizer = load_with_one_thread(Path(os.environ[MODEL]), os.environ[RUNTIME])
    Path(os.environ[LOADED], str(os.getpid())).touch()
    return recognizer


def load_with_one_thread(folder: Path, runtime: str) -> Recognizer:
    """Load a model folder for one process of several, just as our own handler does: there is a process for each core.

    With one thread, numpy's BLAS included, and what is there by then kept from the garbage collector.
    """
    from spoter.runtime.threads import limit_threads
    from spoter.serving.recognizer import Recognizer

    limit_threads(1, runtime)
    recognizer = Recognizer.load(folder, runtime=runtime)
    gc.collect()
    gc.freeze()
    return recognizer


def incoming(body: bytes, headers: Mapping[str, str]) -> RawRequest:
    """Make a service request of a body and its headers, whose names are looked up in lower case."""
    return RawRequest(
        body, headers.get("content-type"), headers.get("accept"), headers.get("x-amzn-sagemaker-custom-attributes")
    )


def answer(recognizer: Recognizer, asked: Sequence[RawRequest]) -> list[Response]:
    """Answer requests together, one response for each."""
    return respond(recognizer, asked)[0]
