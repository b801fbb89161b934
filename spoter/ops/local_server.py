"""TorchServe processes on this machine: their ports, model stores and keys."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from spoter.ops.readiness import Reply, key, refused_token, send

if TYPE_CHECKING:
    import psutil

MAIN_CLASS = "org.pytorch.serve.ModelServer"
NAME = "spoter"  # of the model: /predictions/spoter
ARCHIVE = f"{NAME}.mar"  # in the model store


def torchserve_on(port: int, address: str | None = None) -> psutil.Process | None:
    """Return the TorchServe process that listens on `port`, at the IPv4 address `address` or at any address.

    Return None if there is none, or if this user has no permission to inspect it.
    """
    import psutil  # a dependency of TorchServe; some commands run without it

    for process in psutil.process_iter():
        try:
            if MAIN_CLASS in process.cmdline() and any(
                number == port and (address is None or ip in (address, "0.0.0.0")) for ip, number in listening(process)
            ):
                return process
        except psutil.Error:
            continue
    return None


def listening(process: psutil.Process) -> list[tuple[str, int]]:
    """Return the addresses and TCP ports that a process listens on; 0.0.0.0 stands for all addresses."""
    addresses = [each.laddr for each in process.net_connections("tcp") if each.status == "LISTEN"]
    return [(each.ip.removeprefix("::ffff:").replace("::", "0.0.0.0"), each.port) for each in addresses]


def open_connections(process: psutil.Process) -> set[tuple[object, object]]:
    """Return the TCP connections of a process that are not closed on both sides."""
    return {(each.laddr, each.raddr) for each in process.net_connections("tcp") if each.raddr}


def model_store(process: psutil.Process) -> Path:
    """Return the folder of TorchServe's archives; its launcher always passes it as ``-s``."""
    command = process.cmdline()
    return Path(process.cwd(), command[command.index("-s", command.index(MAIN_CLASS)) + 1])


def key_file(process: psutil.Process) -> Path:
    """Return the file in which TorchServe keeps its tokens, if it uses any."""
    return Path(process.cwd(), "key_file.json")


def ask_each_port(
    process: psutil.Process, path: str, token: str | None = None, body: bytes | None = None
) -> Iterator[tuple[str, Reply]]:
    """Send one request to each port of a process; yield the root URL of the port, and the reply."""
    for ip, port in listening(process):
        root = f"http://{'127.0.0.1' if ip == '0.0.0.0' else ip}:{port}"
        yield root, send(root + path, token, body)


def served_model(process: psutil.Process) -> str | None:
    """Return the name and version of the SPOTER model that a TorchServe serves; None if no port describes one."""
    refused = False
    body, token = b'{"describe":true}', key(key_file(process), "inference")
    for _, reply in ask_each_port(process, f"/predictions/{NAME}", token, body):
        if reply.status == 200 and "layout" in reply.document:
            return f"{reply.document.get('name')} {reply.document.get('version')}"
        refused = refused or refused_token(reply)
    named = any(part.startswith(f"{NAME}=") for part in process.cmdline())
    return f"{NAME}, with tokens" if refused and named else None
