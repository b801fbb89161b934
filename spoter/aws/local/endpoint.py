"""A local SageMaker endpoint for `spoter deploy --local`: the container behind SageMaker's runtime API, on loopback."""

from __future__ import annotations

import re
import shlex
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import ClassVar, Unpack

import typer
import uvicorn
from rich.console import Console

from spoter.aws.local.container import REGION, Container, ContainerOptions
from spoter.aws.local.environment import locked_environment
from spoter.aws.local.runtime import application
from spoter.errors import SpoterError
from spoter.ops.doctor import temporary_folder
from spoter.ops.ports import LOOPBACK, listener, port_is_free
from spoter.resources import WORK_FOLDER
from spoter.torchserve.process import SAMPLES, StartError

# EndpointName in botocore's sagemaker-runtime/2017-05-13/service-2.json: at most 63 characters.
_NAME = re.compile(r"[A-Za-z0-9](-*[A-Za-z0-9]){0,62}")
_STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class LocalEndpoint:
    """A SageMaker endpoint without AWS, which runs inside a ``with`` block.

    >>> with LocalEndpoint(Path("model_store/model.tar.gz"), "spoter") as endpoint:
    ...     client = boto3.client("sagemaker-runtime", endpoint_url=endpoint.url, **endpoint.credentials)
    ...     client.invoke_endpoint(EndpointName="spoter", ContentType="text/csv", Body=clip)

    The start waits for the answer to a real sample; the end leaves no process behind. The runtime API offers only
    InvokeEndpoint. It does not check signatures, so it listens on loopback only.

    `archive` is a model.tar.gz, as `spoter pack` writes it. `port` is that of the runtime API; 0 chooses a free one.
    `python` is the interpreter of an environment with the container's packages, by default that of
    `locked_environment`. `report` gets one line per step.

    Attributes
    ----------
    url : str
        URL of the runtime API, for boto3's `endpoint_url` or AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME.
    container : Container
        Its `root` also answers TorchServe's management API.
    sample, prediction : Path, str
        The sample that was sent at the start, and the answer.
    """

    #: Keyword arguments for boto3.client, which signs every request.
    credentials: ClassVar = {"region_name": REGION, "aws_access_key_id": "local", "aws_secret_access_key": "local"}

    def __init__(
        self,
        archive: Path,
        name: str = "spoter",
        *,
        port: int = 0,
        python: Path | None = None,
        report: Callable[[str], None] = lambda line: None,
        **options: Unpack[ContainerOptions],
    ):
        if not _NAME.fullmatch(name):
            raise SpoterError(f"found endpoint name {name!r}, expected at most 63 letters, digits and single hyphens")
        self.name, self._port, self._python, self._report = name, port, python, report
        self._archive, self._options = archive, options
        self._closing = ExitStack()

    def __enter__(self) -> LocalEndpoint:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the endpoint; call `stop` afterwards, even if this fails.

        Raises
        ------
        SpoterError
            If the user can fix the problem: the archive, the port, the temporary folder, Java.
        StartError
            With the cause, if the environment, the container or its worker did not start.
        """
        folder = temporary_folder()
        if not folder.ok:
            raise SpoterError(f"{folder.name} {folder.found}: {folder.advice}")
        if self._port and not port_is_free(LOOPBACK, self._port):
            raise SpoterError(f"port {self._port} {listener(self._port) or 'is in use'}: choose another port, or 0")
        interpreter = locked_environment(report=self._report) if self._python is None else nullcontext(self._python)
        with interpreter as python:
            self.container = Container(self._archive, python, **self._options)
            self._closing.callback(self.container.stop)
            self._report("starting SageMaker's container code")
            self.container.start()
            self.sample, self.prediction = self.container.wait_ready()
        self.url = self._listen()

    def stop(self) -> None:
        """End all processes of the endpoint and remove its temporary folder."""
        self._closing.close()

    def _listen(self) -> str:
        """Serve the runtime API in a thread; return its URL."""
        server_socket = self._closing.enter_context(socket.create_server((LOOPBACK, self._port), backlog=512))
        config = uvicorn.Config(
            application(self.name, self.container.root),
            lifespan="on",
            # Clients get the reason of an error; uvicorn would also print tracebacks on the user's terminal.
            log_config=None,
            log_level="critical",
            access_log=False,
            # Seconds. An answer takes less, and a client with an unfinished request must not delay the end.
            timeout_graceful_shutdown=1,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [server_socket]}, daemon=True)
        thread.start()
        self._closing.callback(thread.join)
        self._closing.callback(setattr, server, "should_exit", True)
        while not server.started:
            if not thread.is_alive():
                raise StartError("the runtime API did not start")
            time.sleep(0.01)
        return f"http://{LOOPBACK}:{server_socket.getsockname()[1]}"


def serve_local(archive: Path, name: str = "spoter", port: int = 0, **options: Unpack[ContainerOptions]) -> int:
    """Serve an archive on loopback until Ctrl-C or SIGTERM; return the exit status of ``spoter deploy --local``."""
    for number in _STOP:
        signal.signal(number, signal.default_int_handler)
    console = Console(stderr=True)
    endpoint = None
    try:
        logs = options.setdefault("logs", WORK_FOLDER / "logs")
        logs.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        with console.status("starting") as status:
            report = status.update if console.is_terminal else line_printer()  # rich shows a status on terminals only
            endpoint = LocalEndpoint(archive, name, port=port, report=report, **options)
            endpoint.start()
        typer.echo(_greeting(endpoint, time.monotonic() - started))
        status_code = endpoint.container.wait()
        typer.echo(f"spoter deploy: the container exited with status {status_code}; see {logs}", err=True)
        return 1
    except KeyboardInterrupt:
        typer.echo("stopping", err=True)
        return 0
    except (SpoterError, OSError) as error:
        typer.echo(f"spoter deploy: {error}", err=True)
        return error.exit_code if isinstance(error, SpoterError) else 1
    finally:
        for number in _STOP:
            signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C must not interrupt `stop`
        if endpoint is not None:
            endpoint.stop()


def line_printer(seconds: float = 10.0) -> Callable[[str], None]:
    """Return a function that prints each new step on stderr, and its details (after a colon) every `seconds`."""
    last_step, printed_at = "", 0.0

    def report(text: str) -> None:
        nonlocal last_step, printed_at
        step = text.partition(": ")[0]
        if step != last_step or time.monotonic() - printed_at >= seconds:
            print(text, file=sys.stderr, flush=True)
            last_step, printed_at = step, time.monotonic()

    return report


def _greeting(endpoint: LocalEndpoint, seconds: float) -> str:
    sample = shlex.quote(str(endpoint.sample))
    return "\n".join(
        [
            f"endpoint {endpoint.name} is ready after {seconds:.1f} s, with SageMaker's container code. Answer to "
            f"{endpoint.sample.name}:",
            "",
            endpoint.prediction.rstrip(),
            "",
            "To send requests from another terminal with an AWS SDK or the AWS CLI (nothing is sent to AWS):",
            "",
            f"  export AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME={endpoint.url}",
            f"  export AWS_ACCESS_KEY_ID=local AWS_SECRET_ACCESS_KEY=local AWS_DEFAULT_REGION={REGION}",
            f"  aws sagemaker-runtime invoke-endpoint --endpoint-name {endpoint.name} --body fileb://{sample} "
            f"--content-type {SAMPLES[endpoint.sample.suffix]} /dev/stdout",
            "",
            "Ctrl-C stops it.",
        ]
    )
