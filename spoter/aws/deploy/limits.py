"""Limits of SageMaker's modes, checked before anything is created. Nothing here calls AWS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from spoter.aws.choices import Mode
from spoter.aws.deploy import requests
from spoter.aws.deploy.settings import Settings
from spoter.model.config import ModelConfig, read_config
from spoter.model.folder import RUNTIME_FILES

MIB = 2**20

# Batch: MaxConcurrentTransforms x MaxPayloadInMB is at most 100 (API reference, CreateTransformJob). As many requests
# at once as an asynchronous instance gets, and each as large as that leaves.
BATCH_CONCURRENCY = requests.ASYNC_CONCURRENCY
BATCH_PAYLOAD_MB = 100 // BATCH_CONCURRENCY

# Bytes of one request. Real-time: 25 MB on endpoints of today, 6 MB (Body of InvokeEndpoint in the API reference) on
# older ones and through clients that still say so; serverless 4 MB and asynchronous 1 GB (developer guide,
# "Serverless Inference" and "Asynchronous inference").
PAYLOAD = {
    Mode.realtime: 25 * MIB,
    Mode.serverless: 4 * MIB,
    Mode.asynchronous: 1024 * MIB,
    Mode.batch: BATCH_PAYLOAD_MB * MIB,
}
SAFE_PAYLOAD = PAYLOAD | {Mode.realtime: 6 * MIB}
# Of a point in JSON, two coordinates with seven digits: samples/zeigen-compact.json has 19.
POINT_BYTES = 20

# MiB resident, seen with models/dgs11, one worker and torch 2.13 on Linux after 60 requests: Java 203, TorchServe's own
# Python 15, a worker 321 in torch, and in ONNX Runtime 270, with CSV 302: TorchServe imports torch in every worker
# there. Rounded up, because torch 2.6 and other machines differ.
JAVA_MB = 256
WORKER_MB = 384
# Of a serverless endpoint TorchServe sees at least two processors, and starts a worker for each (inferred from AWS
# Lambda, which serverless endpoints are built on: two up to 3008 MB).
WORKERS = 2


def check_mode(settings: Settings, client: Any) -> list[str]:
    """Return the settings that do not fit the mode, each with what to do.

    The service model of SageMaker's `client` lists the instance types without a call.
    """
    mode = settings.mode
    problems = []
    if settings.capture_percent and mode != Mode.realtime:
        # Serverless endpoints have no data capture; AWS's documents do not mention it for asynchronous ones (developer
        # guide, "Data capture"), and their requests and answers are in S3 anyway, as a batch job's are.
        problems.append(
            f"found capture-percent {settings.capture_percent} with mode {mode}, which captures no data: expected 0, "
            "or mode realtime"
        )
    if mode != Mode.serverless:
        problems += _check_instance_type(settings, client.meta.service_model)
    if mode == Mode.batch and settings.input is None:
        problems.append("found no input with mode batch: expected s3://BUCKET/KEY of JSON Lines, by --input")
    for name, modes in (
        ("input", (Mode.batch,)),
        ("output", (Mode.asynchronous, Mode.batch)),
        ("rollback-alarms", (Mode.realtime, Mode.asynchronous)),
    ):
        if getattr(settings, name.replace("-", "_")) and mode not in modes:
            problems.append(f"found {name} with mode {mode}: expected mode {' or '.join(modes)}, or no {name}")
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
    message = f"found instance-type {settings.instance_type}, which is none of SageMaker's for mode {settings.mode}: "
    if batch and settings.instance_type in service.shape_for("ProductionVariantInstanceType").enum:
        return [message + "endpoints have it, batch jobs have not; expected one such as ml.m5.large or ml.c5.xlarge"]
    family = settings.instance_type.rpartition(".")[0]
    similar = [name for name in types if name.startswith(f"{family}.")] or ["ml.c5.xlarge", "ml.m5.large"]
    return [message + f"expected one such as {', '.join(similar[:4])}; for a new one: pip install --upgrade boto3"]


def check_memory(settings: Settings, model_dir: Path) -> tuple[list[str], list[str]]:
    """Return problems and warnings about the memory of a serverless endpoint."""
    if settings.mode != Mode.serverless:
        return [], []
    weights = (model_dir / RUNTIME_FILES[read_config(model_dir).runtime]).stat().st_size / MIB
    need = JAVA_MB + WORKERS * (WORKER_MB + 2 * weights)  # the file and the tensors, while it is read
    finding = (
        f"found memory-mb {settings.memory_mb}: TorchServe's Java takes {JAVA_MB} MB and each of {WORKERS} workers "
        f"with torch and this model {WORKER_MB + 2 * weights:.0f} MB"
    )
    if need > settings.memory_mb:
        return [f"{finding}: expected at least {-(-need // 1024) * 1024:.0f}"], []
    if need > 0.75 * settings.memory_mb:  # a large request is read into several times its size
        return [], [f"{finding}: that leaves little for large requests; 2048 or more is safe"]
    return [], []


def check_payload(settings: Settings, config: ModelConfig, points: int) -> list[str]:
    """Return warnings about clips that the model takes and the mode does not let through.

    `points` are those of the model's layout: requests with more, such as all of Holistic's, are larger by as much.
    """
    size = min(config.max_frames * points * POINT_BYTES, config.max_bytes)
    most = SAFE_PAYLOAD[settings.mode]
    if size <= most:
        return []
    return [
        f"a clip of {config.max_frames} frames, the longest that the model takes, has about {_mb(size)} as JSON; mode "
        f"{settings.mode} is sure to let {_mb(most)} through: mode async takes more"
    ]


def split_s3_url(address: str) -> tuple[str, str] | None:
    """Return bucket and key of an s3:// address; None for any other."""
    bucket, slash, key = address.removeprefix("s3://").partition("/")
    return (bucket, key) if address.startswith("s3://") and bucket and slash else None


def _mb(size: int) -> str:
    return f"{size / MIB:.3g} MB" if size < 1024 * MIB else f"{size / MIB / 1024:.3g} GB"
