"""The commands of README.md and docs/deploy.md that need no account are run: bash blocks, against AWS on loopback."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys

import pytest
from containers import over_http

from aws.deployment.settings import ROOT
from handler.process import end_session, free_port

DOCUMENTS = ("README.md", "docs/deploy.md")
PYTHON = ".venv/bin/python "
MAKE = ("make deploying", "make lambda", "make lambda-door")  # what they run has tests of its own


def lines(document: str) -> list[str]:
    """Return the lines of a document's bash blocks about deploying."""
    blocks = re.findall(r"^```bash\n(.*?)^```", (ROOT / document).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    chosen = blocks if document.startswith("docs") else [block for block in blocks if "deploy.py" in block]
    return [line for block in chosen for line in block.splitlines()]


def here(line: str) -> list[str]:
    return ["bash", "-ec", line.replace(PYTHON, f"'{sys.executable}' ")]


def ask(line: str, stdin: str = "", environ: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        here(line), cwd=ROOT, env=environ, input=stdin, capture_output=True, text=True, timeout=300
    )  # fmt: skip
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_line_is_of_a_kind_that_is_run_here(document):
    kinds = (f"{PYTHON}deploy.py", f"{PYTHON}-c", "export ")
    assert [line for line in lines(document) if line not in MAKE and not line.startswith(kinds)] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_an_endpoint_from_nothing_and_back_to_nothing(ready, local_endpoint, document, monkeypatch):
    """What answers behind the endpoint is SageMaker's real container code."""
    monkeypatch.setenv("SPOTER_DEPLOY_POLL", "0")
    ready.container = over_http(f"{local_endpoint.container.root}/invocations")
    said = [
        (line, ask(line, stdin="y\n"))
        for line in lines(document)
        if line.startswith(f"{PYTHON}deploy.py") and "--local" not in line
    ]
    assert "create_endpoint" in said[0][1] and "--dry-run" in said[0][0]
    assert said[1][1].startswith("endpoint  spoter\n")
    assert json.loads(said[2][1])["instances"][0]["gloss"] == "HALLO"
    assert "removed" in said[-1][1] and said[-1][0].endswith("delete")
    assert ready.client("sagemaker").list_endpoints()["Endpoints"] == []
    assert ready.client("s3").list_buckets()["Buckets"] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_without_an_account(cloud, document):
    """Also: the variables that are shown do let an unchanged boto3 find it, and it ends with Ctrl-C."""
    (start,) = [line for line in lines(document) if "--local" in line]
    port = str(free_port())
    environ = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    process = subprocess.Popen(
        here("exec " + (start.replace("9100", port) if "--port" in start else f"{start} --port {port}")),
        cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        greeting = ""
        for line in process.stdout:
            greeting += line
            if line.startswith("Ctrl-C"):
                break
        assert '"gloss":"HALLO"' in greeting, greeting
        shown = [line for line in lines(document) if line.startswith(("export ", f"{PYTHON}-c"))]
        if shown:
            said = ask("\n".join(shown).replace("9100", port), environ=environ)
            assert json.loads(said)["instances"][0]["gloss"] == "HALLO"
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(60) == 0
    finally:
        end_session(process)
