"""A TorchServe process and all that it starts: bring it up until it really answers, or say why not, and end it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from pathlib import Path

import psutil

from spoter.errors import SpoterError
from spoter.ops import readiness
from spoter.resources import RESOURCES
from spoter.ops.local_server import NAME

WORKER_PATH = RESOURCES / "handler" / "worker_path"
LOOPBACK = "127.0.0.1"
SAMPLES = {".json": "application/json", ".csv": "text/csv"}
ANSWER_TIMEOUT = 30.0  # seconds
START_TIMEOUT = 180.0  # seconds; workers have 120 (model-config.yaml) and Java some before them
GRACE = 10.0  # seconds between asking processes to end and killing them
# TorchServe says one of these when a worker ends by itself or never gets its model; it would retry for minutes.
FAILURE = re.compile(r"Retry worker|Load model failed|Failed to load model")
# And this when it has read all that a worker wrote, unless its logging keeps that to itself, as log4j2.xml does.
SPOKEN = re.compile(r"Stopped Scanner - \S+-stdout")
LAST_WORDS = 3.0  # seconds that it is waited for: not every failure is a worker's
# What a page of another origin may send: config.properties says why.
CORS_METHODS = "GET, POST, OPTIONS"
CORS_HEADERS = "accept, content-type, x-amzn-sagemaker-custom-attributes"
LOG_LINE = re.compile(r"^\S+ \[(?P<level>\w+) *\] (?P<thread>\S+) (?P<logger>\S+) - (?P<text>.*)$")


class StartError(Exception):
    """The server did not come up; the text says why."""


class Process:
    """A process that starts TorchServe, and everything it starts, in a session and a temporary folder of their own.

    Parameters
    ----------
    model : str
        The model's name, as the management API knows it.
    url, management : str
        Where requests for predictions go, and the root of the management API.
    """

    #: Seconds that `stop` waits for what is being answered.
    grace = GRACE

    def __init__(self, model: str, url: str, management: str):
        self.model, self.url, self.management = model, url, management
        self._folder = tempfile.TemporaryDirectory(prefix="spoter-")  # a short path: TorchServe's sockets lie in it
        self.key_file: Path | None = None  # of the tokens, where requests need one
        self._command: list[str] = []
        self._environ: dict[str, str] = {}
        self._process: subprocess.Popen | None = None
        self._failed = threading.Event()
        self._spoken = threading.Event()
        self._said: deque[str] = deque(maxlen=500)

    @property
    def leader(self) -> subprocess.Popen:
        """The process that `start` started: leader of the session in which all of the server's processes are."""
        return self._process

    def start(self) -> None:
        """Start it, also again after it ended; `stop` ends it, whatever happens after this."""
        self._failed.clear()
        self._spoken.clear()
        self._said.clear()
        self._process = subprocess.Popen(
            self._command,
            cwd=self._folder.name,  # TorchServe writes key_file.json where it is started
            env=self._environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # so that a Ctrl-C reaches this process alone, and `stop` all of theirs
        )
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        """Read what TorchServe says, so that it never waits for a reader; logs/ holds it in full."""
        for line in self._process.stdout:
            self._said.append(line.rstrip())
            if FAILURE.search(line):
                self._failed.set()
            if SPOKEN.search(line):
                self._spoken.set()

    def wait_ready(self) -> tuple[Path, str]:
        """Wait for a READY worker and a real answer; return the sample that was sent and what came back.

        Raises
        ------
        StartError
            With the reason, as far as TorchServe's own words tell it.
        """
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise StartError(f"TorchServe ended with status {self._process.returncode}:\n{self._cause()}")
            if self._failed.is_set():
                self._spoken.wait(LAST_WORDS)  # its traceback may come after TorchServe's word that it died
                raise StartError(f"the worker did not start:\n{self._cause()}")
            told = readiness.send(f"{self.management}/models/{self.model}", self._key("management"))
            if "READY" in (readiness.worker_states(told) or ()):
                return self._first_prediction()
            time.sleep(0.1)
        raise StartError(f"no worker was ready after {START_TIMEOUT:g} seconds:\n{self._cause()}")

    def _first_prediction(self) -> tuple[Path, str]:
        """Have a clip made for the model answered; then, to be shown, a sample, as far as one is the model's.

        A model for other landmarks than theirs refuses all, in so many words.
        """
        check, _ = readiness.prediction(self.url, self._key("inference"), timeout=ANSWER_TIMEOUT)
        if not check.ok:
            raise StartError(f"no prediction was answered: {check.found}\n{self._cause()}")
        files = [path for path in (RESOURCES / "samples").iterdir() if path.suffix in SAMPLES]
        if not files:
            raise StartError(f"found no request in {RESOURCES / 'samples'} to try the server with")
        for sample in sorted(files, key=lambda path: (path.suffix != ".json", path)):
            kind, token = SAMPLES[sample.suffix], self._key("inference")
            answer = readiness.send(self.url, token, sample.read_bytes(), kind, ANSWER_TIMEOUT)
            if answer.status == 200:
                break
            if answer.status is None or answer.status >= 500:
                said = f"{sample.name} was answered with status {answer.status}: {answer.body}"
                raise StartError(f"{said}\n{self._cause()}")
        return sample, answer.body

    def manage(self, method: str, path: str) -> object:
        """Ask the management API, which may start workers meanwhile, and return the document that it answers.

        Raises
        ------
        SpoterError
            Where it answers another status than 200, or nothing.
        """
        key = self._key("management")
        told = readiness.send(self.management + path, key, timeout=START_TIMEOUT, method=method)
        if told.status != 200:
            found = ": " if told.status is None else f" was answered {told.status}: "
            raise SpoterError(f"{method} {path}{found}{told.body.strip()[:300]}")
        return json.loads(told.body)

    def _key(self, kind: str) -> str | None:
        """Return a key of TorchServe's; none while the file is absent or half written, as at the start."""
        return None if self.key_file is None else readiness.key(self.key_file, kind)

    def _cause(self) -> str:
        """Pick from TorchServe's words what tells a cause: one worker's own, warnings and errors, no Java stack."""
        chosen, worker = [], None
        for line in self._said:
            match = LOG_LINE.match(line)
            if match is None:
                chosen += [line] if line.strip() and not line.startswith("\tat ") else []
            elif match["logger"] == "MODEL_LOG":
                worker = worker or match["thread"].rsplit("-", 1)[0]  # W-9000-spoter_1.0-stdout or -stderr
                chosen += [match["text"]] if match["thread"].startswith(worker) else []
            elif match["level"] in ("WARN", "ERROR"):
                chosen.append(match["text"])
        return "\n".join(f"  {line}" for line in chosen[-25:]) or "  it said nothing"

    def wait(self) -> int:
        """Wait until TorchServe ends, and return its exit status."""
        return self._process.wait()

    def stop(self) -> None:
        """End every process of the server and remove its temporary folder."""
        if self._process is not None:
            end_session(self._process, self.grace)
        self._folder.cleanup()


