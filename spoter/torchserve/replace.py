"""Replacement of the model of a running TorchServe without losing a request, for `spoter replace`."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from spoter.errors import SpoterError, one_line
from spoter.files import atomic_write_bytes, exclusive_lock
from spoter.model.config import CONFIG, RUNTIMES, read_config
from spoter.ops.local_server import (
    ARCHIVE,
    NAME,
    ask_each_port,
    key_file,
    model_store,
    open_connections,
    torchserve_on,
)
from spoter.ops.readiness import LOGS, Reply, key, prediction, refused_token, send
from spoter.ops.tokens import rotate
from spoter.torchserve.pack import archive_files, zipped

if TYPE_CHECKING:
    import psutil

# Seconds. Workers have 120 s to start (startupTimeout), and TorchServe tries more than once.
REGISTER_TIMEOUT = 300.0
SAMPLE_TIMEOUT = 30.0
PROGRESS = 10.0  # seconds between two progress lines
MODEL_API = "TS_ENABLE_MODEL_API=true"


class ReplaceError(SpoterError):
    """The new version does not start or does not answer, or the server refuses a request."""

    exit_code = 1


class _Server:
    """A TorchServe on this machine, found by the root of its management API."""

    def __init__(self, management: str):
        self.management = management.rstrip("/")
        self.process = _process(self.management)  # the front end
        self.store, self._keys = model_store(self.process), key_file(self.process)

    def send(self, method: str, path: str, timeout: float = SAMPLE_TIMEOUT) -> Reply:
        """Send a request to the management API, with a new token if the old one has expired."""
        url = self.management + path
        reply = send(url, key(self._keys, "management"), timeout=timeout, method=method)
        if refused_token(reply):
            reply = send(url, rotate(self.management, self._keys, "management"), timeout=timeout, method=method)
        return reply

    def manage(self, method: str, path: str, timeout: float = SAMPLE_TIMEOUT) -> Any:
        """Send a request to the management API; return the JSON document in its response.

        Raises `ReplaceError` if the status is not 200, or the response is not JSON.
        """
        reply = self.send(method, path, timeout)
        try:
            document = json.loads(reply.body)
        except ValueError:
            document = None
        if reply.status != 200 or document is None:
            reason = reply.document.get("message", one_line(reply.body))
            status = "no answer" if reply.status is None else f"status {reply.status}"
            raise ReplaceError(f"{method} {self.management}{path}: expected status 200, got {status}: {reason}")
        return document

    def versions(self) -> dict[str, dict[str, Any]]:
        """Return the registered versions of the model, each with its description."""
        return {each["modelVersion"]: each for each in self.manage("GET", f"/models/{NAME}/all")}

    def default(self) -> str:
        """Return the version that answers requests without a version."""
        version: str = self.manage("GET", f"/models/{NAME}")[0]["modelVersion"]
        return version

    def inference(self) -> tuple[str, str | None]:
        """Return the root of the inference API and its token; only the port of this API answers /ping."""
        for renewed in (False, True):
            token = rotate(self.management, self._keys) if renewed else key(self._keys, "inference")
            for root, reply in ask_each_port(self.process, "/ping", token):
                if reply.status == 200 and "status" in reply.document:
                    return root, token
            if token is None:
                break
        raise ReplaceError(f"process {self.process.pid}: found no port that answers /ping with status 200")


def _process(management: str) -> psutil.Process:
    import psutil

    parts = urlsplit(management)
    try:
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError
        address, port = socket.gethostbyname(parts.hostname), parts.port or 80
    except (OSError, ValueError):
        raise SpoterError(f"found {management!r}, expected a URL such as http://127.0.0.1:8081") from None
    local = {each.address for addresses in psutil.net_if_addrs().values() for each in addresses}
    process = torchserve_on(port, address) if address in local or address.startswith("127.") else None
    if process is None:
        raise SpoterError(
            f"{management}: found no TorchServe on this machine that listens there and that this user may inspect; run "
            "the command on the machine of the server, as the user of the server"
        )
    return process


def replace(model: Path, management: str, runtime: str | None = None, say: Callable[[str], None] = print) -> None:
    """Replace the served version of the model by the one in a model folder.

    If anything fails before the new version is the default, the new version is removed, and the old one keeps serving.

    Parameters
    ----------
    model : Path
        Model folder. The ``version`` in its config.json must differ from the served version.
    management : str
        Root of the management API of a TorchServe on this machine.
    runtime : str, optional
        Runtime of the archive; by default the one in config.json.
    say : callable
        Called with each line of progress.

    Raises
    ------
    SpoterError
        If something must be corrected first. The server is unchanged.
    ReplaceError
        If the new version does not start or does not answer, or if the old version cannot be removed.
    """
    try:
        import psutil
    except ImportError as error:
        raise SpoterError(f"replacing a served model needs {error.name}: run pip install 'spoter[serve]'") from None
    if runtime not in (None, *RUNTIMES):
        raise SpoterError(f"found runtime {runtime!r}, expected one of {', '.join(RUNTIMES)}")
    try:
        _replace_on(_Server(management), model, runtime, say)
    except psutil.Error as error:
        raise ReplaceError(f"{management}: cannot inspect the server's process any more: {error}") from None
    say(f"`spoter serve` packs its model folder at each start: restart it with SPOTER_MODEL={model}")


def _replace_on(server: _Server, model: Path, runtime: str | None, say: Callable[[str], None]) -> None:
    with exclusive_lock(server.store):
        old, new = _check(server, model)
        say(f"packing {model}, version {new}")
        packed = zipped(archive_files(model, NAME, runtime=runtime))
        archive = server.store / f"{NAME}-{new}-{secrets.token_hex(4)}.mar"
        with _removed_on_failure(server, new, archive, say):
            atomic_write_bytes(archive, packed)
            _register(server, archive, old, new, say)
            root, token = server.inference()
            check, _ = prediction(f"{root}/predictions/{NAME}/{new}", token, SAMPLE_TIMEOUT)
            if not check.ok:
                raise ReplaceError(f"version {new} does not answer a sample: {check.found}; {LOGS}")
            say(f"version {new}: a sample was {check.found}")
            server.manage("PUT", f"/models/{NAME}/{new}/set-default")
        say(f"version {new} is the default")
        os.replace(archive, server.store / ARCHIVE)
        _drain(server, old, say)
        _remove(server, old["modelVersion"])
        say(f"version {old['modelVersion']} is removed; {server.store / ARCHIVE} holds version {new}")


def _check(server: _Server, model: Path) -> tuple[dict[str, Any], str]:
    """Check that the served version can be replaced; return its description, and the new version."""
    new = read_config(model).version
    if server.send("GET", f"/models/{NAME}").status in (404, 405):
        raise SpoterError(
            f"{server.management}: found no model named {NAME}, expected the management API of its server, by default "
            "on port 8081"
        )
    if server.send("POST", "/models").status == 405:
        raise SpoterError(
            f"{server.management}: the model API is off, so no version can be registered; restart the server with "
            f"{MODEL_API} in its environment"
        )
    versions, default = server.versions(), server.default()
    if new == default:
        raise SpoterError(
            f"{model / CONFIG}, version: found {new!r}, which the server serves already; expected another version"
        )
    if new in versions:
        raise SpoterError(
            f"{model / CONFIG}, version: found {new!r}, which is registered but not the default, perhaps after an "
            f"interrupted replacement; remove it first: curl -X DELETE {server.management}/models/{NAME}/{new}"
        )
    if shutil.which("kill", path=server.process.environ().get("PATH")) is None:
        raise SpoterError(
            "found no program `kill`, which TorchServe needs to end the workers of the old version; install it, on "
            "Debian with: apt install procps"
        )
    if not os.access(server.store, os.W_OK | os.X_OK):
        raise SpoterError(f"{server.store}: cannot write to the server's model store; run the command as its owner")
    return versions[default], new


@contextmanager
def _removed_on_failure(server: _Server, new: str, archive: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Remove the new version and its archive if the block fails, so that the old version serves as before."""
    try:
        yield
    except BaseException:
        archive.unlink(missing_ok=True)
        removed = server.send("DELETE", f"/models/{NAME}/{new}")  # 404 if TorchServe has removed it itself
        if removed.status in (200, 404):
            say(f"version {new} is removed again; the old version keeps serving")
        else:
            say(f"version {new} may still be registered: GET {server.management}/models/{NAME}/all lists all versions")
        raise


