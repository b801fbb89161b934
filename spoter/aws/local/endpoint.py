"""An endpoint on loopback: the container and SageMaker's runtime API before it. `deploy.py --local` serves one."""

from __future__ import annotations

import re
import shlex
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, nullcontext
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from spoter.aws.local.container import REGION, Container, WayIn
from spoter.aws.local.environment import FOLDER, environment
from spoter.errors import SpoterError
from spoter.ops.doctor import temporary_folder
from spoter.ops.ports import LOOPBACK, listener, port_is_free
from spoter.resources import WORK_FOLDER
from spoter.torchserve.process import StartError

if TYPE_CHECKING:
    import uvicorn

# EndpointName in botocore's sagemaker-runtime/2017-05-13/service-2.json, where it has 63 characters at most.
_NAME = re.compile(r"[A-Za-z0-9](-*[A-Za-z0-9]){0,62}")
_STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class LocalEndpoint:
    """A SageMaker endpoint without AWS, up inside a ``with`` block.

    >>> with LocalEndpoint(Path("model_store/model.tar.gz"), "spoter") as endpoint:
    ...     client = boto3.client("sagemaker-runtime", endpoint_url=endpoint.url, **endpoint.credentials)
    ...     client.invoke_endpoint(EndpointName="spoter", ContentType="text/csv", Body=clip)

    It is up once a real sample was answered, and leaves no process behind. It has one data plane, InvokeEndpoint:
    asynchronous endpoints and batch transform are not part of it. Signatures are not checked, so it listens on
    loopback only.

    Parameters
    ----------
    archive : Path
        model.tar.gz, as `build_mar.py` writes it.
    name : str
        The endpoint's name.
    port : int
        Of the runtime API; 0 takes a free one.
    way_in, workers, environ, logs
        As for `spoter.aws.local.container.Container`.
    python : Path or None
        Interpreter of an environment with the container's packages; None has one made in `folder`.
    folder : Path
        As for `spoter.aws.local.environment.environment`.
    say : callable
        Is given a line for each step.

    Attributes
    ----------
    url : str
        Of the runtime API: boto3's `endpoint_url`, or AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME.
    container : Container
        Its `root` answers TorchServe's management API too.
    sample, prediction : Path, str
        The sample that was sent, and what came back.
    """

    #: Keyword arguments for boto3.client: it signs requests, whoever may read the signature.
    credentials = {"region_name": REGION, "aws_access_key_id": "local", "aws_secret_access_key": "local"}

    def __init__(
        self,
        archive: Path,
        name: str = "spoter",
        *,
        port: int = 0,
        way_in: WayIn = WayIn.HANDLER,
        workers: int | None = None,
        environ: Mapping[str, str] | None = None,
        logs: Path | None = None,
        python: Path | None = None,
        folder: Path = FOLDER,
        say: Callable[[str], None] = lambda line: None,
    ):
        if not _NAME.fullmatch(name):
            raise SpoterError(f"found endpoint name {name!r}, expected letters, digits and single -, 63 at most")
        self.name, self._port, self._python, self._folder, self._say = name, port, python, folder, say
        self._options = (archive, way_in, workers, environ, logs)
        self._closing = ExitStack()

    def __enter__(self) -> LocalEndpoint:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Start it; `stop` ends it, whatever happens after this.

        Raises
        ------
        SpoterError
            For what the user can put right: the archive, the port, the temporary folder, Java.
        StartError
            With the cause, where the environment, the container or its worker did not start.
        """
        folder = temporary_folder()
        if not folder.ok:
            raise SpoterError(f"{folder.name} {folder.found}: {folder.advice}")
        if self._port and not port_is_free(LOOPBACK, self._port):
            raise SpoterError(f"port {self._port} {listener(self._port) or 'is in use'}: choose another, or 0")
        archive, way_in, workers, environ, logs = self._options
        prepared = environment(self._folder, self._say) if self._python is None else nullcontext(self._python)
        with prepared as python:
            self.container = Container(archive, python, way_in, workers, environ, logs)
            self._closing.callback(self.container.stop)
            self._say("starting SageMaker's container code")
            self.container.start()
            self.sample, self.prediction = self.container.wait_ready()
        self.url = self._listen()

    def wait(self) -> int:
        """Wait until the container ends by itself, and return its exit status."""
        return self.container.wait()

    def stop(self) -> None:
        """End every process of it and remove its temporary folder."""
        self._closing.close()

    def _listen(self) -> str:
        """Answer the runtime API in a thread of its own."""
        import uvicorn

        from spoter.aws.local.runtime import application

        listening = self._closing.enter_context(socket.create_server((LOOPBACK, self._port), backlog=512))
        # Clients are told what is wrong; uvicorn would write stack traces into the user's terminal besides.
        quiet = {"log_config": None, "log_level": "critical", "access_log": False}
        # Seconds: an answer takes less, and who has not sent the whole request shall not hold up the end.
        config = uvicorn.Config(
            application(self.name, self.container.root), **quiet, timeout_graceful_shutdown=1, lifespan="on"
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        self._closing.callback(_end, server, thread)
        while not server.started:
            if not thread.is_alive():
                raise StartError("the runtime API did not start")
            time.sleep(0.01)
        return f"http://{LOOPBACK}:{listening.getsockname()[1]}"


def _end(server: uvicorn.Server, thread: threading.Thread) -> None:
    server.should_exit = True
    thread.join()


def serve_local(
    archive: Path,
    name: str = "spoter",
    port: int = 0,
    way_in: WayIn = WayIn.HANDLER,
    workers: int | None = None,
    environ: Mapping[str, str] | None = None,
    logs: Path = WORK_FOLDER / "logs",
) -> int:
    """Serve an archive on loopback until Ctrl-C or SIGTERM: what ``deploy.py --local`` does.

    Returns
    -------
    int
        Exit status: 0 after Ctrl-C, 2 for what the user has to put right, 1 for what failed.
    """
    import typer
    from rich.console import Console

    for number in _STOP:
        signal.signal(number, _interrupt)
    console = Console(stderr=True)
    endpoint = None
    try:
        logs.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        with console.status("starting") as status:
            say = status.update if console.is_terminal else _line_printer()  # elsewhere rich shows no status
            endpoint = LocalEndpoint(
                archive, name, port=port, way_in=way_in, workers=workers, environ=environ, logs=logs, say=say
            )
            endpoint.start()
        typer.echo(_greeting(endpoint, time.monotonic() - started))
        ended = endpoint.wait()
        typer.echo(f"deploy.py: the container ended by itself with status {ended}; see {logs}", err=True)
        return 1
    except KeyboardInterrupt:
        typer.echo("stopping", err=True)
        return 0
    except SpoterError as error:
        typer.echo(f"deploy.py: {error}", err=True)
        return 2
    except (StartError, OSError) as error:
        typer.echo(f"deploy.py: {error}", err=True)
        return 1
    finally:
        for number in _STOP:
            signal.signal(number, signal.SIG_IGN)  # nothing may keep the end from coming
        if endpoint is not None:
            endpoint.stop()


def _line_printer(seconds: float = 10.0) -> Callable[[str], None]:
    """Return a function that prints each new step on stderr, and details after its colon every ten seconds."""
    shown, at = "", 0.0

    def say(text: str) -> None:
        nonlocal shown, at
        step = text.partition(": ")[0]
        if step != shown or time.monotonic() - at >= seconds:
            print(text, file=sys.stderr, flush=True)
            shown, at = step, time.monotonic()

    return say


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _greeting(endpoint: LocalEndpoint, seconds: float) -> str:
    from spoter.torchserve.process import SAMPLES

    sample = shlex.quote(str(endpoint.sample))
    return "\n".join(
        [
            f"endpoint {endpoint.name} is up after {seconds:.1f} s, on SageMaker's container code;"
            f" {endpoint.sample.name} is answered:",
            "",
            endpoint.prediction.rstrip(),
            "",
            "from another terminal, with any AWS SDK or the AWS command line (nothing is sent to AWS):",
            "",
            f"  export AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME={endpoint.url}",
            f"  export AWS_ACCESS_KEY_ID=local AWS_SECRET_ACCESS_KEY=local AWS_DEFAULT_REGION={REGION}",
            f"  aws sagemaker-runtime invoke-endpoint --endpoint-name {endpoint.name} --body fileb://{sample} "
            f"--content-type {SAMPLES[endpoint.sample.suffix]} /dev/stdout",
            "",
            "Ctrl-C ends it.",
        ]
    )