class Server(Process):
    """A TorchServe with this project's settings.

    Its model store lies in its temporary folder too: another server that packs another model at the same moment
    touches nothing of this one's. Put the archive into `store` before `start`.

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
        Whose pages a browser lets read the answers: an origin such as ``https://signs.example``, or ``*`` for all.

    Attributes
    ----------
    ports, logs
        As given.
    store : pathlib.Path
        Where the archive spoter.mar is looked for.
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
        self.key_file = Path(self._folder.name, "key_file.json") if tokens else None
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
            "TEMP": self._folder.name,
            "TMPDIR": self._folder.name,
            # Under C or POSIX, as services often have it, Java cannot read a path with letters beyond ASCII.
            "LC_ALL": "C.UTF-8",
            "LOG_LOCATION": str(logs),
            "METRICS_LOCATION": str(logs),
        }
        # Before what is there: worker_path/sitecustomize.py runs what it hides.
        settings["PYTHONPATH"] = os.pathsep.join(filter(None, [str(WORKER_PATH), environ.get("PYTHONPATH")]))
        if origin is not None:
            settings["TS_CORS_ALLOWED_ORIGIN"] = origin
            settings |= {"TS_CORS_ALLOWED_METHODS": CORS_METHODS, "TS_CORS_ALLOWED_HEADERS": CORS_HEADERS}
        if workers is not None:
            settings["TS_DEFAULT_WORKERS_PER_MODEL"] = str(workers)
        command = [sys.executable, "-m", "ts.model_server", "--start", "--foreground", "--no-config-snapshots"]
        self.store = Path(self._folder.name, "model_store")
        command += ["--model-store", str(self.store), "--models", f"{NAME}={NAME}.mar"]
        command += ["--ts-config", str(RESOURCES / "config.properties")]
        # A copy: TorchServe makes a URL of the path, in which it does not quote what a checkout's path may hold.
        command += ["--log-config", shutil.copy(RESOURCES / "handler" / "log4j2.xml", self._folder.name)]
        self._command, self._environ = command, environ | settings


def end_session(leader: subprocess.Popen, grace: float = GRACE) -> None:
    """End all processes of the session that `leader` was started in, and kill those left after `grace` seconds."""
    deadline = time.monotonic() + grace
    _signal(session_members(leader), signal.SIGTERM)
    while session_members(leader) and time.monotonic() < deadline:
        time.sleep(0.05)
    deadline = time.monotonic() + GRACE
    while (left := session_members(leader)) and time.monotonic() < deadline:  # again: one may just start another
        _signal(left, signal.SIGKILL)
        time.sleep(0.01)
    leader.wait()


def session_members(leader: subprocess.Popen) -> list[psutil.Process]:
    """Return the living processes of the session that `leader` was started in, whether or not it still lives itself."""
    leader.poll()  # takes its exit status, so that it does not stay a zombie
    return [process for process in psutil.process_iter() if _session(process) == leader.pid]


def _session(process: psutil.Process) -> int | None:
    """Return a living process's session; None where it has ended, even if nobody took its exit status yet."""
    try:
        return None if process.status() == psutil.STATUS_ZOMBIE else os.getsid(process.pid)
    except (psutil.Error, OSError):
        return None


def _signal(processes: list[psutil.Process], number: int) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):  # it ended by itself in the meantime
            process.send_signal(number)


def free_port() -> int:
    """Return a port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return probe.getsockname()[1]
