"""Names, tags and the bodies of requests of a deployment. Nothing here calls AWS.

Names hold a hash of what they name, so that a repeated step finds what it created before, and a change creates a new
resource and leaves the old one.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from spoter.aws.choices import Mode
from spoter.aws.deploy.settings import DeployError, Settings

# On everything that `spoter deploy` creates, with the endpoint's name: only resources with it are used and deleted.
TAG = "spoter:deployment"
VARIANT = "AllTraffic"  # the name that the sagemaker SDK gives to an only variant

# AWS's last PyTorch image with TorchServe ("PyTorch Inference 2.6" in AWS's list of Deep Learning Containers).
FRAMEWORK_VERSION = "2.6.0"
PY_VERSION = "py312"

# Seconds for which the old instances stay, and alarms count, after the new ones took over. An alarm on a metric of
# one-minute periods has seen a few of them by then. At most 3600 (API reference, BlueGreenUpdatePolicy).
BAKING = 300

# Asynchronous requests that SageMaker hands to one instance at the same time: two full batches of the handler
# (batchSize in handler/model-config.yaml), so that one is decoded while the other goes through the model.
ASYNC_CONCURRENCY = 8

# Captured as text; anything else is captured as base64 (API reference, CaptureContentTypeHeader).
JSON_TYPES = ["application/json", "application/jsonlines"]
CSV_TYPES = ["text/csv"]

# S3 takes ten tags on an object (S3 user guide, "Categorizing your objects using tags"), and one is ours.
MOST_TAGS = 9

# Graviton: a g after the generation's number (c7g, m6gd, c6gn), or Grace next to the GPU (p6e-gb200).
_ARM = re.compile(r"ml\.[a-z]+\d+g[a-z]*\.|.*-gb\d+\.")
# Inferentia and Trainium run models that were compiled for them.
_COMPILED = re.compile(r"ml\.(inf|trn)\d")
# Those that the SDK takes the image with CUDA for (sagemaker.image_uris).
_GPU = re.compile(r"ml\.[gp]\d")


def tags(settings: Settings) -> dict[str, str]:
    """Return the tags of everything a deployment makes; raises `DeployError` where there are too many."""
    if len(settings.tags) > MOST_TAGS:
        raise DeployError(f"found {len(settings.tags)} tags, expected at most {MOST_TAGS}: S3 takes ten on an object")
    return settings.tags | {TAG: settings.name}


def missing_tags(settings: Settings, present: dict[str, str]) -> dict[str, str]:
    """Return those of `tags` that a resource with the tags `present` lacks, or has with another value."""
    return {key: value for key, value in tags(settings).items() if present.get(key) != value}


def tag_list(settings: Settings) -> list[dict[str, str]]:
    """Return `tags` as SageMaker's requests spell them."""
    return [{"Key": key, "Value": value} for key, value in tags(settings).items()]


def folder(settings: Settings, bucket: str, *parts: str) -> str:
    """Return the s3:// address of a folder or file of this deployment."""
    return "s3://" + "/".join([bucket, settings.prefix, settings.name, *parts])


def archive_key(settings: Settings, digest: str) -> str:
    """Return the key of an archive with this SHA-256, in hexadecimal digits."""
    return f"{settings.prefix}/{settings.name}/{digest}/model.tar.gz"


def log_group(name: str) -> str:
    """Return the log group of an endpoint's containers (developer guide, "Log groups and streams")."""
    return f"/aws/sagemaker/Endpoints/{name}"


def check_image(settings: Settings) -> None:
    """Raise `DeployError` where AWS's PyTorch image does not run on the instance type."""
    if settings.image_uri is not None or settings.mode == Mode.serverless:
        return
    finding = f"found instance type {settings.instance_type}, which"
    if _ARM.match(settings.instance_type):
        raise DeployError(
            f"{finding} has an ARM processor: AWS has no PyTorch {FRAMEWORK_VERSION} image for it. Take one with an "
            "x86 processor such as ml.c5.large, or an image of your own built for ARM with --image-uri"
        )
    if _COMPILED.match(settings.instance_type):
        raise DeployError(
            f"{finding} runs only models compiled for its accelerator: take a CPU type such as ml.c5.large or a GPU "
            "type such as ml.g4dn.xlarge"
        )


def choose_runtime(settings: Settings) -> str | None:
    """Return the runtime of the archive's model: ``torch`` on AWS's image for GPUs, or None for the model's own.

    ONNX Runtime computes on the CPU here: a GPU would be paid for and stay idle.
    """
    on_gpu = settings.mode != Mode.serverless and settings.image_uri is None and _GPU.match(settings.instance_type)
    return "torch" if on_gpu else None


def container_environment(added: Mapping[str, str], region: str) -> dict[str, str]:
    """Return the variables of a container: what the sagemaker SDK writes for code in the archive, then the user's."""
    sdk = {"SAGEMAKER_PROGRAM": "inference.py", "SAGEMAKER_CONTAINER_LOG_LEVEL": str(logging.INFO)}
    return {**sdk, "SAGEMAKER_REGION": region, **added}