def _register(server: _Server, archive: Path, old: dict[str, Any], new: str, say: Callable[[str], None]) -> None:
    """Register the new version with as many workers as the old one has, and wait until all of them are ready."""
    workers = max(1, old["minWorkers"])
    query = urlencode(
        {"url": archive.name, "model_name": NAME, "initial_workers": workers, "synchronous": "true"}
    )  # TorchServe looks for a file name without a path in its model store
    say(f"version {new}: starting {workers} worker{'s' if workers > 1 else ''}")
    began = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        registered: Future[object] = pool.submit(server.manage, "POST", f"/models?{query}", REGISTER_TIMEOUT)
        while wait_for([registered], PROGRESS).not_done:
            say(f"version {new}: still starting after {time.monotonic() - began:.0f} s")
    try:
        registered.result()
    except ReplaceError as error:
        raise ReplaceError(f"version {new} does not start: {error}; {LOGS}") from None


def _drain(server: _Server, old: dict[str, Any], say: Callable[[str], None]) -> None:
    """Wait until the old version has answered its requests.

    Each request holds one of the connections that are open now. A client may keep a connection alive without a request,
    but a batch takes at most ``responseTimeout``: after this time with an empty queue, all requests are answered.
    """
    longest = old["responseTimeout"]
    say(f"waiting for the last requests of version {old['modelVersion']}: at most {longest} s after its queue is empty")
    connections, emptied = open_connections(server.process), None
    while connections := connections & open_connections(server.process):
        state = server.manage("GET", f"/models/{NAME}/{old['modelVersion']}")[0]
        if state["jobQueueStatus"]["pendingRequests"]:
            emptied = None
        elif emptied is None:
            emptied = time.monotonic()
        elif time.monotonic() - emptied > longest:
            break
        time.sleep(0.2)


def _remove(server: _Server, old: str) -> None:
    """Remove the old version, unless it is the default again and may be the only version that serves."""
    if server.default() == old:
        raise ReplaceError(f"version {old} is not removed, because another user made it the default again")
    server.manage("DELETE", f"/models/{NAME}/{old}")
