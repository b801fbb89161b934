"""A real TorchServe with tokens, bound to every address: access, and renewal of tokens while clients use them."""

from __future__ import annotations

import http.client
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
from typer.testing import CliRunner

from spoter.cli.main import app
from spoter.client import Client, RequestError, Retry
from spoter.errors import SpoterError
from spoter.ops.java import find_java
from spoter.ops.local_server import NAME
from spoter.ops.ports import free_port
from spoter.ops.readiness import key, prediction, refused_token, workers
from spoter.ops.readiness import send as ask
from spoter.ops.tokens import rotate
from spoter.torchserve.pack import build
from spoter.torchserve.server import TorchServe
from tests import ROOT
from tests.e2e.live import send

pytestmark = pytest.mark.server

# Seconds until a key expires; TorchServe accepts fractions of a minute. Every test starts with new keys.
LIFETIME = 6
POINTS = np.full((3, 54, 2), 0.5) + np.linspace(0, 0.2, 54)[:, None]


@pytest.fixture(scope="module")
def guarded(dgs11: Path, scratch: Path) -> Iterator[TorchServe]:
    """Run the server of `make serve SPOTER_HOST=0.0.0.0`, with keys that expire soon."""
    environ = find_java().environment(os.environ) | {"TS_TOKEN_EXPIRATION_TIME_MIN": str(LIFETIME / 60)}
    ports = (free_port(), free_port(), free_port())
    server = TorchServe("0.0.0.0", ports, 1, True, scratch / "guarded-logs", environ)
    try:
        build(dgs11, NAME, None, server.store)
        server.start()
        deadline = time.monotonic() + 180
        while not (key(server.key_file, "API") and _is_ready(server)):
            assert time.monotonic() < deadline, server.reason()
            time.sleep(0.2)
        yield server
    finally:
        server.stop()


def _is_ready(server: TorchServe) -> bool:
    try:
        token = rotate(server.management, server.key_file, "management")
    except SpoterError:
        return False
    return workers(server.management, NAME, token).ok


@pytest.fixture
def token(guarded) -> str:
    return rotate(guarded.management, guarded.key_file)


def test_other_machines_can_reach_only_predictions(guarded):
    listening = [each for each in psutil.net_connections("tcp") if each.status == psutil.CONN_LISTEN]
    (java,) = {each.pid for each in listening if each.laddr.port == guarded.ports[0]}
    addresses = {each.laddr.port: each.laddr.ip.removeprefix("::ffff:") for each in listening if each.pid == java}
    assert addresses.pop(guarded.ports[0]) in ("0.0.0.0", "::", "")
    assert len(addresses) == 4 and set(addresses.values()) == {"127.0.0.1"}  # management, metrics and two of gRPC


def test_only_the_owner_can_read_the_key_file(guarded):
    assert guarded.key_file.stat().st_mode & 0o077 == 0


def test_each_key_gives_access_to_one_api(guarded, token):
    management = rotate(guarded.management, guarded.key_file, "management")
    api = key(guarded.key_file, "API")
    assert prediction(guarded.url, token)[0].ok and workers(guarded.management, NAME, management).ok
    for wrong in (management, api, "", "x" * 8, token[:-1], token + "x", None):
        assert refused_token(ask(guarded.url, wrong, b'{"describe":true}')), wrong
    for wrong in (token, api, "x" * 8, None):
        assert refused_token(ask(f"{guarded.management}/models/{NAME}", wrong))
    for wrong in (token, management, None):
        assert refused_token(ask(f"{guarded.management}/token?type=inference", wrong))
    assert ask(f"http://127.0.0.1:{guarded.ports[2]}/metrics").status == 200  # needs no token, so it is on loopback


def test_the_doctor_reports_a_missing_or_wrong_token(guarded, token):
    def run(*options: str) -> tuple[int, str]:
        done = CliRunner().invoke(
            app, ["doctor", "--server", guarded.url, "--management", guarded.management, *options]
        )
        return done.exit_code, done.output

    rotate(guarded.management, guarded.key_file, "management")
    status, output = run("--keys", str(guarded.key_file))
    assert status == 0 and "FAIL" not in output
    for options in ((), ("--token", "wrong")):
        status, output = run(*options)
        assert status == 1 and "--keys" in output and "ok  " not in output
    assert token not in output


