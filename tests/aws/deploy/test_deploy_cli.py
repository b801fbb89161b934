"""`python deploy.py` as a user runs it: exit status, stdout, stderr without tracebacks."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import pairwise

import pytest

from tests import ROOT
from tests.aws.deploy.deploying import changes, endpoint, resource_names


def command(*arguments: str, **variables: str) -> tuple[list[str], dict[str, str]]:
    environment = os.environ | {"SPOTER_DEPLOY_POLL": "0", "OMP_NUM_THREADS": "1", "COLUMNS": "120"} | variables
    return [sys.executable, str(ROOT / "deploy.py"), *arguments], environment


def cli(*arguments: str, stdin: str = "", **variables: str) -> subprocess.CompletedProcess:
    line, environment = command(*arguments, **variables)
    done = subprocess.run(line, env=environment, input=stdin, capture_output=True, text=True, timeout=120)
    assert "Traceback" not in done.stdout + done.stderr, done.stderr
    return done


@pytest.fixture
def recording_port() -> Iterator[tuple[str, list]]:
    """The URL of a port that never answers, and the first line of each connection to it."""
    first_lines: list = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection, connection.makefile("rb") as stream:
                    first_lines.append(stream.readline())

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", first_lines
        server.shutdown(socket.SHUT_RDWR)


def test_help_imports_nothing_slow():
    line, environment = command("--help")
    line[1:1] = ["-X", "importtime"]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    for option in ("--dry-run", "--local", "--autoscale", "status", "invoke", "logs", "delete", "[default: spoter]"):
        assert option in done.stdout
    for package in ("boto3", "sagemaker", "torch", "msgspec", "numpy", "starlette"):
        assert f"| {package}\n" not in done.stderr.replace(" ", "").replace("|", "| "), package


def test_deploy_status_invoke_and_delete(ready):
    done = cli()
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "endpoint  spoter"
    assert "/endpoints/spoter/invocations" in done.stdout and "undo" in done.stdout
    assert "uploading the archive" in done.stderr and "uploading" not in done.stdout
    ready.calls.clear()
    second = cli("--verbose")
    assert (second.returncode, second.stdout, changes(ready)) == (0, done.stdout, [])
    assert 'sagemaker describe_endpoint {"EndpointName": "spoter"}' in second.stderr

    shown = cli("status")
    assert shown.returncode == 0 and "InService" in shown.stdout
    answer = cli("invoke", "samples/hallo.json", "--top-k", "1")
    assert answer.returncode == 0 and '"gloss":"HALLO"' in answer.stdout.replace(" ", ""), answer.stderr

    declined = cli("delete", stdin="n\n")
    assert declined.returncode == 1 and resource_names(ready)["endpoints"] == ["spoter"]
    deleted = cli("delete", "--yes")
    assert deleted.returncode == 0, deleted.stderr
    assert not any(resource_names(ready).values())
    assert "nothing to remove" in cli("delete").stdout
    assert cli("status").returncode == 2


def test_options_before_and_after_the_command_are_used(ready):
    assert "endpoint one in eu-central-1" in cli("--name", "one", "status").stderr
    assert (
        "endpoint two in eu-west-1" in cli("--name", "one", "status", "--name", "two", "--region", "eu-west-1").stderr
    )


def test_failure_exits_with_1_and_prints_the_reason(ready):
    ready.sagemaker.fail("CreateEndpoint", "did not pass the ping health check", ("No module named 'msgspec'",))
    done = cli()
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.strip().splitlines()[-1].startswith("spoter deploy: the deployment failed")
    assert "did not pass the ping health check" in done.stderr and "No module named 'msgspec'" in done.stderr


@pytest.mark.slow
def test_dry_run_makes_no_connections_and_needs_no_credentials(recording_port):
    url, connections = recording_port
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment |= {"AWS_ENDPOINT_URL": url, "AWS_EC2_METADATA_SERVICE_ENDPOINT": url, "AWS_CONFIG_FILE": os.devnull}
    environment |= {
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "HOME": os.devnull,
        "HTTPS_PROXY": url,
        "HTTP_PROXY": url,
    }
    line, _ = command("--dry-run", "--region", "eu-central-1", "--autoscale", "1:4")
    done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert connections == []
    verbs = [" ".join(shown.split()[:2]) for shown in done.stdout.splitlines()]
    for earlier, later in pairwise(ORDER):
        assert verbs.index(earlier) < verbs.index(later), (earlier, later)
    assert "first deployment" in done.stderr
    # A real run connects to the same port: this shows that the check can fail.
    line, _ = command("--region", "eu-central-1")
    del environment["HTTPS_PROXY"], environment["HTTP_PROXY"]
    failed = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=120)
    assert failed.returncode == 2 and connections
    assert "found no AWS credentials" in failed.stderr and "Traceback" not in failed.stderr


ORDER = (
    "sts get_caller_identity",
    "iam get_role",
    "s3 create_bucket",
    "s3 put_object",
    "sagemaker create_model",
    "sagemaker create_endpoint_config",
    "sagemaker create_endpoint",
    "sagemaker-runtime invoke_endpoint",
    "application-autoscaling register_scalable_target",
)


def test_closed_pipe_ends_the_command_quietly():
    """As in `deploy.py --dry-run | head`, the pipe is closed in the middle of the deployment."""
    line, environment = command("--dry-run", "--region", "eu-central-1")
    process = subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while "put_object" not in process.stdout.readline():
        assert process.poll() is None
    process.stdout.close()
    error = process.stderr.read()
    assert process.wait(60) == 1
    assert "Traceback" not in error and "failed" not in error and "Broken pipe" not in error


def test_aws_region_overrides_aws_default_region(cloud):
    regions = {"AWS_REGION": "eu-west-3", "AWS_DEFAULT_REGION": "eu-west-2"}
    assert "no endpoint spoter in eu-west-3" in cli("status", **regions).stderr
    assert "no endpoint spoter in eu-west-1" in cli("status", "--region", "eu-west-1", **regions).stderr


def test_invalid_aws_endpoint_url_is_reported(cloud):
    done = cli(AWS_ENDPOINT_URL="foo")
    assert done.returncode == 2 and "Invalid endpoint: foo" in done.stderr


@pytest.mark.server
def test_local_container_gets_the_variables_of_the_settings(tmp_path):
    """The variable makes the start with entry point functions fail, which shows that it arrives."""
    (tmp_path / "deploy.toml").write_text('[environment]\nSAGEMAKER_TS_BATCH_SIZE = "4"')
    done = cli("--local", "--entry-point", "functions", "--settings", str(tmp_path / "deploy.toml"))
    assert done.returncode == 1 and "found SAGEMAKER_TS_BATCH_SIZE=4" in done.stderr


def test_ctrl_c_while_waiting_removes_nothing_and_the_next_run_resumes(ready):
    ready.sagemaker.patience = 200
    line, environment = command(SPOTER_DEPLOY_POLL="0.05")
    process = subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not ready.called("CreateEndpoint") and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert "interrupted" in error and "spoter deploy delete" in error
    assert "Traceback" not in error
    assert resource_names(ready)["endpoints"] == ["spoter"]
    second = cli()
    assert second.returncode == 0, second.stderr
    assert len(ready.called("CreateEndpoint")) == 1
    assert endpoint(ready)["EndpointStatus"] == "InService"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--instance-count", "0"], "instance-count"),
        (["--tag", "novalue"], "KEY=VALUE"),
        (["--settings", "no.toml"], "no.toml: No such file"),
        (["--mode", "serverless", "--capture", "10"], "serverless"),
        (["--instance-type", "ml.c7g.large"], "ml.c7g.large"),
        (["--model", "no/folder"], "no/folder"),
        (["--role", "nobody"], "role nobody"),
        (["invoke", "no.json"], "no.json"),
        (["invoke", "deploy.py"], ".json"),  # not landmarks: the message lists the accepted extensions
        (["--tag", "team=signs", "status"], "endpoint spoter"),
        (["--autoscale", "4"], "MIN:MAX"),
        (["--region", "moon-1"], "moon-1"),
        (["--profile", "nobodys"], "aws configure list-profiles"),
        (["--bucket", "No Bucket"], "at bucket"),
        (["--dry-run", "delete", "--yes"], "--dry-run"),
        (["--local", "status"], "--local"),
    ],
)
def test_invalid_input_exits_with_2(ready, arguments, message):
    ready.calls.clear()
    done = cli(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr and changes(ready) == []


def test_original_settings_file_is_read_with_a_warning(ready, tmp_path):
    file = tmp_path / "config.json"
    file.write_text('{"credential": {"id": "AKIAX", "key": "s", "region": "eu-west-3", "role": "nobody"}}')
    done = cli("--settings", str(file))
    assert done.returncode == 2 and "role nobody" in done.stderr
    assert "warning:" in done.stderr and "AKIAX" not in done.stderr


def test_missing_packages_are_named(tmp_path):
    """The interpreter of the tests, which a sitecustomize module prevents from finding AWS's packages."""
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as u\n"
        "real = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name in ('boto3', 'sagemaker') else real(name, *rest)\n"
    )
    done = cli("--dry-run", PYTHONPATH=str(tmp_path))
    assert done.returncode == 2
    assert "boto3, sagemaker not installed" in done.stderr and "make deploying" in done.stderr
