"""The image: its three ways to start, its health check, and its content.

`make image-test` runs these tests; `make test` does not, because they build an image. A stop may take 2 seconds.
"""

from __future__ import annotations

import json
import time
import zipfile
from pathlib import Path

import psutil
import pytest

from spoter.ops.ports import free_port
from spoter.torchserve.pack import build, zipped
from tests import ROOT
from tests.archives import tar_files
from tests.docker.image.engine import IMAGE, MEASURED, Container, Engine
from tests.e2e.live import Reply, send

pytestmark = pytest.mark.image

SAMPLE = (ROOT / "samples" / "zeigen-compact.json").read_bytes()
JSON = {"Content-Type": "application/json"}
MAX_BYTES = 950_000_000
MAX_STOP = 2.0  # seconds
READ_ONLY = ("--read-only", "--tmpfs", "/tmp")


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A folder with spoter.mar and model.tar.gz of another version than the bundled model in the image."""
    folder = tmp_path_factory.mktemp("built")
    build(ROOT / "models" / "dgs11", "spoter", "9.9", folder)
    return folder


@pytest.fixture
def unpacked(built: Path, tmp_path: Path) -> Path:
    """The unpacked model.tar.gz, as in SageMaker."""
    for name, content in tar_files(built / "model.tar.gz").items():
        (tmp_path / "model" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "model" / name).write_bytes(content)
    tmp_path.chmod(0o755)
    return tmp_path / "model"


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A model store with an archive that no worker can load."""
    build(ROOT / "models" / "dgs11", "spoter", None, tmp_path)
    with zipfile.ZipFile(tmp_path / "spoter.mar") as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    store = tmp_path / "store"
    store.mkdir()
    (store / "spoter.mar").write_bytes(zipped(files | {"model.onnx": b"these are no weights"}))
    tmp_path.chmod(0o755)
    return store


def ports() -> tuple[int, int, list[str]]:
    """Return free ports for predictions and management, and the options that set all ports."""
    numbers = [free_port() for _ in range(5)]
    inference, management, metrics, *grpc = numbers
    values = {
        "TS_INFERENCE_ADDRESS": f"http://0.0.0.0:{inference}",
        "TS_MANAGEMENT_ADDRESS": f"http://127.0.0.1:{management}",
        "TS_METRICS_ADDRESS": f"http://127.0.0.1:{metrics}",
        "TS_GRPC_INFERENCE_PORT": grpc[0],
        "TS_GRPC_MANAGEMENT_PORT": grpc[1],
        "TS_DEFAULT_WORKERS_PER_MODEL": 1,
    }
    return inference, management, [part for name, value in values.items() for part in ("--env", f"{name}={value}")]


def safe_range() -> tuple[int, str]:
    """Return the first of ten consecutive free ports, and the range in SageMaker's form."""
    while True:
        first = free_port()
        used = {connection.laddr.port for connection in psutil.net_connections("tcp")}
        if first < 65000 and not used.intersection(range(first, first + 10)):
            return first, f"{first}-{first + 9}"


def predict(port: int, token: str | None = None, path: str = "/predictions/spoter") -> Reply:
    return send(port, "POST", path, SAMPLE, JSON | ({} if token is None else {"Authorization": f"Bearer {token}"}))


def token(container: Container) -> str:
    return json.loads(container.exec("cat", "/tmp/spoter/key_file.json"))["inference"]["key"]


def test_image_is_small(engine: Engine):
    size = engine.inspect(IMAGE)["Size"]
    MEASURED.append(f"size: {size / 1e6:.0f} MB")
    assert size <= MAX_BYTES


def test_image_has_an_unprivileged_user_and_no_build_tools(engine: Engine):
    names = "gcc cc g++ c++ clang ld as make cmake git curl wget pip pip3 torch-model-archiver conda"
    script = f"id -u; for t in {names}; do command -v $t; done; ls -d /src /opt/build 2>/dev/null"
    script += "; find / -xdev -user 10001 -not -path '/proc/*' 2>/dev/null; find / -xdev -name '*.deb' 2>/dev/null"
    script += (
        "; for m in pip setuptools wheel ensurepip; do python -c \"import $m; print('$m')\" 2>/dev/null; done; true"
    )
    # The output is only the user: no tools, no sources, no files of the user, no packages for installation.
    assert engine("run", "--rm", "--entrypoint", "sh", IMAGE, "-c", script).split() == ["10001"]


