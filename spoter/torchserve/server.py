"""TorchServe with this project's settings: config.properties, and the settings of each server."""

import os
import shutil
import sys
from pathlib import Path

from spoter.ops.local_server import ARCHIVE, NAME
from spoter.ops.ports import LOOPBACK, free_port
from spoter.resources import RESOURCES
from spoter.torchserve.process import ServerProcess

WORKER_PATH = RESOURCES / "handler" / "worker_path"
# Requests that a page of another origin may send; config.properties gives the reason.
CORS = {
    "TS_CORS_ALLOWED_METHODS": "GET, POST, OPTIONS",
    "TS_CORS_ALLOWED_HEADERS": "accept, content-type, x-amzn-sagemaker-custom-attributes",
}


class TorchServe(ServerProcess):
    """A TorchServe with this project's settings.

    Its model `store` is in its temporary folder, so that another server that packs its model at the same time does not
    change it. Put the archive spoter.mar there before `start`.

    Parameters
    ----------
    host : str
        Address for predictions. Management and metrics are on loopback.
    ports : tuple of int
        Ports for predictions, management and metrics.
    workers : int or None
        Number of workers. With None TorchServe starts one per core.
    tokens : bool
        Whether requests need a token.
    logs : pathlib.Path
        Folder for TorchServe's logs.
    environ : dict
        Environment in which TorchServe finds a Java.
    origin : str or None
        Origin whose pages may read the responses in a browser: ``https://signs.example``, or ``*`` for all.
    """

    def __init__(
        self,
        host: str,
        ports: tuple[int, int, int],
        workers: int | None,
        tokens: bool,
        logs: Path,
        environ: dict[str, str],
        origin: str | None = None,
    ):
        inference, management, metrics = (
            f"http://{address}:{port}" for address, port in zip((host, LOOPBACK, LOOPBACK), ports, strict=True)
        )
        # A server that is bound to all addresses also answers on loopback.
        url = inference.replace("//0.0.0.0:", f"//{LOOPBACK}:") + f"/predictions/{NAME}"
        super().__init__(NAME, url, management)
        self.ports, self.logs = ports, logs
        self.key_file = self.folder / "key_file.json" if tokens else None
        settings = {
            "TS_INFERENCE_ADDRESS": inference,
            "TS_MANAGEMENT_ADDRESS": management,
            "TS_METRICS_ADDRESS": metrics,
            # TorchServe always opens the gRPC ports; with free ports two servers do not collide.
            "TS_GRPC_INFERENCE_PORT": str(free_port()),
            "TS_GRPC_MANAGEMENT_PORT": str(free_port()),
            "TS_METRICS_CONFIG": str(RESOURCES / "handler" / "metrics.yaml"),
            "TS_DISABLE_TOKEN_AUTHORIZATION": str(not tokens).lower(),
            # All servers with one temporary folder would share a pid file ("already running") and sockets.
            "TEMP": str(self.folder),
            "TMPDIR": str(self.folder),
            # With the locale C or POSIX, common for services, Java cannot read a path with non-ASCII letters.
            "LC_ALL": "C.UTF-8",
            "LOG_LOCATION": str(logs),
            "METRICS_LOCATION": str(logs),
            # First on the path: worker_path/sitecustomize.py also runs the sitecustomize.py that it hides.
            "PYTHONPATH": os.pathsep.join(filter(None, [str(WORKER_PATH), environ.get("PYTHONPATH")])),
        }
        if origin is not None:
            settings |= {"TS_CORS_ALLOWED_ORIGIN": origin, **CORS}
        if workers is not None:
            settings["TS_DEFAULT_WORKERS_PER_MODEL"] = str(workers)
        command = [sys.executable, "-m", "ts.model_server", "--start", "--foreground", "--no-config-snapshots"]
        self.store = self.folder / "model_store"
        command += ["--model-store", str(self.store), "--models", f"{NAME}={ARCHIVE}"]
        command += ["--ts-config", str(RESOURCES / "config.properties")]
        # A copy in a folder with a plain name: TorchServe turns the path into a URL without quoting it.
        command += ["--log-config", str(shutil.copy(RESOURCES / "handler" / "log4j2.xml", self.folder))]
        self.command, self.environ = command, environ | settings
