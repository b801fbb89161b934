"""Names, tags and request bodies of a deployment. Nothing here calls AWS.

Names contain a hash of the resource's content: a repeated step finds the resource that it created before, and a changed
deployment creates a new resource and leaves the old one.
"""

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

# Tag of every resource that `spoter deploy` creates; its value is the endpoint's name. Others are not used or deleted.
TAG = "spoter:deployment"
VARIANT = "AllTraffic"  # the sagemaker SDK's name for a single variant

# AWS's last PyTorch image with TorchServe ("PyTorch Inference 2.6" in AWS's list of Deep Learning Containers).
FRAMEWORK_VERSION = "2.6.0"
PY_VERSION = "py312"

# Seconds after the switch to the new instances in which the old ones keep running and an alarm rolls the update back:
# a few one-minute periods of a metric. At most 3600 (API reference, BlueGreenUpdatePolicy).
BAKING = 300

# Concurrent asynchronous requests per instance: two full batches of the handler (batchSize in
# handler/model-config.yaml), so that the handler decodes one while the model computes the other.
ASYNC_CONCURRENCY = 8

# Content types captured as text; others are captured as base64 (API reference, CaptureContentTypeHeader).
JSON_TYPES = ["application/json", "application/jsonlines"]
CSV_TYPES = ["text/csv"]

# S3 accepts ten tags per object (S3 user guide, "Categorizing your objects using tags"); one of them is ours.
MAX_TAGS = 9

# ARM processors: Graviton has a g after the generation (c7g, m6gd, c6gn); Grace comes with a GPU (p6e-gb200).
_ARM = re.compile(r"ml\.[a-z]+\d+g[a-z]*\.|.*-gb\d+\.")
# Inferentia and Trainium run only models that were compiled for them.
_COMPILED = re.compile(r"ml\.(inf|trn)\d")
# Instance types for which the SDK chooses the image with CUDA (sagemaker.image_uris).
_GPU = re.compile(r"ml\.[gp]\d")


def tags(settings: Settings) -> dict[str, str]:
    """Return the tags of all resources of a deployment; raises `DeployError` if there are too many."""
    if len(settings.tags) > MAX_TAGS:
        raise DeployError(f"found {len(settings.tags)} tags, expected at most {MAX_TAGS} in addition to {TAG}")
    return settings.tags | {TAG: settings.name}


def missing_tags(settings: Settings, present: dict[str, str]) -> dict[str, str]:
    """Return the entries of `tags` that are missing in `present` or have another value there."""
    return {key: value for key, value in tags(settings).items() if present.get(key) != value}


def tag_list(settings: Settings) -> list[dict[str, str]]:
    """Return `tags` in the form of SageMaker's requests."""
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
    """Raise `DeployError` if AWS's PyTorch image does not run on the instance type."""
    if settings.image_uri is not None or settings.mode == Mode.serverless:
        return
    subject = f"instance type {settings.instance_type}"
    if _ARM.match(settings.instance_type):
        raise DeployError(
            f"{subject} has an ARM processor, and AWS has no PyTorch {FRAMEWORK_VERSION} image for ARM: choose an x86 "
            "type such as ml.c5.large, or pass your own image for ARM with --image-uri"
        )
    if _COMPILED.match(settings.instance_type):
        raise DeployError(
            f"{subject} runs only models compiled for its accelerator: choose a CPU type such as ml.c5.large or a GPU "
            "type such as ml.g4dn.xlarge"
        )


def choose_runtime(settings: Settings) -> str | None:
    """Return the runtime of the archive: ``torch`` for AWS's image for GPUs, else None for the model's own.

    ONNX Runtime computes on the CPU here, so that a GPU would stay idle.
    """
    on_gpu = settings.mode != Mode.serverless and settings.image_uri is None and _GPU.match(settings.instance_type)
    return "torch" if on_gpu else None


def container_environment(added: Mapping[str, str], region: str) -> dict[str, str]:
    """Return a container's variables: those of the sagemaker SDK for code in the archive, overridden by `added`."""
    sdk = {"SAGEMAKER_PROGRAM": "inference.py", "SAGEMAKER_CONTAINER_LOG_LEVEL": str(logging.INFO)}
    return {**sdk, "SAGEMAKER_REGION": region, **added}


def container(settings: Settings, region: str, model_data: str) -> dict[str, Any]:
    """Return the container definition for CreateModel, as the sagemaker SDK builds it, without calls to AWS.

    The region determines the registry of AWS's image; `model_data` is the s3:// address of the archive.

    Raises
    ------
    DeployError
        If AWS has no image for the instance type or in the region.
    """
    check_image(settings)
    environment = container_environment(settings.environment, region)
    logging.getLogger("sagemaker.config").setLevel(logging.WARNING)  # it logs missing files
    # The SDK only builds a request here. Fake keys stop it from searching for real keys when it is imported, which uses
    # the network on a machine without keys.
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
            code_location=model_data.rpartition("/")[0],  # otherwise the SDK queries the account's default bucket
        )
    serverless = settings.mode == Mode.serverless
    try:
        definition: dict[str, Any] = model.prepare_container_def(  # type: ignore[no-untyped-call]
            instance_type=None if serverless else settings.instance_type,
            serverless_inference_config=ServerlessInferenceConfig() if serverless else None,
        )
    except ValueError as error:
        raise DeployError(f"the sagemaker SDK found no image: {error}; set --image-uri") from None
    # The SDK leaves variables empty because it packs no code itself, and overrides ours with its own.
    nonempty = {key: value for key, value in definition["Environment"].items() if value}
    definition["Environment"] = nonempty | environment
    return definition


def model_request(settings: Settings, role_arn: str, definition: dict[str, Any]) -> dict[str, Any]:
    """Return CreateModel's parameters; the name has a hash of image, archive, environment and role."""
    content = {"PrimaryContainer": definition, "ExecutionRoleArn": role_arn}
    return {"ModelName": _hashed_name(settings, content)} | content | {"Tags": tag_list(settings)}


def config_request(settings: Settings, model_name: str, bucket: str) -> dict[str, Any]:
    """Return CreateEndpointConfig's parameters; the name has a hash of all others except the tags."""
    variant: dict[str, Any] = {"VariantName": VARIANT, "ModelName": model_name, "InitialVariantWeight": 1.0}
    if settings.mode == Mode.serverless:
        sizes = {"MemorySizeInMB": settings.memory_mb, "MaxConcurrency": settings.max_concurrency}
        variant["ServerlessConfig"] = sizes
    else:
        bounds, count = settings.scaling(), settings.instance_count
        first_count = min(max(count, bounds.minimum), bounds.maximum) if bounds else count
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
    """Return UpdateEndpoint's parameters: start new instances, then switch all traffic to them at once.

    With automatic scaling the update starts as many `instances` as run now, because the configured number may be too
    small for the traffic. If no instance runs (asynchronous, idle), it starts the configured number: otherwise
    SageMaker would accept an update that never ran.
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
