"""The recognizer that every peer serves, with one thread in each process."""

import gc
import os
from collections.abc import Mapping
from pathlib import Path

from spoter.messages import RawRequest
from spoter.runtime.device import limit_threads
from spoter.serving.recognizer import Recognizer

# Environment variables of a peer.
MODEL = "SPOTER_PEERS_MODEL"  # model folder
RUNTIME = "SPOTER_PEERS_RUNTIME"
WORKERS = "SPOTER_PEERS_WORKERS"  # number of processes that load the model
LOADED = "SPOTER_PEERS_LOADED"  # folder in which each process that has loaded it leaves a file named by its number
PORT = "SPOTER_PEERS_PORT"  # of servers that have no option for it

PATH = "/predict"
# As in handler/model-config.yaml: the most requests of a batch, and the seconds that the first of them waits.
BATCH, DELAY = 8, 0.001


def load_from_environment() -> Recognizer:
    """Load the model that the environment names, and mark this process as one that holds it."""
    recognizer = load_with_one_thread(Path(os.environ[MODEL]), os.environ[RUNTIME])
    Path(os.environ[LOADED], str(os.getpid())).touch()
    return recognizer


def load_with_one_thread(folder: Path, runtime: str) -> Recognizer:
    """Load a model folder as our own handler does, for one process of several: one thread, and no garbage to search."""
    limit_threads(1, runtime)
    recognizer = Recognizer.load(folder, runtime=runtime)
    gc.collect()
    gc.freeze()
    return recognizer


def make_request(body: bytes, headers: Mapping[str, str]) -> RawRequest:
    """Make a service request of a body and its headers, whose names are looked up in lower case."""
    names = ("content-type", "accept", "x-amzn-sagemaker-custom-attributes")
    return RawRequest(body, *map(headers.get, names))
