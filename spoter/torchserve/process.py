"""A TorchServe process: its start, its first prediction, and the end of all its child processes."""

import json
import re
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from spoter.errors import SpoterError
from spoter.ops import readiness
from spoter.processes import GRACE, end_process_tree
from spoter.resources import RESOURCES

SAMPLES = {".json": "application/json", ".csv": "text/csv"}
ANSWER_TIMEOUT = 30.0  # seconds
START_TIMEOUT = 180.0  # seconds; workers have 120 s (model-config.yaml), and Java starts before them
# TorchServe logs one of these lines when a worker ends or cannot load its model; it would retry for minutes.
FAILURE = re.compile(r"Retry worker|Load model failed|Failed to load model")
# TorchServe logs this line when it has read all output of a worker, unless log4j2.xml filters the line.
OUTPUT_READ = re.compile(r"Stopped Scanner - \S+-stdout")
OUTPUT_TIMEOUT = 3.0  # seconds to wait for that line; failures outside of workers have none
LOG_LINE = re.compile(r"^\S+ \[(?P<level>\w+) *\] (?P<thread>\S+) (?P<logger>\S+) - (?P<text>.*)$")


class StartError(SpoterError):
    """The server did not start; the text gives the reason."""

    exit_code = 1


class ServerProcess:
    """A process that starts TorchServe, in a separate session and temporary folder; subclasses set the command.

    `model` is the model's name in the management API, `url` the URL of predictions, and `management` the root of the
    management API.
    """

    grace = GRACE
    """Seconds that `stop` waits for unfinished requests."""

    def __init__(self, model: str, url: str, management: str):
        self.model, self.url, self.management = model, url, management
        self._temporary = tempfile.TemporaryDirectory(prefix="spoter-")  # a short path: TorchServe's sockets go there
        self.folder = Path(self._temporary.name)
        self.key_file: Path | None = None  # where TorchServe writes its tokens, if requests need one
        self.command: Sequence[str | Path] = []
        self.environ: Mapping[str, str] = {}
        self._process: subprocess.Popen[str] | None = None
        self._failed = threading.Event()
        self._output_read = threading.Event()
        self._output: deque[str] = deque(maxlen=500)

    @property
    def leader(self) -> subprocess.Popen[str]:
        """The process that `start` started. It leads the session of all processes of the server."""
        if self._process is None:
            raise RuntimeError("the server was not started")
        return self._process

    def start(self) -> None:
        """Start the process, or start it again after it ended. `stop` ends it."""
        for state in (self._failed, self._output_read, self._output):
            state.clear()
        self._process = subprocess.Popen(
            self.command,
            cwd=self.folder,  # TorchServe writes key_file.json into its working folder
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C does not reach it, and `stop` ends the whole session
        )
        threading.Thread(target=self._read_output, args=(self._process.stdout,), daemon=True).start()

    def _read_output(self, lines: Iterable[str]) -> None:
        """Keep the last lines of TorchServe's output and detect failures; reading all of it keeps the pipe empty."""
        for line in lines:
            self._output.append(line.rstrip())
            if FAILURE.search(line):
                self._failed.set()
            if OUTPUT_READ.search(line):
                self._output_read.set()

    def wait_ready(self) -> tuple[Path, str]:
        """Wait for a READY worker and a prediction; return the sample that was sent, and the response.

        Raises `StartError` with the reason, if TorchServe logs one.
        """
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            if self.leader.poll() is not None:
                raise StartError(f"TorchServe ended with status {self.leader.returncode}:\n{self.reason()}")
            if self._failed.is_set():
                self._output_read.wait(OUTPUT_TIMEOUT)  # the worker's traceback may come after the failure
                raise StartError(f"the worker did not start:\n{self.reason()}")
            reply = readiness.send(f"{self.management}/models/{self.model}", self.key("management"))
            if "READY" in (readiness.worker_states(reply) or ()):
                return self._first_prediction()
            time.sleep(0.1)
        raise StartError(f"no worker was ready after {START_TIMEOUT:g} seconds:\n{self.reason()}")

    def _first_prediction(self) -> tuple[Path, str]:
        """Send a clip that is made for the model, then a sample; return the sample and its response.

        A model of other landmarks refuses the samples with an error, which also counts as a response.
        """
        check, _ = readiness.prediction(self.url, self.key("inference"), timeout=ANSWER_TIMEOUT)
        if not check.ok:
            raise StartError(f"the first prediction failed: {check.found}\n{self.reason()}")
        samples = [path for path in (RESOURCES / "samples").iterdir() if path.suffix in SAMPLES]
        for sample in sorted(samples, key=lambda path: (path.suffix != ".json", path)):
            kind, token = SAMPLES[sample.suffix], self.key("inference")
            reply = readiness.send(self.url, token, sample.read_bytes(), kind, ANSWER_TIMEOUT)
            if reply.status is None or reply.status >= 500:
                status = "no answer" if reply.status is None else f"status {reply.status}"
                raise StartError(f"{sample.name}: {status}: {reply.body}\n{self.reason()}")
            if reply.status == 200:
                break
        return sample, reply.body

    def manage(self, method: str, path: str) -> object:
        """Send a request to the management API and return the JSON document; starting workers may take minutes.

        Raises `SpoterError` if the status is not 200, or no response comes.
        """
        reply = readiness.send(self.management + path, self.key("management"), timeout=START_TIMEOUT, method=method)
        if reply.status != 200:
            status = "no answer" if reply.status is None else f"status {reply.status}"
            raise SpoterError(f"{method} {path}: {status}: {reply.body.strip()[:300]}")
        document: object = json.loads(reply.body)
        return document

    def key(self, kind: str) -> str | None:
        """Return a key of TorchServe, or None while the key file is missing or incomplete, as during the start."""
        return None if self.key_file is None else readiness.key(self.key_file, kind)

    def reason(self) -> str:
        """Return the lines of TorchServe's output that explain a failure: those of one worker, warnings and errors."""
        chosen: list[str] = []
        worker = None
        for line in self._output:
            match = LOG_LINE.match(line)
            if match is None:
                chosen += [line] if line.strip() and not line.startswith("\tat ") else []  # no Java stack
            elif match["logger"] == "MODEL_LOG":
                worker = worker or match["thread"].rsplit("-", 1)[0]  # W-9000-spoter_1.0-stdout or -stderr
                chosen += [match["text"]] if match["thread"].startswith(worker) else []
            elif match["level"] in ("WARN", "ERROR"):
                chosen.append(match["text"])
        return "\n".join(f"  {line}" for line in chosen[-25:]) or "  TorchServe printed nothing"

    def wait(self) -> int:
        """Wait until TorchServe ends, and return its exit status."""
        return self.leader.wait()

    def stop(self) -> None:
        """End every process of the server and remove its temporary folder."""
        if self._process is not None:
            end_process_tree(self._process, self.grace)
        self._temporary.cleanup()
