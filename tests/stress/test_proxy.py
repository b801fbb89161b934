"""The nginx of docs/operations.md, "Before the internet", as it stands there but for its port and its certificate."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.load.bodies import compact_request
from benchmarks.load.client import Request, run_closed_loop
from spoter.ops.ports import LOOPBACK, free_port
from spoter.torchserve.server import TorchServe
from stress.harness import call, wait_until
from stress.raw_http import connect, http_request
from tests import ROOT

RATE, BURST, OPEN = 20, 40, 20  # as the lines below have them
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
FOLDERS = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")

pytestmark = pytest.mark.skipif(NGINX is None, reason="no nginx here: Debian's package nginx-light has one")


@pytest.fixture
def proxy(unharmed: TorchServe, tmp_path: Path) -> Iterator[str]:
    """Run it before a real TorchServe; the URL for predictions."""
    [block] = re.findall(r"```nginx\n(.*?)```", (ROOT / "docs" / "operations.md").read_text("utf-8"), re.DOTALL)
    assert f"rate={RATE}r/s" in block and f"burst={BURST} " in block and f"limit_conn open {OPEN};" in block
    port = free_port()
    for there, here in (
        (r"listen 443 ssl;", f"listen {LOOPBACK}:{port};"),
        (r" *ssl_certificate(_key)? .*\n", ""),
        (r"server 127\.0\.0\.1:8080;", f"server {LOOPBACK}:{unharmed.ports[0]};"),
    ):
        block, changed = re.subn(there, here, block)
        assert changed, there
    paths = "".join(f"{name}_temp_path {tmp_path / name};" for name in FOLDERS)
    own = f"daemon off; pid {tmp_path / 'pid'}; {'user root;' if os.geteuid() == 0 else ''} events {{}}\n"
    (tmp_path / "nginx.conf").write_text(f"{own}http {{ access_log off; {paths}\n{block}}}\n")
    command = [NGINX, "-p", tmp_path, "-c", tmp_path / "nginx.conf", "-e", tmp_path / "error.log"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
        try:
            url = f"http://{LOOPBACK}:{port}/predictions/spoter"
            assert wait_until(lambda: call(f"http://{LOOPBACK}:{port}/").status == 404, 10)  # nothing else is handed on
            yield url
        finally:
            process.terminate()


def test_who_asks_too_often_is_answered_429_by_the_proxy(proxy, tmp_path):
    load = run_closed_loop(proxy, [Request(compact_request())], 8, 30.0, most=120)
    good, refused = load.statuses[200], load.statuses[429]
    assert set(load.statuses) == {200, 429} and BURST <= good <= BURST + 1 + RATE * (load.seconds + 1)
    assert refused == 120 - good
    assert 'by zone "rate"' in (tmp_path / "error.log").read_text()


def test_who_holds_many_connections_is_answered_429_too(proxy, tmp_path):
    unfinished = http_request(b" " * 1000, length=2000)
    held = [connect(int(proxy.split(":")[2].split("/")[0])) for _ in range(OPEN)]
    try:
        for connection in held:
            connection.sendall(unfinished)
        assert wait_until(lambda: call(proxy, compact_request()).status == 429, 10)
        assert 'by zone "open"' in (tmp_path / "error.log").read_text()
    finally:
        for connection in held:
            connection.close()
    assert wait_until(lambda: call(proxy, compact_request()).status == 200, 10)
