"""No code of this project reads a file in a way that can run code, or unpacks an archive without checking it first."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import ROOT

# Folders with code of other projects.
NOT_OURS = {"build", "node_modules", "model_store", "env"}
# Calls that can run code from the data they read, with any arguments.
NEVER = {
    "pickle.load", "pickle.loads", "pickle.Unpickler", "cPickle.load", "dill.load", "cloudpickle.load", "joblib.load",
    "marshal.load", "marshal.loads", "shelve.open", "pandas.read_pickle", "pd.read_pickle", "yaml.unsafe_load",
    "yaml.full_load", "yaml.unsafe_load_all", "yaml.load_all", "torch.jit.load", "torch.package.PackageImporter",
    "torch.hub.load", "eval", "exec", "compile", "os.system", "os.popen", "shutil.unpack_archive", "np.loads",
}  # fmt: skip
# Modules that unpack only archives they have just built, or that `spoter.ops.archive.scan` has accepted.
UNPACK = {"stress/archive_differential.py", "spoter/aws/local/container.py", "benchmarks/serving/lambda_cold_start.py"}
# Tests that run code from this project's documents.
RUNS_OURS = {"tests/e2e/test_tutorial.py"}


def sources() -> Iterator[Path]:
    for folder, inside, names in os.walk(ROOT):
        inside[:] = sorted(name for name in inside if name not in NOT_OURS and not name.startswith("."))
        yield from (Path(folder, name) for name in sorted(names) if name.endswith(".py"))


def dotted(node: ast.expr) -> str:
    """Return an expression such as torch.load as text, with "?" for every part that is not a name."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def aliases(tree: ast.AST) -> dict[str, str]:
    """Return the full names of imported names: ``from pickle import load as l`` maps l to pickle.load."""
    full_names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            full_names |= {name.asname or name.name: f"{node.module}.{name.name}" for name in node.names}
        elif isinstance(node, ast.Import):
            full_names |= {name.asname: name.name for name in node.names if name.asname}
    return full_names


def unsafe(source: str, place: str) -> list[str]:
    """Return the unsafe calls of a module, with their lines."""
    tree = ast.parse(source)
    full_names, calls = aliases(tree), []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        first, _, rest = dotted(node.func).partition(".")
        name = full_names.get(first, first) + (f".{rest}" if rest else "")
        arguments = {word.arg: ast.unparse(word.value) for word in node.keywords}
        risky = (
            name in NEVER
            or (name == "torch.load" and arguments.get("weights_only") != "True")
            or (name in ("np.load", "numpy.load") and arguments.get("allow_pickle", "False") != "False")
            or (name == "yaml.load" and "SafeLoader" not in ast.unparse(node))
            or arguments.get("shell", "False") != "False"
            or (name.endswith(".extractall") and arguments.get("filter") != "'data'" and place not in UNPACK)
        )
        allowed = (place in RUNS_OURS and name in ("exec", "compile")) or (
            place.startswith("tests/") and name.endswith(".extractall")  # an archive that the test has built
        )
        if risky and not allowed:
            calls.append(f"{place}:{node.lineno}: {name}")
    return calls


def test_no_module_has_an_unsafe_call():
    calls = [each for path in sources() for each in unsafe(path.read_text(), path.relative_to(ROOT).as_posix())]
    assert calls == []


@pytest.mark.parametrize(
    "source",
    [
        "import torch\ntorch.load(p)",
        "import torch\ntorch.load(p, weights_only=False)",
        "from torch import load\nload(p)",
        "import torch as t\nt.load(p)",
        "import numpy as np\nnp.load(p, allow_pickle=True)",
        "import numpy\nnumpy.load(p, allow_pickle=x)",
        "import pickle\npickle.load(f)",
        "from pickle import loads as l\nl(b)",
        "import yaml\nyaml.load(f, Loader=yaml.Loader)",
        "import yaml\nyaml.load(f)",
        "import joblib\njoblib.load(p)",
        "eval(x)",
        "import subprocess\nsubprocess.run(x, shell=True)",
        "import tarfile\ntarfile.open(p).extractall(q)",
        "import shutil\nshutil.unpack_archive(p)",
        "import os\nos.system(x)",
    ],
)
def test_unsafe_calls_are_found(source):
    assert unsafe(source, "spoter/x.py")


@pytest.mark.parametrize(
    "source",
    [
        "import torch\ntorch.load(p, weights_only=True)",
        "import numpy as np\nnp.load(p)",
        "import yaml\nyaml.safe_load(f)",
        "model.eval()",
        "import re\nre.compile(x)",
        "a.extractall(p, filter='data')",
    ],
)
def test_safe_calls_are_accepted(source):
    assert unsafe(source, "spoter/x.py") == []


def test_shell_scripts_run_no_variable_or_download_as_code():
    scripts = list(ROOT.glob("docker/*.sh"))
    assert scripts
    grep = subprocess.run(["grep", "-nE", r"\beval\b|curl[^|]*\| *(ba)?sh", *scripts], capture_output=True, text=True)
    assert grep.stdout == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    "source",
    [
        "from spoter.serving.recognizer import Recognizer; Recognizer.load('models/dgs11', runtime='onnx')",
        "from spoter.training.evaluation.quantize import quantize; "
        "quantize(open('models/dgs11/model.onnx', 'rb').read(), CLIPS)",
    ],
    ids=["serving", "quantizing"],
)
def test_onnx_runtime_sends_no_telemetry(source, tmp_path):
    """With telemetry, ONNX Runtime writes a device id to the user's cache folder when it is imported."""
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "ORT_DISABLE_TELEMETRY")}
    source = "import numpy as np\nCLIPS = [np.zeros((2, 108), np.float32)]\n" + source
    options = {"cwd": ROOT, "env": environment | {"HOME": str(tmp_path)}, "timeout": 120}
    subprocess.run([sys.executable, "-c", source], check=True, **options)
    assert list(tmp_path.rglob("*")) == []
