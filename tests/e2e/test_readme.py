"""The bash, Python and JavaScript blocks of the documents in `PAGES` run, and print what the page shows.

The blocks of a page run in their order, in a copy of the checkout with an activated environment. `make serve …` and
`spoter serve …` start a server on free ports, which the blocks after it use; before the first one, they use a server of
models/dgs11. A block's output is compared with the fence that follows it:

- ```json after bash: the last line of the output, as JSON; of `spoter evaluate`, only its keys;
- ``` after bash, python or js: the whole output;
- any other fence, such as ```text, is an illustration.

A block that needs an account, a cluster or a file that a reader has to bring gets a fence without the language bash.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import pytest

from spoter.ops.ports import free_port
from tests import ROOT, videos
from tests.e2e.live import send, server_environment, wait_ready
from tests.training.datasets import generated_clips, write_hdf5

pytestmark = pytest.mark.server

PAGES = (
    "README.md",
    "docs/index.md",
    "docs/tutorial-recognize.md",
    "docs/tutorial-train.md",
    "docs/send-landmarks.md",
    "docs/client.md",
    "docs/convert.md",
    "docs/enroll.md",
    "docs/batch.md",
    "docs/video.md",
    "docs/formats.md",
    "docs/datasets.md",
    "docs/webcam.md",
    "docs/operations.md",
    "docs/security-setup.md",
    "docs/monitoring.md",
    "docs/replace.md",
    "docs/troubleshooting.md",
    "docs/scaling.md",
    "web/README.md",
)
"""The documents whose blocks are run here: add a page when its blocks can run this way."""

NOT_RUN_HERE = (
    "git clone",  # the repository is here
    "pip install",
    "make demo",  # tests/webpage
    "spoter demo",
    "make test",
    "make bench",  # also make bench-peers and bench-all: tests/benchmarks
    "make fuzz",  # test_fuzz.py
    "make attack",  # tests/stress
    "make sbom",  # tests/scripts/test_sbom.py
    "make audit",  # needs the internet
    "make image",  # make image-test
    "make lambda",  # also make lambda-proxy: tests/aws/functions
    "spoter deploy",  # tests/aws/deploy/test_documented.py
    "torchserve ",  # test_by_hand below
    "PYTHONPATH=$PWD/handler/worker_path torchserve ",
)
SERVE = ("make serve", "spoter serve")
PORTS = {"SPOTER_PORT": 8080, "SPOTER_MANAGEMENT_PORT": 8081, "SPOTER_METRICS_PORT": 8082}
DOCUMENTS = (ROOT / "README.md", ROOT / "web" / "README.md", *sorted((ROOT / "docs").glob("*.md")))
TRAINING_DATA = "docs/tutorial-train.md"  # its first Python block writes my-signs/


class Block(NamedTuple):
    language: str
    code: str
    shown_as: str  # "json", "" for text
    shown: str  # "" where the page shows no output


def read_blocks(page: str) -> list[Block]:
    text = (ROOT / page).read_text(encoding="utf-8")
    pattern = r"^```(bash|python|js)\n(.*?)^```\n(?:\n```(json|)\n(.*?)^```\n)?"
    return [Block(*found) for found in re.findall(pattern, text, re.DOTALL | re.MULTILINE)]


def read_commands(block: Block) -> list[str]:
    # Two epochs instead of sixty: no page shows figures that depend on them.
    code = block.code.replace("spoter train ", "spoter train --epochs 2 ")
    lines = code.replace("\\\n", " ").splitlines()
    return [line for line in lines if line and not line.startswith(("#", *NOT_RUN_HERE))]


JAVASCRIPT = [(page, block) for page in PAGES for block in read_blocks(page) if block.language == "js"]


@pytest.fixture(scope="module")
def checkout(scratch: Path) -> Path:
    """A copy of the files that git knows or would add, with this environment as its .venv, and files of a reader."""
    # An environment that is not up to date would be installed again from the copy, and then depend on it.
    stale = subprocess.run(["make", "--question", ".venv/dev.stamp"], cwd=ROOT, capture_output=True).returncode
    if stale or Path(sys.prefix).resolve() != (ROOT / ".venv").resolve():
        pytest.skip("the commands of the documents need the .venv that make creates, up to date: run make test")
    folder = scratch / "checkout"
    git = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / ".venv").symlink_to(sys.prefix)
    # One clip of each gloss by each signer: the documents' recipe is for a real model, and takes its time.
    write_hdf5(folder / "my-signs.hdf5", generated_clips(per_gloss=1))
    videos.sign(folder / "my-video.mp4")
    run_python(next(block for block in read_blocks(TRAINING_DATA) if block.language == "python").code, folder)
    return folder


def activated(checkout: Path) -> dict[str, str]:
    """Return the environment variables of a shell with the copy's environment, and free ports as the usual ones."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("SPOTER_", "TS_"))}
    path = f"{checkout / '.venv' / 'bin'}{os.pathsep}{clean['PATH']}"
    return clean | {"PATH": path} | {name: str(free_port()) for name in PORTS}


