"""The command `spoter demo`: the webcam page and its TorchServe. `make demo` runs it."""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from spoter.cli import port_option
from spoter.errors import SpoterError
from spoter.ops.local_server import NAME
from spoter.ops.ports import LOOPBACK, listener, port_is_free
from spoter.ops.readiness import key
from spoter.resources import RESOURCES
from spoter.torchserve.process import START_TIMEOUT

WEB = RESOURCES / "web"
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_GRACE = 30.0  # seconds; spoter serve needs at most 20 s to end its processes
_ENDS = "Ctrl-C stops it."  # the last line that spoter serve prints when it is ready

console = Console(stderr=True)


@dataclass
class ModelServer:
    """The TorchServe that the page uses; `key_file` and `process` are set if this command started it."""

    url: str  # of predictions
    user_token: str = ""  # for a TorchServe that was already running; empty if it needs none
    key_file: Path | None = None  # where TorchServe keeps the token
    process: subprocess.Popen[str] | None = None  # spoter serve

    def token(self) -> str | None:
        """Return the token for a prediction, read from the file each time because TorchServe changes it."""
        return self.user_token or None if self.key_file is None else key(self.key_file, "inference")

    def stop(self) -> None:
        """End spoter serve and its processes, if this command started it."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self.process.kill()


def demo(
    demo_port: Annotated[int, port_option("SPOTER_DEMO_PORT", "Port of the page.")] = 8088,
    host: Annotated[str, typer.Option(envvar="SPOTER_HOST", help="Host of TorchServe's predictions.")] = LOOPBACK,
    port: Annotated[int, port_option("SPOTER_PORT", "Port of TorchServe's predictions.")] = 8080,
    token: Annotated[
        str, typer.Option(envvar="SPOTER_TOKEN", help="Token of a running TorchServe that requires one.")
    ] = "",
) -> None:
    """Serve the webcam page on 127.0.0.1 until Ctrl-C.

    Starts `spoter serve` if no TorchServe listens on the port. All environment variables of `spoter serve`
    (SPOTER_MODEL, SPOTER_WORKERS, …) apply.
    """
    from spoter.webpage.npm import install, installed

    for number in _SIGNALS:
        signal.signal(number, signal.default_int_handler)
    server = None
    try:
        if not port_is_free(LOOPBACK, demo_port):
            other = demo_port + 10000 if demo_port < 50000 else demo_port - 10000
            raise _fail(
                f"port {demo_port} of {LOOPBACK} {listener(demo_port) or 'is in use'}: stop that program or choose "
                f"another port: SPOTER_DEMO_PORT={other}",
                2,
            )
        if not installed(WEB):
            with console.status("installing MediaPipe Holistic for the page (npm ci)"):
                install(WEB)
        server = _find_server(host, port, token) or _start_server(host, port)
        _serve_page(server, demo_port)
    except KeyboardInterrupt:
        typer.echo("stopping", err=True)
    except (SpoterError, OSError) as error:
        raise _fail(str(error), 1) from None
    finally:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C must not interrupt `stop`
        if server is not None:
            server.stop()


def _fail(message: str, status: int) -> typer.Exit:
    typer.echo(f"spoter demo: {message}", err=True)
    return typer.Exit(status)


def _prediction_url(host: str, port: int) -> str:
    return f"http://{LOOPBACK if host == '0.0.0.0' else host}:{port}/predictions/{NAME}"


def _find_server(host: str, port: int, token: str) -> ModelServer | None:
    """Return the TorchServe that listens already; None if there is none.

    It must describe its model, which needs a worker with a model. Wait for one that is starting (503).
    """
    import httpx
    from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

    url = _prediction_url(host, port)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    retrying = Retrying(
        retry=retry_if_result(lambda response: response.status_code == 503),
        wait=wait_fixed(0.5),
        stop=stop_after_delay(START_TIMEOUT),
        retry_error_callback=lambda state: state.outcome and state.outcome.result(),
    )
    try:
        with console.status(f"asking {url} for its glosses"):
            response = retrying(httpx.post, url, json={"describe": True}, headers=headers, timeout=30, trust_env=False)
    except httpx.ConnectError:
        return None
    except (httpx.TransportError, httpx.InvalidURL) as error:
        problem = f"does not answer in HTTP ({error})"
    else:
        if response.status_code == 200 and "glosses" in response.text:
            return ModelServer(url, token)
        problem = f"answers with status {response.status_code}"
    raise _fail(
        f"port {port} of {host} {listener(port) or 'is in use'}, but {problem}; expected this project's TorchServe, "
        "which lists its glosses: stop that program, set SPOTER_TOKEN if it requires a token, or choose another port: "
        f"SPOTER_PORT={port + 1}",
        2,
    )


def _start_server(host: str, port: int) -> ModelServer:
    """Start spoter serve, which reads the same variables, and wait until it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-m", "spoter", "serve", "--host", host, "--port", str(port)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C reaches only this process, which ends the page first
    )
    server = ModelServer(_prediction_url(host, port), process=process)
    try:
        for line in process.stdout or ():
            if line.startswith(_ENDS):
                return server
            read_token = re.match(r"\s*TOKEN=\$\((?P<command>.*)\)$", line)
            if read_token is not None:
                server.key_file = Path(shlex.split(read_token["command"])[-1])
            typer.echo(line, nl=False)
    except BaseException:
        server.stop()
        raise
    raise _fail("spoter serve did not start TorchServe; see its messages", process.wait() or 1)


def _serve_page(server: ModelServer, port: int) -> None:
    """Serve the page until a signal arrives or the TorchServe that this command started ends."""
    import uvicorn

    from spoter.webpage.app import make_site

    site = make_site(WEB, server.url, max_request_bytes(), server.token)
    page = uvicorn.Server(
        uvicorn.Config(site, LOOPBACK, port, log_level="warning", server_header=False, timeout_graceful_shutdown=5)
    )
    if server.process is None:
        typer.echo(f"using the running TorchServe: {server.url}")
    else:
        threading.Thread(target=_end_with, args=(server.process, page), daemon=True).start()
    listening = socket.create_server((LOOPBACK, port))  # from here on, connections wait in its queue
    typer.echo(f"\nthe webcam page: http://{LOOPBACK}:{port}/\n{_ENDS}")
    sys.stdout.flush()
    signal.signal(signal.SIGHUP, page.handle_exit)  # uvicorn itself handles the other two
    page.run(sockets=[listening])
    if server.process is not None and server.process.poll() is not None:
        raise _fail("TorchServe ended unexpectedly; see the messages of spoter serve", 1)


def _end_with(process: subprocess.Popen[str], page: Any) -> None:
    process.wait()
    page.should_exit = True


def max_request_bytes() -> int:
    """Return TorchServe's limit for a request body, from config.properties or from the variable that overrides it."""
    settings = (RESOURCES / "config.properties").read_text()
    [limit] = re.findall(r"^max_request_size=(\d+)$", settings, re.MULTILINE)
    return int(os.environ.get("TS_MAX_REQUEST_SIZE") or limit)