def test_sagemaker_start(start, unpacked: Path):
    port, (first, port_range) = free_port(), safe_range()
    options = ["--env", f"SAGEMAKER_BIND_TO_PORT={port}", "--env", f"SAGEMAKER_SAFE_PORT_RANGE={port_range}"]
    options += ["--env", "SAGEMAKER_MODEL_SERVER_WORKERS=1", "--volume", f"{unpacked}:/opt/ml/model:ro"]
    container = start(*READ_ONLY, *options, command=("serve",))
    container.wait_healthy("serve")
    assert send(port, "GET", "/ping").status == 200
    answer = predict(port, path="/invocations?who=someone")
    assert answer.status == 200
    assert answer.json["instances"][0]["gloss"] == "ZEIGEN"
    assert answer.json["model"]["version"]
    refused = send(port, "POST", "/invocations", b'{"keypoints": [[[0.123454321, "x"]]]}', JSON)
    assert refused.status == 400
    assert refused.json["error"]["code"]
    [model] = send(first, "GET", "/models/spoter").json
    assert model["modelVersion"] == "9.9"
    assert len(model["workers"]) == 1
    logs = container.logs
    assert '"POST /invocations HTTP/1.1" 200' in logs
    assert "who=someone" not in logs and "0.123454321" not in logs
    assert container.stop("serve") <= MAX_STOP


def test_sagemaker_start_never_answers_ping_if_the_model_cannot_be_loaded(start, unpacked: Path):
    port = free_port()
    (unpacked / "model.onnx").write_bytes(b"these are no weights")
    options = ["--env", f"SAGEMAKER_BIND_TO_PORT={port}", "--volume", f"{unpacked}:/opt/ml/model:ro"]
    container = start(*options, command=("serve",))
    while container.running:
        with pytest.raises(ConnectionError):
            send(port, "GET", "/ping")
        time.sleep(0.05)
    assert container.engine.inspect(container.name)["State"]["ExitCode"] == 1
    [line] = [line for line in container.logs.splitlines() if line.startswith("start.py: ")]
    assert "/opt/ml/model" in line and "model.onnx" in line


@pytest.mark.parametrize(
    ("command", "part"),
    [
        (("serve",), "/opt/ml/model/MAR-INF/MANIFEST.json"),
        (("bash",), "'bash'"),
    ],
)
def test_failed_start_prints_one_line(engine: Engine, command, part):
    [line] = engine("run", "--rm", IMAGE, *command, status=2).splitlines()
    assert line.startswith("start.py: ") and part in line


def test_serves_the_bundled_model_with_a_token(start):
    port, management, options = ports()
    container = start(*READ_ONLY, *options)
    container.wait_healthy("torchserve, archive inside")
    assert container.check_health() == "healthy"
    assert predict(port).status == 400
    assert predict(port, "wrong").status == 400
    assert send(management, "GET", "/models/spoter").status == 400
    answer = predict(port, token(container))
    assert answer.status == 200
    assert answer.json["instances"][0]["gloss"] == "ZEIGEN"
    listening = {c.laddr.port: c.laddr.ip for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN}
    assert listening[management].removeprefix("::ffff:") == "127.0.0.1"
    assert listening[port].removeprefix("::ffff:") != "127.0.0.1"
    assert token(container) not in container.logs
    assert container.stop("torchserve, archive inside") <= MAX_STOP


def test_serves_a_mounted_archive_with_tokens_off(start, built: Path):
    port, management, options = ports()
    options += ["--volume", f"{built}:/model-store:ro", "--env", "TS_DISABLE_TOKEN_AUTHORIZATION=true"]
    built.chmod(0o755)
    container = start(*READ_ONLY, *options, command=("torchserve",))
    container.wait_healthy("torchserve, archive mounted")
    assert predict(port).status == 200
    assert send(management, "GET", "/models/spoter").json[0]["modelVersion"] == "9.9"
    assert container.stop("torchserve, archive mounted") <= MAX_STOP


def test_health_check_fails_if_no_worker_can_load_though_ping_is_healthy(start, broken: Path):
    port, _, options = ports()
    options += ["--volume", f"{broken}:/model-store:ro", "--env", "TS_DISABLE_TOKEN_AUTHORIZATION=true"]
    container = start(*options)
    deadline = time.monotonic() + 120
    while "Retry worker" not in container.logs:
        assert time.monotonic() < deadline and container.running, container.logs
        time.sleep(0.2)
    assert send(port, "GET", "/ping").json == {"status": "Healthy"}
    assert container.check_health() == "unhealthy"
    assert container.stop("torchserve, broken weights") <= MAX_STOP


def test_health_check_replaces_an_expired_token(start):
    port, _, options = ports()
    container = start(*READ_ONLY, *options, "--env", "TS_TOKEN_EXPIRATION_TIME_MIN=1")
    container.wait_healthy("torchserve, tokens of a minute")
    first = token(container)
    deadline = time.monotonic() + 90
    while predict(port, first).status == 200:
        assert time.monotonic() < deadline
        time.sleep(1)
    assert container.check_health() == "healthy"
    assert token(container) != first
    assert predict(port, token(container)).status == 200