class Served:
    """A `make serve …` or `spoter serve …` of a document, on free ports."""

    def __init__(self, command: str, checkout: Path):
        environ = activated(checkout)
        self.ports = {PORTS[name]: int(environ[name]) for name in PORTS}
        self.guarded = "0.0.0.0" in command
        self.process = subprocess.Popen(
            re.sub(r"SPOTER_\w*PORT=\d+", "", command).split(),
            cwd=checkout, env=environ, stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        self.greeting = ""
        for line in self.process.stdout:
            self.greeting += line
            if line.startswith("Ctrl-C"):
                return
        raise AssertionError(f"{command} ended with {self.process.wait()}: {self.greeting}")

    def here(self, text: str) -> str:
        """Return commands or code with this server's ports in the place of the usual ones."""
        return re.sub(r":(808[012])\b", lambda port: f":{self.ports[int(port[1])]}", text)

    def environ(self, checkout: Path) -> dict[str, str]:
        return activated(checkout) | {"SPOTER_URL": f"http://127.0.0.1:{self.ports[8080]}"}  # for docs/tutorial.py

    def check(self) -> None:
        """Check that it answers, or asks for a token where the command turns tokens on."""
        body, headers = (ROOT / "samples/hallo.json").read_bytes(), {"Content-Type": "application/json"}
        assert send(self.ports[8080], "POST", "/predictions/spoter", body, headers).status == 200 + 200 * self.guarded
        assert ("TOKEN=" in self.greeting) == self.guarded

    def end(self) -> None:
        os.killpg(self.process.pid, signal.SIGINT)  # as a terminal does
        self.process.communicate(timeout=60)
        assert self.process.returncode in (0, -signal.SIGINT)  # depends on make's version


@pytest.fixture(scope="module")
def served(checkout: Path) -> Iterator[Served]:
    served = Served("make serve", checkout)
    yield served
    served.end()


def run_bash(script: str, checkout: Path, environ: dict[str, str] | None = None) -> str:
    return _run(["bash", "-ec", script], script, checkout, environ)


def run_python(code: str, checkout: Path) -> str:
    return _run([checkout / ".venv" / "bin" / "python", "-c", code], code, checkout)


def _run(command: list[object], what: str, checkout: Path, environ: dict[str, str] | None = None) -> str:
    environ = environ or activated(checkout)
    done = subprocess.run(command, cwd=checkout, env=environ, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{what}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def check_output(block: Block, printed: str) -> None:
    if not block.shown:
        return
    if block.shown_as != "json":
        assert printed == block.shown, block.code
        return
    answer, shown = json.loads(printed.splitlines()[-1]), json.loads(block.shown)
    if "spoter evaluate" in block.code:  # figures differ between machines
        answer, shown = set(answer), set(shown)
    assert answer == shown, block.code


@pytest.mark.parametrize("page", PAGES)
def test_commands_and_python_print_what_the_page_shows(page, checkout, served):
    server = served
    shutil.rmtree(checkout / "my-model", ignore_errors=True)  # another page's
    try:
        for block in read_blocks(page):
            if block.language == "python":
                check_output(block, run_python(server.here(block.code), checkout))
            elif block.language == "bash":
                printed = ""
                for serves, lines in groupby(read_commands(block), lambda line: line.startswith(SERVE)):
                    script = "\n".join(lines)
                    if not serves:
                        printed = run_bash(server.here(script), checkout, server.environ(checkout))
                    elif script != "make serve":
                        if server is not served:
                            server.end()
                        server = Served(script, checkout)
                        server.check()
                if printed:
                    check_output(block, printed)
    finally:
        if server is not served:
            server.end()


@pytest.mark.parametrize(("page", "block"), JAVASCRIPT)
def test_javascript_prints_what_the_page_shows(page, block, checkout, served, node):
    command = [node, "--input-type=module", "--eval", served.here(block.code)]
    check_output(block, _run(command, block.code, checkout))


def test_blocks_of_code_show_what_they_print():
    blocks = [block for page in PAGES for block in read_blocks(page) if block.language != "bash"]
    assert {block.language for block in blocks} == {"python", "js"}
    assert [block.code for block in blocks if not block.shown] == []


@pytest.mark.parametrize("page", PAGES)
def test_no_fence_looks_like_commands_and_is_not_run(page):
    assert re.findall(r"^```(sh|shell|console|py|javascript)$", (ROOT / page).read_text(), re.MULTILINE) == []


def test_make_serve_prints_the_answer_that_the_readme_shows(served):
    (hallo,) = [block.shown for block in read_blocks("README.md") if "curl" in block.code]
    assert json.loads(next(line for line in served.greeting.splitlines() if line.startswith("{"))) == json.loads(hallo)


INLINE_SERVE = sorted(
    {
        command
        for document in DOCUMENTS
        for command in re.findall(r"(?<!`)`(make serve [^`]+)`", document.read_text(encoding="utf-8"))
        # PIP_ARGS installs packages; a folder that does not exist and `…` stand for a reader's own
        if not re.search(r"PIP_ARGS|PYTHON=|SPOTER_MODEL=|…", command)
    }
)


@pytest.mark.parametrize("command", INLINE_SERVE)
def test_a_server_starts_with_the_variables_in_a_sentence_or_table(command, checkout):
    served = Served(command, checkout)
    try:
        served.check()
    finally:
        served.end()


def test_by_hand(checkout, scratch):
    """The commands of docs/operations.md that start TorchServe without `spoter serve`."""
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    fences = re.findall(r"^```\w*\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    lines = next(fence for fence in fences if "torchserve --start --model-store" in fence).splitlines()
    number = next(number for number, line in enumerate(lines) if "torchserve --start" in line)
    folder = scratch / "documented-by-hand"
    folder.mkdir()
    ports = (free_port(), free_port(), free_port())
    environ = activated(checkout) | server_environment(folder, ports)
    environ["PATH"] = activated(checkout)["PATH"]
    del environ["TS_METRICS_CONFIG"]
    run_bash("\n".join(lines[:number]), checkout, environ)
    try:
        run_bash(f"{lines[number]} > {folder}/out 2>&1", checkout, environ)
        assert wait_ready(ports[1])
    finally:
        run_bash("\n".join(lines[number + 1 :]) or "torchserve --stop", checkout, environ)


def test_make_bench(checkout):
    printed = run_bash("make bench BENCH_ARGS='--seconds 0 --runtimes onnx'", checkout)
    assert "complete request, full" in printed and "through the server, compact" in printed


def test_make_test_is_what_ci_runs():
    assert (ROOT / ".ci" / "run").read_text().rstrip().endswith('exec make test PYTHON="$python"')
