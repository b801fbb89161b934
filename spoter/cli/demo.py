"""The webcam page with a TorchServe behind it, until Ctrl-C: what `make demo` runs.

Installs the page's npm packages where they are missing, finds the TorchServe that runs or starts one by spoter serve, and
serves web/ on loopback. At the end the TorchServe that it started ends too; one that it found goes on.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from spoter.ops.local_server import NAME
from spoter.ops.ports import LOOPBACK, listener, port_is_free
from spoter.resources import RESOURCES
from spoter.torchserve.process import START_TIMEOUT

WEB = RESOURCES / "web"
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_GRACE = 30.0  # seconds; spoter serve itself takes at most twenty to end all that it started
_ENDS = "Ctrl-C ends it."  # the last line of spoter serve's greeting

console = Console(stderr=True)


@dataclass
class Behind:
    """The TorchServe behind the page.

    Attributes
    ----------
    url : str
        Where it predicts.
    key : str
        Its token, where it was started elsewhere and wants one.
    key_file : pathlib.Path or None
        Where TorchServe keeps the token, where spoter serve was started here.
    process : subprocess.Popen or None
        spoter serve, where it was started here.
    """

    url: str
    key: str = ""
    key_file: Path | None = None
    process: subprocess.Popen | None = None

    def token(self) -> str | None:
        """Return the token for a prediction; read anew each time, for TorchServe changes it."""
        if self.key_file is None:
            return self.key or None
        import msgspec

        try:
            return msgspec.json.decode(self.key_file.read_bytes())["inference"]["key"]
        except (OSError, msgspec.DecodeError, KeyError):
            return None  # it is just being written: TorchServe refuses, and says why

    def stop(self) -> None:
        """End spoter serve and all that it started, if it was started here."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self.process.kill()


def _fail(message: str, status: int) -> typer.Exit:
    typer.echo(f"spoter demo: {message}", err=True)
    return typer.Exit(status)


def _interrupt(*_) -> None:
    raise KeyboardInterrupt


def demo(
    demo_port: Annotated[
        int, typer.Option(envvar="SPOTER_DEMO_PORT", min=1, max=65535, help="The page's port.")
    ] = 8088,
    host: Annotated[
        str, typer.Option(envvar="SPOTER_HOST", help="As of spoter serve: where TorchServe listens.")
    ] = LOOPBACK,
    port: Annotated[int, typer.Option(envvar="SPOTER_PORT", min=1, max=65535, help="As of spoter serve.")] = 8080,
    token: Annotated[
        str, typer.Option(envvar="SPOTER_TOKEN", help="Of a TorchServe that runs already and wants one.")
    ] = "",
) -> None:
    """Serve the webcam page on 127.0.0.1 until Ctrl-C.

    TorchServe is started if it is not up; all variables of spoter serve (SPOTER_MODEL, SPOTER_PORT, …) count here too.
    """
    for number in _SIGNALS:
        signal.signal(number, _interrupt)
    from spoter.webpage.npm import PackagesError

    behind = None
    try:
        if not port_is_free(LOOPBACK, demo_port):
            other = demo_port + 10000 if demo_port < 50000 else demo_port - 10000
            raise _fail(
                f"port {demo_port} of {LOOPBACK} {listener(demo_port) or 'is in use'}: stop what listens there, or "
                f"choose another port: make demo SPOTER_DEMO_PORT={other}",
                2,
            )
        _install()
        behind = _find(host, port, token) or _start(host, port)
        _serve_page(behind, demo_port)
    except KeyboardInterrupt:
        typer.echo("stopping", err=True)
    except (PackagesError, OSError) as error:
        raise _fail(str(error), 1) from None
    finally:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # nothing may keep `stop` from its end
        if behind is not None:
            behind.stop()


def _install() -> None:
    """Install the page's packages, if they are not there as the lock file has them."""
    from spoter.webpage.npm import install, installed

    if not installed(WEB):
        with console.status("installing MediaPipe Holistic for the page (npm ci)"):
            install(WEB)


