"""docker/push.sh with the real AWS CLI, moto's ECR over HTTP, and a fake docker."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from spoter.ops.ports import free_port
from tests import ROOT

PUSH = ROOT / "docker" / "push.sh"
ID = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
# A fake docker, because moto has no registry: it records its arguments and the password on stdin.
DOCKER = f"""#!/bin/sh
echo "$*" >> "$CALLS"
case "$1 $2" in
    "image inspect") [ -z "$NO_IMAGE" ] && echo {ID} ;;
    login*) cat >> "$CALLS" ;;
esac
"""


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """The URL of moto's server in a separate process."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(600):
            assert process.poll() is None
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """Environment variables with the fake docker and without AWS configuration."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "docker").write_text(DOCKER)
    (tools / "docker").chmod(0o755)
    calls = tmp_path / "calls"
    calls.touch()
    no_configuration = {"AWS_CONFIG_FILE": "/nonexistent", "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent"}
    return (
        {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SPOTER_"))}
        | no_configuration
        | {"AWS_EC2_METADATA_DISABLED": "true", "PATH": f"{tools}:{os.environ['PATH']}", "CALLS": str(calls)}
    )


@pytest.fixture
def ecr(environ: dict[str, str], endpoint: str):
    """A client of an empty ECR; `environ` reaches it too."""
    if shutil.which("aws") is None:
        pytest.skip("the AWS CLI is not installed: docker/push.sh cannot be tested")
    environ |= {"AWS_ENDPOINT_URL": endpoint, "AWS_REGION": "eu-central-1"}
    environ |= {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
    urllib.request.urlopen(urllib.request.Request(f"{endpoint}/moto-api/reset", method="POST")).close()
    return boto3.client(
        "ecr", "eu-central-1", endpoint_url=endpoint, aws_access_key_id="testing", aws_secret_access_key="testing"
    )


def push(environ: dict[str, str], *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([PUSH, *arguments], env=environ, capture_output=True, text=True, timeout=300)


def assert_refused(done: subprocess.CompletedProcess, *parts: str, status: int = 2) -> None:
    assert done.returncode == status, done.stderr
    assert done.stderr.startswith("push.sh: ") and done.stderr.count("\n") == 1, done.stderr
    assert all(part in done.stderr for part in parts), done.stderr


def test_creates_the_repository_pushes_once_and_prints_the_deploy_command(ecr, environ):
    from spoter import __version__

    done = push(environ)
    assert done.returncode == 0, done.stderr
    [repository] = ecr.describe_repositories()["repositories"]
    assert repository["repositoryName"] == "spoter"
    assert repository["imageTagMutability"] == "IMMUTABLE"
    assert repository["imageScanningConfiguration"] == {"scanOnPush": True}
    uri = f"{repository['repositoryUri']}:{__version__}-0123456789ab"
    assert done.stdout.splitlines()[-1] == f"spoter deploy --image-uri {uri}"
    host = repository["repositoryUri"].split("/")[0]
    calls = Path(environ["CALLS"]).read_text().splitlines()
    assert f"login --username AWS --password-stdin {host}" in calls
    password = calls[calls.index(f"login --username AWS --password-stdin {host}") + 1]
    assert password and password not in done.stdout + done.stderr
    assert calls[-2:] == [f"tag spoter:{__version__} {uri}", f"push {uri}"]

    manifest = '{"schemaVersion":2,"config":{"digest":"sha256:00"},"layers":[]}'
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    tag = uri.rpartition(":")[2]
    ecr.put_image(repositoryName="spoter", imageManifest=manifest, imageManifestMediaType=kind, imageTag=tag)
    Path(environ["CALLS"]).write_text("")
    second = push(environ)
    assert second.returncode == 0, second.stderr
    assert second.stdout.splitlines()[-1] == f"spoter deploy --image-uri {uri}"
    assert "push" not in Path(environ["CALLS"]).read_text()


def test_existing_repository_is_not_changed(ecr, environ):
    ecr.create_repository(repositoryName="team/signs", imageTagMutability="MUTABLE")
    done = push(environ, "team/signs")
    assert done.returncode == 0, done.stderr
    [repository] = ecr.describe_repositories()["repositories"]
    assert repository["imageTagMutability"] == "MUTABLE"
    assert f"{repository['repositoryUri']}:" in done.stdout


def test_invalid_repository_name_is_reported_with_awss_error(ecr, environ):
    done = push(environ, "No Capitals")
    assert done.returncode == 1
    assert done.stderr.startswith("push.sh: ecr ")


def test_missing_credentials(ecr, environ):
    del environ["AWS_ACCESS_KEY_ID"], environ["AWS_SECRET_ACCESS_KEY"]
    assert_refused(push(environ), "aws configure")


def test_missing_region(ecr, environ):
    del environ["AWS_REGION"]
    assert_refused(push(environ), "AWS_REGION")


def test_missing_image(ecr, environ):
    assert_refused(push(environ | {"NO_IMAGE": "1"}), "image spoter:", "docker/build.sh")


def test_missing_container_tool(ecr, environ):
    assert_refused(push(environ | {"SPOTER_IMAGE_TOOL": "no-such-tool"}), "no-such-tool")


def test_missing_aws_cli(environ, tmp_path):
    for name in ("bash", "dirname", "basename", "env"):
        (tmp_path / "tools" / name).symlink_to(shutil.which(name))
    assert_refused(push(environ | {"PATH": str(tmp_path / "tools")}), "AWS CLI")


def test_too_many_arguments(environ):
    assert_refused(push(environ, "one", "two"), "2 arguments")
