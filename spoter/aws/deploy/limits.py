"""Limits of SageMaker's modes, checked before anything is created, without calls to AWS."""

from pathlib import Path
from typing import Any

from spoter.aws.choices import Mode
from spoter.aws.deploy import requests
from spoter.aws.deploy.settings import Settings
from spoter.model.config import ModelConfig, read_config
from spoter.model.folder import RUNTIME_FILES

MIB = 2**20

# Batch: MaxConcurrentTransforms x MaxPayloadInMB is at most 100 (API reference, CreateTransformJob). The number of
# concurrent requests is that of an asynchronous instance; it determines the largest request.
BATCH_CONCURRENCY = requests.ASYNC_CONCURRENCY
BATCH_PAYLOAD_MB = 100 // BATCH_CONCURRENCY

# Bytes of one request. Real-time: 25 MB on current endpoints, 6 MB (Body of InvokeEndpoint in the API reference) on
# older endpoints and through clients with that limit. Serverless 4 MB, asynchronous 1 GB (developer guide,
# "Serverless Inference" and "Asynchronous inference").
PAYLOAD = {
    Mode.realtime: 25 * MIB,
    Mode.serverless: 4 * MIB,
    Mode.asynchronous: 1024 * MIB,
    Mode.batch: BATCH_PAYLOAD_MB * MIB,
}
SAFE_PAYLOAD = PAYLOAD | {Mode.realtime: 6 * MIB}
# Bytes of one point in JSON, two coordinates with seven digits; samples/zeigen-compact.json has 19 per point.
POINT_BYTES = 20

# Resident MiB, rounded up because torch 2.6 and other machines differ. Measured with models/dgs11, one worker and torch
# 2.13 on Linux after 60 requests: Java 203, TorchServe's own Python 15, a worker with torch 321, a worker with ONNX
# Runtime 270, and 302 after CSV. In AWS's image TorchServe imports torch in every worker.
JAVA_MB = 256
WORKER_MB = 384
# TorchServe starts one worker per processor. On a serverless endpoint it sees at least two processors (inferred from
# AWS Lambda, on which serverless endpoints run: two processors up to 3008 MB).
WORKERS = 2


def check_mode(settings: Settings, client: Any) -> list[str]:
    """Return one problem, with its fix, for each setting that does not fit the mode.

    The service model of SageMaker's `client` lists the instance types without a call.
    """
    mode = settings.mode
    problems = []
    if settings.capture_percent and mode != Mode.realtime:
        # Serverless endpoints have no data capture. AWS does not document it for asynchronous endpoints (developer
        # guide, "Data capture"), whose requests and answers are in S3 anyway, as are those of a batch job.
        problems.append(
            f"capture-percent {settings.capture_percent}: mode {mode} cannot capture data, expected 0 or mode realtime"
        )
    if mode != Mode.serverless:
        problems += _check_instance_type(settings, client.meta.service_model)
    if mode == Mode.batch and settings.input is None:
        problems.append("found no input for mode batch: set --input to the s3://BUCKET/KEY of JSON Lines")
    for name, modes in (
        ("input", (Mode.batch,)),
        ("output", (Mode.asynchronous, Mode.batch)),
        ("rollback-alarms", (Mode.realtime, Mode.asynchronous)),
    ):
        if getattr(settings, name.replace("-", "_")) and mode not in modes:
            problems.append(f"found {name} with mode {mode}, expected mode {' or '.join(modes)} or no {name}")
    for name in ("input", "output"):
        value = getattr(settings, name)
        if value is not None and split_s3_url(value) is None:
            problems.append(f"found {name} {value!r}, expected s3://BUCKET/KEY")
    return problems


def _check_instance_type(settings: Settings, service: Any) -> list[str]:
    batch = settings.mode == Mode.batch
    types = service.shape_for("TransformInstanceType" if batch else "ProductionVariantInstanceType").enum
    if settings.instance_type in types:
        return []
    message = f"instance-type {settings.instance_type} does not exist for mode {settings.mode}: "
    if batch and settings.instance_type in service.shape_for("ProductionVariantInstanceType").enum:
        return [message + "only endpoints have it; choose for example ml.m5.large or ml.c5.xlarge"]
    family = settings.instance_type.rpartition(".")[0]
    similar = [name for name in types if name.startswith(f"{family}.")] or ["ml.c5.xlarge", "ml.m5.large"]
    return [message + f"choose for example {', '.join(similar[:4])}; for a new type run pip install --upgrade boto3"]


def check_memory(settings: Settings, model_dir: Path) -> tuple[list[str], list[str]]:
    """Return problems and warnings about the memory of a serverless endpoint."""
    if settings.mode != Mode.serverless:
        return [], []
    weights = (model_dir / RUNTIME_FILES[read_config(model_dir).runtime]).stat().st_size / MIB
    required = JAVA_MB + WORKERS * (WORKER_MB + 2 * weights)  # twice: file and tensors are both in memory while loading
    message = (
        f"memory-mb {settings.memory_mb}: TorchServe's Java needs {JAVA_MB} MB, and each of {WORKERS} workers with "
        f"torch and this model {WORKER_MB + 2 * weights:.0f} MB"
    )
    if required > settings.memory_mb:
        return [f"{message}: expected at least {-(-required // 1024) * 1024:.0f}"], []
    if required > 0.75 * settings.memory_mb:  # decoding a large request takes several times its size
        return [], [f"{message}, which leaves little for large requests: use a larger memory-mb"]
    return [], []


def check_payload(settings: Settings, config: ModelConfig, points: int) -> list[str]:
    """Return a warning if the longest clip that the model accepts is larger than the mode's limit of a request.

    `points` is the number of points in the model's layout; requests with more points are larger in proportion.
    """
    size = min(config.max_frames * points * POINT_BYTES, config.max_bytes)
    limit = SAFE_PAYLOAD[settings.mode]
    if size <= limit:
        return []
    return [
        f"a clip of {config.max_frames} frames, the model's maximum, has about {_mb(size)} as JSON; mode "
        f"{settings.mode} accepts at least {_mb(limit)}, mode async accepts more"
    ]


def split_s3_url(address: str) -> tuple[str, str] | None:
    """Return bucket and key of an s3:// address, or None for another address."""
    bucket, slash, key = address.removeprefix("s3://").partition("/")
    return (bucket, key) if address.startswith("s3://") and bucket and slash else None


def _mb(size: int) -> str:
    return f"{size / MIB:.3g} MB" if size < 1024 * MIB else f"{size / MIB / 1024:.3g} GB"
