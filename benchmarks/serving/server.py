"""A TorchServe for benchmarks, and one client's requests to it compared with the same requests in this process."""

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
    workers: int | None = 1,  # None: one per core
    settings: Mapping[str, str] | None = None,  # additional environment variables
    runtime: str | None = None,  # replaces the one in the model's config
    archive: Mapping[str, object] | None = None,  # for model-config.yaml: {"batchSize": 8, "handler": {"threads": 2}}
    files: Mapping[str, bytes] | None = None,  # contents of additional files in the archive, by path
    wait: Callable[[TorchServe], object] = TorchServe.wait_ready,  # returns when the server answers
    prepare: Callable[[TorchServe], object] = lambda server: None,  # called before the start; ``store`` has the archive
) -> Iterator[TorchServe]:
    """Run TorchServe on free loopback ports with an archive of `model`, like `make serve`, until the block ends.

    Raises `SpoterError` if there is no Java, and `StartError` if the server does not start.
    """
    java = find_java()
    if java is None:
        raise SpoterError("found no Java, which TorchServe needs; run `spoter doctor` for details")
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
    """Change keys of an archive's model-config.yaml, merge nested keys, and add files to the archive."""
    with zipfile.ZipFile(mar) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    settings = yaml.safe_load(files["model-config.yaml"])
    for key, value in config.items():
        settings[key] = settings.get(key, {}) | value if isinstance(value, dict) else value
    mar.write_bytes(zipped(files | {"model-config.yaml": yaml.safe_dump(settings).encode(), **added}))


def time_requests(model: Path, seconds: float) -> list[Timing]:
    """Time one client's requests over one connection, alternating with the same requests in this process."""
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
                raise SpoterError(f"found status {response.status}, expected 200: {content[:500].decode()}")

        functions: dict[str, Callable[[], object]] = {}
        for name, body in bodies.items():
            functions[f"in process, {name}"] = bind_request(recognizer, body)
            functions[f"through the server, {name}"] = partial(post, body)
        return time_functions(functions, seconds, "through the server")
