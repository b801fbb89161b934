"""TCP ports of this machine: free ones, and who listens on one."""

import socket

LOOPBACK = "127.0.0.1"


def free_port() -> int:
    """Return a port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def port_is_free(host: str, port: int) -> bool:
    """Tell whether a server could listen on `port` of `host` now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as TorchServe does: a closing port counts as free
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def listener(port: int) -> str | None:
    """Return "is in use by process 123 (java)", as far as this user may know it."""
    try:
        import psutil
    except ImportError:  # TorchServe brings it, and is not there either
        return None
    try:
        for connection in psutil.net_connections("tcp"):  # Java listens on IPv6 sockets, also for IPv4
            if (
                connection.laddr
                and connection.laddr.port == port
                and connection.status == psutil.CONN_LISTEN
                and connection.pid
            ):
                return f"is in use by process {connection.pid} ({psutil.Process(connection.pid).name()})"
    except psutil.Error:
        pass
    return None
