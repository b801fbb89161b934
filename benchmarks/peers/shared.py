"""The recognizer of every peer, with one thread per process."""

import gc
import os
from collections.abc import Mapping
from pathlib import Path

from spoter.messages import RawRequest
from spoter.runtime.device import limit_threads
from spoter.serving.recognizer import Recognizer

# Environment variables of peers.
MODEL = "SPOTER_PEERS_MODEL"  # model folder
RUNTIME = "SPOTER_PEERS_RUNTIME"
WORKERS = "SPOTER_PEERS_WORKERS"  # number of processes that load the model
LOADED = "SPOTER_PEERS_LOADED"  # folder where each process with a loaded model creates a file named by its process ID
PORT = "SPOTER_PEERS_PORT"  # for servers without an option for the port

PATH = "/predict"
# As in handler/model-config.yaml: maximum requests per batch, and seconds that a batch waits to fill.
BATCH, DELAY = 8, 0.001


def load_from_environment() -> Recognizer:
    """Load the model named by the environment variables, and report that this process has loaded it."""
    recognizer = load_with_one_thread(Path(os.environ[MODEL]), os.environ[RUNTIME])
    Path(os.environ[LOADED], str(os.getpid())).touch()
    return recognizer


def load_with_one_thread(folder: Path, runtime: str) -> Recognizer:
    """Load a model folder as our handler does: one thread, and loaded objects hidden from the garbage collector."""
    limit_threads(1, runtime)
    recognizer = Recognizer.load(folder, runtime=runtime)
    gc.collect()
    gc.freeze()
    return recognizer


def make_request(body: bytes, headers: Mapping[str, str]) -> RawRequest:
    """Return a service request from a body and headers, which are looked up by their lower-case names."""
    names = ("content-type", "accept", "x-amzn-sagemaker-custom-attributes")
    return RawRequest(body, *map(headers.get, names))
