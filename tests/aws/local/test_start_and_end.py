"""A local endpoint comes up beside others or says why not, and leaves nothing behind."""

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


def packed(tree: Path, to: Path) -> Path:
    with tarfile.open(to, "w:gz") as archive:
        archive.add(tree, arcname="")
    return to


@pytest.fixture
def tree(archive, tmp_path) -> Path:
    """The archive's files, to be changed."""
    unpack(archive, tmp_path / "tree")
    return tmp_path / "tree"


def test_it_minds_no_torchserve_but_its_own(local_endpoint, archive):
    """Another one is up all the while: it is neither taken for this one's, nor ended with it."""
    with LocalEndpoint(archive, "other", workers=1) as endpoint:
        family = session_members(endpoint.container.leader)
        assert len(family) >= 3  # the launcher, Java, a worker
        folder = endpoint.container.folder
        other = boto3.client("sagemaker-runtime", endpoint_url=endpoint.url, **endpoint.credentials)
        sent = {"Body": SAMPLE, "ContentType": "application/json"}
        assert other.invoke_endpoint(EndpointName="other", **sent)["Body"].read()
        listening = {c.laddr for p in family for c in p.net_connections("tcp") if c.status == "LISTEN"}
        assert listening and {address.ip.removeprefix("::ffff:") for address in listening} == {LOOPBACK}
    assert not any(process.is_running() and process.status() != "zombie" for process in family)
    assert not folder.exists()
    assert invoke(runtime_client(local_endpoint), SAMPLE, "application/json")[0] == 200


@pytest.mark.parametrize("entry_point", EntryPoint)
def test_a_model_that_cannot_be_loaded_is_said(tree, tmp_path, entry_point):
    (tree / "config.json").write_text("{}")
    endpoint = LocalEndpoint(packed(tree, tmp_path / "model.tar.gz"), workers=1, entry_point=entry_point)
    with pytest.raises(StartError, match=r"config.json"), endpoint:
        pass
    assert session_members(endpoint.container.leader) == []
    assert not endpoint.container.folder.exists()


def test_batches_are_refused_where_they_cannot_be_answered(archive):
    options = {"entry_point": EntryPoint.functions, "environ": {"SAGEMAKER_TS_BATCH_SIZE": "4"}}
    with pytest.raises(StartError, match="found SAGEMAKER_TS_BATCH_SIZE=4"), LocalEndpoint(archive, **options):
        pass


@pytest.mark.parametrize("content", [None, b"no archive", "cut"])
def test_what_is_no_archive_is_said(archive, tmp_path, content):
    path = tmp_path / "model.tar.gz"
    if content is not None:
        path.write_bytes(archive.read_bytes()[:10_000] if content == "cut" else content)
    with pytest.raises(SpoterError, match=r"model\.tar\.gz: .*build_mar"), LocalEndpoint(path):
        pass


@pytest.mark.parametrize("name", ["", "-x", "a--", "a_b", "ü", "a" * 64, "a/b"])
def test_a_name_that_no_endpoint_can_have_is_refused(archive, name):
    with pytest.raises(SpoterError, match="found endpoint name"):
        LocalEndpoint(archive, name)


def test_a_busy_port_is_named(archive):
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SpoterError, match=f"port {port} is in use"), LocalEndpoint(archive, port=port):
            pass


class Served:
    """`serve_local` in a process of its own, as deploy.py calls it."""

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

    def end(self) -> tuple[int, str, str]:
        out, errors = self.process.communicate(timeout=120)
        return self.process.returncode, out, errors


def started_request(url: str) -> socket.socket:
    """Begin a request and leave it at that."""
    host, port = url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)))
    connection.sendall(b"POST /endpoints/spoter/invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
    return connection


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_it_is_told_to_end(archive, tmp_path, scratch, number):
    served = Served(archive, tmp_path / "logs", scratch)
    try:
        greeting = ""
        for line in served.process.stdout:
            greeting += line
            if line.startswith("Ctrl-C"):
                break
        lines = greeting.splitlines()
        exported = next(line for line in lines if "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME=" in line)
        prediction = json.loads(next(line for line in lines if line.startswith("{")))
        client = boto3.client("sagemaker-runtime", endpoint_url=exported.partition("=")[2], **LocalEndpoint.credentials)
        answer = client.invoke_endpoint(EndpointName="spoter", Body=SAMPLE, ContentType="application/json")
        assert json.load(answer["Body"]) == prediction
        away, idle = (started_request(exported.partition("=")[2]) for _ in range(2))
        away.close()
        assert (tmp_path / "logs" / "model_log.log").is_file()
    finally:
        served.process.send_signal(number)
    status, _, errors = served.end()
    idle.close()
    assert (status, errors.strip().splitlines()[-1]) == (0, "stopping")
    assert "Traceback" not in errors  # on account of clients that do not send what they said they would
    assert list(scratch.iterdir()) == []  # its folder went with it


@pytest.fixture
def scratch(tmp_path_factory):
    """A temporary folder of a short path: TorchServe's sockets lie in it."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="spoter-test-") as folder:
        yield Path(folder)


def test_what_the_user_must_put_right_ends_with_2(tmp_path, scratch):
    status, out, errors = Served(tmp_path / "nowhere.tar.gz", tmp_path / "logs", scratch).end()
    assert (status, out) == (2, "")
    assert errors.strip().splitlines()[-1].startswith("spoter deploy: ") and "No such file" in errors
    assert "Traceback" not in errors


def test_what_failed_ends_with_1_and_the_cause(tree, tmp_path, scratch):
    shutil.copy(ROOT / "samples" / "hallo.json", tree / "meaning.json")
    served = Served(packed(tree, tmp_path / "model.tar.gz"), tmp_path / "logs", scratch)
    status, out, errors = served.end()
    assert (status, out) == (1, "") and "the worker did not start" in errors and "meaning.json" in errors
    assert list(scratch.iterdir()) == []


def test_without_a_terminal_each_step_is_a_line_and_details_are_few(capsys):
    say = line_printer()
    for text in ("making it: pip", "making it: Collecting torch", "making it: Collecting numpy", "starting"):
        say(text)
    assert capsys.readouterr().err.splitlines() == ["making it: pip", "starting"]
    say = line_printer(0)
    say("making it: Collecting torch")
    say("making it: Collecting numpy")
    assert len(capsys.readouterr().err.splitlines()) == 2