def _find(host: str, port: int, token: str) -> Behind | None:
    """Return the TorchServe that listens already; None where nothing does.

    It has to tell what its model knows, which only a worker with a model can. One that is just starting is waited for.
    """
    import httpx

    address = LOOPBACK if host == "0.0.0.0" else host
    behind = Behind(f"http://{address}:{port}/predictions/{NAME}", token)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    deadline = time.monotonic() + START_TIMEOUT
    with console.status(f"asking {behind.url} what it knows"):
        while True:
            try:
                answer = httpx.post(behind.url, json={"describe": True}, headers=headers, timeout=30, trust_env=False)
            except httpx.ConnectError:
                return None
            except (httpx.TransportError, httpx.InvalidURL) as error:
                found = f"gives no answer in HTTP ({error})"
                break
            if answer.status_code == 200 and "glosses" in answer.text:
                return behind
            found = f"answers with status {answer.status_code}"
            if answer.status_code != 503 or time.monotonic() > deadline:
                break
            time.sleep(0.5)
    who = listener(port) or "is in use"
    raise _fail(
        f"port {port} of {address} {who}, but {found} where this project's TorchServe tells its signs: stop what "
        "listens there, set SPOTER_TOKEN if it wants a token, or choose another port: "
        f"make demo SPOTER_PORT={port + 1}",
        2,
    )


def _start(host: str, port: int) -> Behind:
    """Start spoter serve, which reads the same variables, and wait for its greeting."""
    process = subprocess.Popen(
        [sys.executable, "-m", "spoter", "serve", "--host", host, "--port", str(port)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a Ctrl-C reaches this process alone, which ends the page first
    )
    address = LOOPBACK if host == "0.0.0.0" else host
    behind = Behind(f"http://{address}:{port}/predictions/{NAME}", process=process)
    try:
        for line in process.stdout:
            if line.startswith(_ENDS):
                return behind
            key = re.match(r"\s*TOKEN=\$\((?P<command>.*)\)$", line)
            if key is not None:
                behind.key_file = Path(shlex.split(key["command"])[-1])
            typer.echo(line, nl=False)
    except BaseException:
        behind.stop()
        raise
    raise _fail("spoter serve did not start TorchServe; what it says stands above", process.wait() or 1)


def _serve_page(behind: Behind, port: int) -> None:
    """Serve the page until a signal comes, or the TorchServe that was started here ends."""
    import uvicorn

    from spoter.webpage.app import make_site

    site = make_site(WEB, behind.url, _longest_body(), behind.token)
    server = uvicorn.Server(
        uvicorn.Config(site, LOOPBACK, port, log_level="warning", server_header=False, timeout_graceful_shutdown=5)
    )
    if behind.process is None:
        typer.echo(f"using the TorchServe that runs already: {behind.url}")
    else:
        threading.Thread(target=_follow, args=(behind.process, server), daemon=True).start()
    listening = socket.create_server((LOOPBACK, port))  # from here on nobody is turned away
    typer.echo(f"\nthe webcam page: http://{LOOPBACK}:{port}/\n{_ENDS}")
    sys.stdout.flush()
    signal.signal(signal.SIGHUP, server.handle_exit)  # uvicorn itself minds the other two
    server.run(sockets=[listening])
    if behind.process is not None and behind.process.poll() is not None:
        raise _fail("TorchServe ended by itself; what spoter serve says stands above", 1)


def _follow(process: subprocess.Popen, server) -> None:
    process.wait()
    server.should_exit = True


def _longest_body() -> int:
    """Return what TorchServe is told in config.properties, or by the variable that wins over it."""
    line = re.search(r"^max_request_size=(\d+)$", (RESOURCES / "config.properties").read_text(), re.MULTILINE)
    return int(os.environ.get("TS_MAX_REQUEST_SIZE") or line[1])
