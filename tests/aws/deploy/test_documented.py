"""The commands of README.md and docs/deploy.md that need no account are run: bash blocks, against AWS on loopback."""

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
DOCUMENTS = ("README.md", GUIDE)
PYTHON = ".venv/bin/python "
MAKE = ("make deploying", "make lambda", "make lambda-proxy")  # what they run has tests of its own


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


def test_what_the_readme_shows_is_run_with_what_the_guide_shows():
    assert lines("README.md") and set(lines("README.md")) <= set(lines(GUIDE))


def test_an_endpoint_from_nothing_and_back_to_nothing(ready, local_endpoint, monkeypatch):
    """What answers behind the endpoint is SageMaker's real container code."""
    monkeypatch.setenv("SPOTER_DEPLOY_POLL", "0")
    ready.container = over_http(f"{local_endpoint.container.root}/invocations")
    commands = [line for line in lines(GUIDE) if line.startswith(f"{PYTHON}deploy.py") and "--local" not in line]
    dry, deploy, invoke, status, delete = [ask(line, stdin="y\n") for line in commands]
    assert "create_endpoint" in dry
    assert deploy.startswith("endpoint  spoter\n")
    assert json.loads(invoke)["instances"][0]["gloss"] == "HALLO"
    assert "InService" in status
    assert "removed endpoint spoter" in delete
    assert ready.client("sagemaker").list_endpoints()["Endpoints"] == []
    assert ready.client("s3").list_buckets()["Buckets"] == []


def test_without_an_account(cloud):
    """The variables that are shown let an unchanged boto3 find it, and it ends with Ctrl-C."""
    (start,) = [line for line in lines(GUIDE) if "--local" in line]
    port = str(free_port())
    environ = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    process = subprocess.Popen(
        here("exec " + start.replace("9100", port)),
        cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        greeting = ""
        for line in process.stdout:
            greeting += line
            if line.startswith("Ctrl-C"):
                break
        assert '"gloss":"HALLO"' in greeting, greeting
        shown = [line for line in lines(GUIDE) if line.startswith(("export ", f"{PYTHON}-c"))]
        said = ask("\n".join(shown).replace("9100", port), environ=environ)
        assert json.loads(said)["instances"][0]["gloss"] == "HALLO"
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(60) == 0
    finally:
        end_process_tree(process)
