"""The whole request through a real TorchServe on loopback, beside the same request in this process."""

from __future__ import annotations

import http.client
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmarks.load.bodies import compact_request, full_request
from benchmarks.timing import Timing, in_turn, one_thread
from spoter.messages import RawRequest
from spoter.ops.doctor import find_java
from spoter.serving.recognizer import Recognizer
from spoter.serving.service import respond
from spoter.torchserve.pack import build, zipped
from spoter.torchserve.server import LOOPBACK, NAME, Server, free_port

PATH = f"/predictions/{NAME}"
HEADERS = {"Content-Type": "application/json"}


@contextmanager
def running_server(
    model: Path,
    workers: int | None = 1,
    settings: Mapping[str, str] | None = None,
    runtime: str | None = None,
    archive: Mapping[str, object] | None = None,
    tokens: bool = False,
    files: Mapping[str, bytes] | None = None,
    wait: Callable[[Server], object] = Server.wait_ready,
) -> Iterator[Server]:
    """Run TorchServe on free ports of loopback, as `make serve` would, until the block ends.

    Parameters
    ----------
    model : Path
        Model folder; it is packed anew.
    workers : int or None
        None takes one for each core.
    settings : mapping of str to str, optional
        Variables on top of the environment: ``{"TS_JOB_QUEUE_SIZE": "20"}``.
    runtime : str, optional
        What computes, in place of what the model's config says; the folder has its file.
    archive : mapping, optional
        Keys of model-config.yaml in place of the archive's own: ``{"batchSize": 8, "handler": {"threads": 2}}``.
    tokens : bool
        Whether requests need a token.
    files : mapping, optional
        Contents put into the archive by their paths there, in place of its own where it has such.
    wait : callable
        Waits until it answers; another one for an archive whose handler is not ours.

    Yields
    ------
    Server
        Ready, with its ``url``, the ``ports`` of predictions, management and metrics, its ``logs``, and the ``leader``
        of its session.

    Raises
    ------
    SystemExit
        With one line, where there is no Java.
    spoter.torchserve.server.StartError
        Where it did not come up.
    """
    java = find_java()
    if java is None:
        raise SystemExit("found no Java to run TorchServe with: spoter doctor tells more")
    environ = java.environment(os.environ) | dict(settings or {})
    ports = (free_port(), free_port(), free_port())
    with tempfile.TemporaryDirectory(prefix="spoter-bench-") as logs:
        server = Server(LOOPBACK, ports, workers, tokens, Path(logs), environ)
        try:
            build(model, NAME, None, server.store, runtime)
            if archive or files:
                change_archive(server.store / f"{NAME}.mar", archive or {}, files or {})
            server.start()
            wait(server)
            yield server
        finally:
            server.stop()


def change_archive(mar: Path, config: Mapping[str, object], added: Mapping[str, bytes]) -> None:
    """Change keys of an archive's model-config.yaml, also those within a key, and put files into it."""
    import yaml

    with zipfile.ZipFile(mar) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    told = yaml.safe_load(files["model-config.yaml"])
    for key, value in config.items():
        told[key] = told.get(key, {}) | value if isinstance(value, dict) else value
    mar.write_bytes(zipped(files | {"model-config.yaml": yaml.safe_dump(told).encode(), **added}))


def measure(model: Path, seconds: float) -> list[Timing]:
    """Time one client's requests over a kept connection, in turn with the same work in process."""
    one_thread()
    recognizer = Recognizer.load(model)
    bodies = {"full": full_request(), "compact": compact_request(recognizer.layout)}
    with running_server(model) as server:
        connection = http.client.HTTPConnection(LOOPBACK, server.ports[0], timeout=60)

        def post(body: bytes) -> Callable[[], object]:
            def run() -> bytes:
                connection.request("POST", PATH, body, HEADERS)
                response = connection.getresponse()
                content = response.read()
                if response.status != 200:
                    raise SystemExit(f"the server answered {response.status}: {content[:500].decode()}")
                return content

            return run

        def alone(body: bytes) -> Callable[[], object]:
            return lambda: respond(recognizer, [RawRequest(body, "application/json")])

        things = {}
        for name, body in bodies.items():
            things[f"in process, {name}"] = alone(body)
            things[f"through the server, {name}"] = post(body)
        return in_turn(things, seconds, "through the server")