def container(settings: Settings, region: str, model_data: str) -> dict[str, Any]:
    """Return the container definition of CreateModel as the sagemaker SDK writes it; no call is made.

    The region decides which registry AWS's image comes from; `model_data` is the s3:// address of the archive.

    Raises
    ------
    DeployError
        Where there is no such image for the instance type or in the region.
    """
    check_image(settings)
    environment = container_environment(settings.environment, region)
    logging.getLogger("sagemaker.config").setLevel(logging.WARNING)  # it logs which files it did not find
    # The SDK only writes a request here. With fake keys it neither makes a call nor looks for real ones, which it would
    # do while it is imported, and by the network on a machine without keys.
    with _environment(AWS_ACCESS_KEY_ID="none", AWS_SECRET_ACCESS_KEY="none", SAGEMAKER_SUPPRESS_V2_WARNING="1"):
        import boto3
        from sagemaker.pytorch.model import PyTorchModel
        from sagemaker.serverless.serverless_inference_config import ServerlessInferenceConfig
        from sagemaker.session import Session

        session = Session(boto3.Session(region_name=region), sagemaker_config={})
        model = PyTorchModel(
            model_data=model_data,
            role=None,
            framework_version=FRAMEWORK_VERSION,
            py_version=PY_VERSION,
            image_uri=settings.image_uri,
            env=dict(environment),
            sagemaker_session=session,
            code_location=model_data.rpartition("/")[0],  # else the SDK asks for the account's default bucket
        )
    serverless = settings.mode == Mode.serverless
    try:
        definition: dict[str, Any] = model.prepare_container_def(  # type: ignore[no-untyped-call]
            instance_type=None if serverless else settings.instance_type,
            serverless_inference_config=ServerlessInferenceConfig() if serverless else None,
        )
    except ValueError as error:
        raise DeployError(f"the sagemaker SDK finds no image: {error}; --image-uri names one") from None
    # The SDK leaves variables empty where it packs no code itself, and overrides ours with those it has.
    theirs = {key: value for key, value in definition["Environment"].items() if value}
    definition["Environment"] = theirs | environment
    return definition


def model_request(settings: Settings, role_arn: str, definition: dict[str, Any]) -> dict[str, Any]:
    """Return CreateModel's parameters; the name is a hash of the image, the archive, the environment and the role."""
    content = {"PrimaryContainer": definition, "ExecutionRoleArn": role_arn}
    return {"ModelName": _hashed_name(settings, content)} | content | {"Tags": tag_list(settings)}


def config_request(settings: Settings, model_name: str, bucket: str) -> dict[str, Any]:
    """Return CreateEndpointConfig's parameters; the name is a hash of all the others but tags."""
    variant: dict[str, Any] = {"VariantName": VARIANT, "ModelName": model_name, "InitialVariantWeight": 1.0}
    if settings.mode == Mode.serverless:
        sizes = {"MemorySizeInMB": settings.memory_mb, "MaxConcurrency": settings.max_concurrency}
        variant["ServerlessConfig"] = sizes
    else:
        bounds, count = settings.scaling(), settings.instance_count
        first_count = min(max(count, bounds.least), bounds.most) if bounds else count
        variant |= {"InstanceType": settings.instance_type, "InitialInstanceCount": first_count}
    content: dict[str, Any] = {"ProductionVariants": [variant]}
    if settings.mode == Mode.asynchronous:
        output = settings.output or folder(settings, bucket, "answers")
        content["AsyncInferenceConfig"] = {
            "OutputConfig": {"S3OutputPath": output, "S3FailurePath": folder(settings, bucket, "failures")},
            "ClientConfig": {"MaxConcurrentInvocationsPerInstance": ASYNC_CONCURRENCY},
        }
    if settings.capture_percent:
        content["DataCaptureConfig"] = {
            "EnableCapture": True,
            "InitialSamplingPercentage": settings.capture_percent,
            "DestinationS3Uri": folder(settings, bucket, "captured"),
            "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
            "CaptureContentTypeHeader": {"JsonContentTypes": JSON_TYPES, "CsvContentTypes": CSV_TYPES},
        }
    return {"EndpointConfigName": _hashed_name(settings, content)} | content | {"Tags": tag_list(settings)}


def endpoint_request(settings: Settings, config_name: str) -> dict[str, Any]:
    """Return CreateEndpoint's parameters."""
    return {"EndpointName": settings.name, "EndpointConfigName": config_name, "Tags": tag_list(settings)}


def update_request(settings: Settings, config_name: str, instances: int) -> dict[str, Any]:
    """Return UpdateEndpoint's parameters: new instances next to the old, then all traffic at once to the new.

    Where scaling is automatic the update starts with as many `instances` as run now: the configuration's own number
    would meet the traffic of many with few. From none (asynchronous, idle) it starts with the configuration's number,
    because SageMaker would otherwise call an update good that has never run.
    """
    retain = settings.scaling() is not None and instances > 0
    policy: dict[str, Any] = {"TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0}}
    deployment: dict[str, Any] = {"BlueGreenUpdatePolicy": policy}
    if settings.rollback_alarms:
        policy["TerminationWaitInSeconds"] = BAKING
        alarms = [{"AlarmName": name} for name in settings.rollback_alarms]
        deployment["AutoRollbackConfiguration"] = {"Alarms": alarms}
    return {
        "EndpointName": settings.name,
        "EndpointConfigName": config_name,
        "RetainAllVariantProperties": retain,
        "DeploymentConfig": deployment,
    }


def mode_of(config: dict[str, Any]) -> Mode:
    """Return the mode of an endpoint with this configuration (DescribeEndpointConfig)."""
    if config.get("AsyncInferenceConfig"):
        return Mode.asynchronous
    return Mode.serverless if config["ProductionVariants"][0].get("ServerlessConfig") else Mode.realtime


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _hashed_name(settings: Settings, content: dict[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return f"{settings.name}-{digest[:12]}"
