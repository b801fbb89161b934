"""The nginx configuration of docs/security-setup.md in front of a real server; only port and certificate differ."""

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

RATE, BURST, OPEN = 20, 40, 20  # per second, at once, and connections, as in the document
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
FOLDERS = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")

pytestmark = pytest.mark.skipif(NGINX is None, reason="needs nginx, such as Debian's package nginx-light")


@pytest.fixture
def proxy(unharmed: TorchServe, tmp_path: Path) -> Iterator[str]:
    """Run the proxy in front of a real TorchServe; yield its URL for predictions."""
    text = (ROOT / "docs" / "security-setup.md").read_text(encoding="utf-8")
    [block] = re.findall(r"```nginx\n(.*?)```", text, re.DOTALL)
    assert f"rate={RATE}r/s" in block and f"burst={BURST} " in block and f"limit_conn open {OPEN};" in block
    port = free_port()
    for documented, here in (
        (r"listen 443 ssl;", f"listen {LOOPBACK}:{port};"),
        (r" *ssl_certificate(_key)? .*\n", ""),
        (r"server 127\.0\.0\.1:8080;", f"server {LOOPBACK}:{unharmed.ports[0]};"),
    ):
        block, count = re.subn(documented, here, block)
        assert count, documented
    paths = "".join(f"{name}_temp_path {tmp_path / name};" for name in FOLDERS)
    main = f"daemon off; pid {tmp_path / 'pid'}; {'user root;' if os.geteuid() == 0 else ''} events {{}}\n"
    (tmp_path / "nginx.conf").write_text(f"{main}http {{ access_log off; {paths}\n{block}}}\n")
    command = [NGINX, "-p", tmp_path, "-c", tmp_path / "nginx.conf", "-e", tmp_path / "error.log"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
        try:
            url = f"http://{LOOPBACK}:{port}/predictions/spoter"
            assert wait_until(lambda: call(f"http://{LOOPBACK}:{port}/").status == 404, 10)  # not forwarded
            yield url
        finally:
            process.terminate()


def test_a_client_over_the_rate_gets_429_from_the_proxy(proxy, tmp_path):
    load = run_closed_loop(proxy, [Request(compact_request())], 8, 30.0, most=120)
    answered, refused = load.statuses[200], load.statuses[429]
    assert set(load.statuses) == {200, 429} and BURST <= answered <= BURST + 1 + RATE * (load.seconds + 1)
    assert refused == 120 - answered
    assert 'by zone "rate"' in (tmp_path / "error.log").read_text()


def test_a_client_with_many_open_requests_gets_429_from_the_proxy(proxy, tmp_path):
    unfinished = http_request(b" " * 1000, length=2000)
    connections = [connect(int(proxy.split(":")[2].split("/")[0])) for _ in range(OPEN)]
    try:
        for connection in connections:
            connection.sendall(unfinished)
        assert wait_until(lambda: call(proxy, compact_request()).status == 429, 10)
        assert 'by zone "open"' in (tmp_path / "error.log").read_text()
    finally:
        for connection in connections:
            connection.close()
    assert wait_until(lambda: call(proxy, compact_request()).status == 200, 10)
