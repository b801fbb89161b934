"""The commands of docs/deploy.md and docs/lambda.md that need no account run, with a double of AWS on loopback."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys

import pytest

from spoter.ops.ports import free_port
from spoter.processes import end_process_tree
from tests import ROOT
from tests.aws.deploy.containers import over_http

GUIDE = "docs/deploy.md"
MAKE = ("make deploying", "make lambda", "make lambda-proxy")  # tests/aws/functions and the Makefile's own tests
# The environment of these tests in place of an activated one.
PROGRAMS = {"spoter ": f"'{sys.executable}' -m spoter ", "python ": f"'{sys.executable}' "}


def read_commands(document: str) -> list[str]:
    """Return the lines of a document's bash blocks."""
    text = (ROOT / document).read_text(encoding="utf-8")
    blocks = re.findall(r"^```bash\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.splitlines()]


def here(script: str) -> str:
    """Return lines of a document so that they run in this environment."""
    for name, program in PROGRAMS.items():
        script = re.sub(rf"^{name}", lambda _, program=program: program, script, flags=re.MULTILINE)
    return script


def run(script: str, stdin: str = "", environ: dict[str, str] | None = None) -> str:
    command = ["bash", "-ec", here(script)]
    done = subprocess.run(command, cwd=ROOT, env=environ, input=stdin, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("document", [GUIDE, "docs/lambda.md"])
def test_every_command_is_one_that_is_run_here(document):
    kinds = ("spoter deploy", "python -c ", "export ")
    lines = read_commands(document)
    assert lines and [line for line in lines if line not in MAKE and not line.startswith(kinds)] == []


def test_an_endpoint_is_deployed_and_removed(ready, local_endpoint, monkeypatch):
    """SageMaker's real container code answers behind the endpoint."""
    monkeypatch.setenv("SPOTER_DEPLOY_POLL", "0")
    ready.container = over_http(f"{local_endpoint.container.root}/invocations")
    commands = [line for line in read_commands(GUIDE) if line.startswith("spoter deploy") and "--local" not in line]
    dry, deploy, invoke, status, delete = [run(line, stdin="y\n") for line in commands]
    assert "create_endpoint" in dry
    assert deploy.startswith("endpoint  spoter\n")
    assert json.loads(invoke)["instances"][0]["gloss"] == "HALLO"
    assert "InService" in status
    assert "removed endpoint spoter" in delete
    assert ready.client("sagemaker").list_endpoints()["Endpoints"] == []
    assert ready.client("s3").list_buckets()["Buckets"] == []


def test_without_an_account(cloud):
    """With the variables that the guide shows, an unchanged boto3 finds the local endpoint; Ctrl-C ends it."""
    (start,) = [line for line in read_commands(GUIDE) if "--local" in line]
    port = str(free_port())
    environ = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    process = subprocess.Popen(
        ["bash", "-ec", f"exec {here(start.replace('9100', port))}"],
        cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        greeting = ""
        for line in process.stdout:
            greeting += line
            if line.startswith("Ctrl-C"):
                break
        assert '"gloss":"HALLO"' in greeting, greeting
        client = [line for line in read_commands(GUIDE) if line.startswith(("export ", "python -c "))]
        answer = run("\n".join(client).replace("9100", port), environ=environ)
        assert json.loads(answer)["instances"][0]["gloss"] == "HALLO"
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(60) == 0
    finally:
        end_process_tree(process)
