"""Start and end of a local endpoint: next to others, with errors, and without leftovers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
from pathlib import Path

import boto3
import pytest

from spoter.aws.choices import EntryPoint
from spoter.aws.local.container import unpack
from spoter.aws.local.endpoint import LocalEndpoint, line_printer
from spoter.errors import SpoterError
from spoter.ops.ports import LOOPBACK
from spoter.processes import session_members
from spoter.torchserve.process import StartError
from tests import ROOT
from tests.aws.local.fixtures import invoke, runtime_client

pytestmark = pytest.mark.server

SAMPLE = (ROOT / "samples" / "hallo.json").read_bytes()


def pack(tree: Path, path: Path) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        archive.add(tree, arcname="")
    return path


@pytest.fixture
def tree(archive, tmp_path) -> Path:
    """The unpacked files of the archive, which a test may change."""
    unpack(archive, tmp_path / "tree")
    return tmp_path / "tree"


def test_endpoints_do_not_affect_each_other(local_endpoint, archive):
    """The second endpoint starts and ends while the first one runs."""
    with LocalEndpoint(archive, "other", workers=1) as endpoint:
        processes = session_members(endpoint.container.leader)
        assert len(processes) >= 3  # the launcher, Java, a worker
        folder = endpoint.container.folder
        other = boto3.client("sagemaker-runtime", endpoint_url=endpoint.url, **endpoint.credentials)
        request = {"Body": SAMPLE, "ContentType": "application/json"}
        assert other.invoke_endpoint(EndpointName="other", **request)["Body"].read()
        listening = {c.laddr for p in processes for c in p.net_connections("tcp") if c.status == "LISTEN"}
        assert listening and {address.ip.removeprefix("::ffff:") for address in listening} == {LOOPBACK}
    assert not any(process.is_running() and process.status() != "zombie" for process in processes)
    assert not folder.exists()
    assert invoke(runtime_client(local_endpoint), SAMPLE, "application/json")[0] == 200


@pytest.mark.parametrize("entry_point", EntryPoint)
def test_model_that_cannot_be_loaded_is_reported(tree, tmp_path, entry_point):
    (tree / "config.json").write_text("{}")
    endpoint = LocalEndpoint(pack(tree, tmp_path / "model.tar.gz"), workers=1, entry_point=entry_point)
    with pytest.raises(StartError, match=r"config.json"), endpoint:
        pass
    assert session_members(endpoint.container.leader) == []
    assert not endpoint.container.folder.exists()


def test_batches_are_refused_with_entry_point_functions(archive):
    options = {"entry_point": EntryPoint.functions, "environ": {"SAGEMAKER_TS_BATCH_SIZE": "4"}}
    with pytest.raises(StartError, match="SAGEMAKER_TS_BATCH_SIZE=4"), LocalEndpoint(archive, **options):
        pass


@pytest.mark.parametrize("content", [None, b"no archive", "cut"])
def test_invalid_archive_is_reported(archive, tmp_path, content):
    path = tmp_path / "model.tar.gz"
    if content is not None:
        path.write_bytes(archive.read_bytes()[:10_000] if content == "cut" else content)
    with pytest.raises(SpoterError, match=r"model\.tar\.gz: "), LocalEndpoint(path):
        pass


@pytest.mark.parametrize("name", ["", "-x", "a--", "a_b", "ü", "a" * 64, "a/b"])
def test_invalid_endpoint_name_is_refused(archive, name):
    with pytest.raises(SpoterError, match="endpoint name"):
        LocalEndpoint(archive, name)


def test_busy_port_is_named(archive):
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SpoterError, match=f"port {port} "), LocalEndpoint(archive, port=port):
            pass


class LocalServer:
    """`serve_local` in a separate process, as in `spoter deploy --local`."""

    def __init__(self, archive: Path, logs: Path, temp: Path):
        program = (
            "import sys; from pathlib import Path; from spoter.aws.local.endpoint import serve_local\n"
            "sys.exit(serve_local(Path(sys.argv[1]), workers=1, logs=Path(sys.argv[2])))"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, archive, logs],
            cwd=ROOT, env=os.environ | {"TMPDIR": str(temp)}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip

    def wait(self) -> tuple[int, str, str]:
        out, errors = self.process.communicate(timeout=120)
        return self.process.returncode, out, errors


def send_partial_request(url: str) -> socket.socket:
    """Send an incomplete request and return its connection."""
    host, port = url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)))
    connection.sendall(b"POST /endpoints/spoter/invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
    return connection


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serves_until_a_signal(archive, tmp_path, scratch, number):
    server = LocalServer(archive, tmp_path / "logs", scratch)
    try:
        greeting = ""
        for line in server.process.stdout:
            greeting += line
            if line.startswith("Ctrl-C"):
                break
        lines = greeting.splitlines()
        exported = next(line for line in lines if "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME=" in line)
        prediction = json.loads(next(line for line in lines if line.startswith("{")))
        client = boto3.client("sagemaker-runtime", endpoint_url=exported.partition("=")[2], **LocalEndpoint.credentials)
        answer = client.invoke_endpoint(EndpointName="spoter", Body=SAMPLE, ContentType="application/json")
        assert json.load(answer["Body"]) == prediction
        closed, idle = (send_partial_request(exported.partition("=")[2]) for _ in range(2))
        closed.close()
        assert (tmp_path / "logs" / "model_log.log").is_file()
    finally:
        server.process.send_signal(number)
    status, _, errors = server.wait()
    idle.close()
    assert (status, errors.strip().splitlines()[-1]) == (0, "stopping")
    assert "Traceback" not in errors  # because of clients with incomplete requests
    assert list(scratch.iterdir()) == []  # its temporary folder was removed


@pytest.fixture
def scratch(tmp_path_factory):
    """A temporary folder with a short path, for TorchServe's sockets."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="spoter-test-") as folder:
        yield Path(folder)


def test_missing_archive_exits_with_2(tmp_path, scratch):
    status, out, errors = LocalServer(tmp_path / "nowhere.tar.gz", tmp_path / "logs", scratch).wait()
    assert (status, out) == (2, "")
    assert errors.strip().splitlines()[-1].startswith("spoter deploy: ") and "No such file" in errors
    assert "Traceback" not in errors


def test_failed_start_exits_with_1_and_prints_the_cause(tree, tmp_path, scratch):
    shutil.copy(ROOT / "samples" / "hallo.json", tree / "meaning.json")
    server = LocalServer(pack(tree, tmp_path / "model.tar.gz"), tmp_path / "logs", scratch)
    status, out, errors = server.wait()
    assert (status, out) == (1, "") and "meaning.json" in errors
    assert list(scratch.iterdir()) == []


def test_line_printer_limits_the_details_of_a_step(capsys):
    report = line_printer()
    for text in ("installing: pip", "installing: Collecting torch", "installing: Collecting numpy", "starting"):
        report(text)
    assert capsys.readouterr().err.splitlines() == ["installing: pip", "starting"]
    report = line_printer(0)
    report("installing: Collecting torch")
    report("installing: Collecting numpy")
    assert len(capsys.readouterr().err.splitlines()) == 2
