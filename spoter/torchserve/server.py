"""TorchServe with this project's settings: config.properties, and what differs from one server to the next."""

import os
import shutil
import sys
from pathlib import Path

from spoter.ops.local_server import ARCHIVE, NAME
from spoter.ops.ports import LOOPBACK, free_port
from spoter.resources import RESOURCES
from spoter.torchserve.process import ServerProcess

WORKER_PATH = RESOURCES / "handler" / "worker_path"
# What a page of another origin may send: config.properties gives the reason.
CORS = {
    "TS_CORS_ALLOWED_METHODS": "GET, POST, OPTIONS",
    "TS_CORS_ALLOWED_HEADERS": "accept, content-type, x-amzn-sagemaker-custom-attributes",
}


class TorchServe(ServerProcess):
    """A TorchServe with this project's settings.

    Its model `store` lies in its temporary folder too: another server that packs another model at the same moment
    touches nothing of this one's. Put the archive spoter.mar into it before `start`.

    Parameters
    ----------
    host : str
        Address for predictions. Management and metrics stay on loopback.
    ports : tuple of int
        For predictions, management and metrics.
    workers : int or None
        None leaves it to TorchServe: one for each core.
    tokens : bool
        Whether requests need a token.
    logs : pathlib.Path
        Folder for TorchServe's logs.
    environ : dict
        Environment with a Java that TorchServe finds.
    origin : str or None
        Whose pages a browser lets read the responses: an origin such as ``https://signs.example``, or ``*`` for all.
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
        # A server bound to all addresses is reached at any of them.
        url = inference.replace("//0.0.0.0:", f"//{LOOPBACK}:") + f"/predictions/{NAME}"
        super().__init__(NAME, url, management)
        self.ports, self.logs = ports, logs
        self.key_file = self.folder / "key_file.json" if tokens else None
        settings = {
            "TS_INFERENCE_ADDRESS": inference,
            "TS_MANAGEMENT_ADDRESS": management,
            "TS_METRICS_ADDRESS": metrics,
            # TorchServe insists on gRPC; any free port keeps two servers apart.
            "TS_GRPC_INFERENCE_PORT": str(free_port()),
            "TS_GRPC_MANAGEMENT_PORT": str(free_port()),
            "TS_METRICS_CONFIG": str(RESOURCES / "handler" / "metrics.yaml"),
            "TS_DISABLE_TOKEN_AUTHORIZATION": str(not tokens).lower(),
            # One pid file, "already running", and the same sockets for all servers of a temporary folder.
            "TEMP": str(self.folder),
            "TMPDIR": str(self.folder),
            # Under C or POSIX, as services often have it, Java cannot read a path with letters beyond ASCII.
            "LC_ALL": "C.UTF-8",
            "LOG_LOCATION": str(logs),
            "METRICS_LOCATION": str(logs),
            # Before what is there: worker_path/sitecustomize.py runs what it hides.
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
        # A copy: TorchServe makes a URL of the path, in which it does not quote what a checkout's path may hold.
        command += ["--log-config", str(shutil.copy(RESOURCES / "handler" / "log4j2.xml", self.folder))]
        self.command, self.environ = command, environ | settings