def test_an_expired_key_is_refused_and_a_new_key_works(guarded, token):
    deadline = time.monotonic() + 20 * LIFETIME
    while not refused_token(ask(guarded.url, token, b'{"describe":true}')):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    new = rotate(guarded.management, guarded.key_file)
    assert new != token and prediction(guarded.url, new)[0].ok


def test_the_command_writes_a_new_key_that_only_the_owner_can_read(guarded, token, tmp_path):
    out = tmp_path / "token"
    options = ["token", "--management", guarded.management, "--keys", str(guarded.key_file)]
    done = CliRunner().invoke(app, [*options, "--out", str(out)])
    assert done.exit_code == 0 and out.stat().st_mode & 0o777 == 0o600
    new = out.read_text().strip()
    assert new not in done.output and new == key(guarded.key_file, "inference") != token
    assert refused_token(ask(guarded.url, token, b'{"describe":true}'))  # the old key no longer works
    printed = CliRunner().invoke(app, options).output.strip()
    assert printed == key(guarded.key_file, "inference") != new


def test_clients_that_read_the_file_lose_no_request_when_keys_change(guarded, token, tmp_path):
    """Several threads send requests while the key changes again and again: each request is answered."""
    file, finished = tmp_path / "token", threading.Event()
    file.write_text(token)
    retry = Retry(attempts=8, first=0.05, longest=1.0)

    def send_requests(_: int) -> int:
        answered = 0
        with Client(guarded.url, token=file, layout=54, retry=retry) as client:
            while not (answered and finished.is_set()):
                assert client.predict(POINTS).gloss
                answered += 1
        return answered

    options = ["token", "--management", guarded.management, "--keys", str(guarded.key_file), "--out", str(file)]
    with ThreadPoolExecutor(3) as pool:
        running = pool.map(send_requests, range(3))
        try:
            keys = set()
            for _ in range(8):
                assert CliRunner().invoke(app, options).exit_code == 0
                keys.add(file.read_text())
        finally:
            finished.set()
        assert all(answered > 0 for answered in running) and len(keys) == 8
    with pytest.raises(RequestError, match="token"), Client(guarded.url, token="x", layout=54) as one:
        one.predict(POINTS)


def test_a_token_is_checked_when_the_request_is_complete(guarded, token):
    """If the key changes before the whole body has arrived, the request is refused."""
    connection = http.client.HTTPConnection("127.0.0.1", guarded.ports[0], timeout=60)
    body = b'{"describe":true}'
    connection.putrequest("POST", f"/predictions/{NAME}")
    for name, value in {"Authorization": f"Bearer {token}", "Content-Length": len(body)}.items():
        connection.putheader(name, str(value))
    connection.endheaders(body[:5])
    rotate(guarded.management, guarded.key_file)
    connection.send(body[5:])
    answer = connection.getresponse()
    assert answer.status == 400 and b"InvalidKeyException" in answer.read()
    connection.close()


def test_a_key_file_of_another_server_is_reported(guarded, tmp_path):
    other = tmp_path / "key_file.json"
    other.write_text('{"API": {"key": "12345678"}, "inference": {"key": "x"}}')
    with pytest.raises(SpoterError, match="API key"):
        rotate(guarded.management, other)
    assert send(guarded.ports[0], "GET", "/ping").status == 400


def test_config_properties_binds_all_apis_to_loopback():
    """For a TorchServe started by hand; `spoter serve` and the image set the addresses themselves."""
    lines = (ROOT / "config.properties").read_text().splitlines()
    settings = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    for name in ("inference_address", "management_address", "metrics_address"):
        assert settings[name].startswith("http://127.0.0.1:")
    assert not any(name.startswith("grpc_") and name.endswith("_address") for name in settings)
    assert settings["enable_model_api"] == "false"
