"""A TorchServe for benchmarks, and one client's requests to it next to the same requests in this process."""

import http.client
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import yaml

from benchmarks.load.bodies import compact_request, full_request
from benchmarks.models import bind_request
from benchmarks.timing import Timing, time_functions, use_one_thread
from spoter.errors import SpoterError
from spoter.ops.java import find_java
from spoter.ops.local_server import NAME
from spoter.ops.ports import LOOPBACK, free_port
from spoter.serving.recognizer import Recognizer
from spoter.torchserve.pack import build, zipped
from spoter.torchserve.server import TorchServe


@contextmanager
def running_server(
    model: Path,
    workers: int | None = 1,  # None: one for each core
    settings: Mapping[str, str] | None = None,  # environment variables to add
    runtime: str | None = None,  # in place of the one in the model's config
    archive: Mapping[str, object] | None = None,  # for model-config.yaml: {"batchSize": 8, "handler": {"threads": 2}}
    files: Mapping[str, bytes] | None = None,  # contents of files to put into the archive, by path
    wait: Callable[[TorchServe], object] = TorchServe.wait_ready,  # until the server answers
    prepare: Callable[[TorchServe], object] = lambda server: None,  # called with the archive in ``store``
) -> Iterator[TorchServe]:
    """Run TorchServe on free ports of loopback with an archive of `model`, as `make serve` would, until the block ends.

    Raises `SpoterError` where there is no Java, and `StartError` where the server did not start.
    """
    java = find_java()
    if java is None:
        raise SpoterError("found no Java to run TorchServe with; `spoter doctor` says more")
    environ = java.environment(os.environ) | dict(settings or {})
    ports = (free_port(), free_port(), free_port())
    with tempfile.TemporaryDirectory(prefix="spoter-bench-") as logs:
        server = TorchServe(LOOPBACK, ports, workers, False, Path(logs), environ)
        try:
            build(model, NAME, None, server.store, runtime)
            if archive or files:
                change_archive(server.store / f"{NAME}.mar", archive or {}, files or {})
            prepare(server)
            server.start()
            wait(server)
            yield server
        finally:
            server.stop()


def change_archive(mar: Path, config: Mapping[str, object], added: Mapping[str, bytes]) -> None:
    """Change keys of an archive's model-config.yaml, also those within a key, and put files into the archive."""
    with zipfile.ZipFile(mar) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    settings = yaml.safe_load(files["model-config.yaml"])
    for key, value in config.items():
        settings[key] = settings.get(key, {}) | value if isinstance(value, dict) else value
    mar.write_bytes(zipped(files | {"model-config.yaml": yaml.safe_dump(settings).encode(), **added}))


def time_requests(model: Path, seconds: float) -> list[Timing]:
    """Time one client's requests over a kept connection, in turn with the same requests in process."""
    use_one_thread()
    recognizer = Recognizer.load(model)
    bodies = {"full": full_request(), "compact": compact_request(recognizer.layout)}
    with running_server(model) as server:
        connection = http.client.HTTPConnection(LOOPBACK, server.ports[0], timeout=60)

        def post(body: bytes) -> None:
            connection.request("POST", f"/predictions/{NAME}", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            content = response.read()
            if response.status != 200:
                raise SpoterError(f"the server answered {response.status}: {content[:500].decode()}")

        functions: dict[str, Callable[[], object]] = {}
        for name, body in bodies.items():
            functions[f"in process, {name}"] = bind_request(recognizer, body)
            functions[f"through the server, {name}"] = partial(post, body)
        return time_functions(functions, seconds, "through the server")
