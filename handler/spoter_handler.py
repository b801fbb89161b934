"""TorchServe's handler: passes a batch of HTTP requests to `spoter.serving.service`, and the responses back.

`spoter pack` puts this file at the root of the archive, next to the model's files and a copy of the package `spoter`.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import sys
import time
import traceback
from dataclasses import fields
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the archive's own spoter, which is on the path only from `initialize` on
    from spoter.formats.video_format import Fetch
    from spoter.messages import RawRequest, Response
    from spoter.serving.recognizer import Recognizer, Timings

logger = logging.getLogger(__name__)

# Seconds of a batch's responseTimeout that are kept for everything but its videos.
RESERVED_SECONDS = 10
# Seconds after which a client may try again after a 503: reading a sign of 2 s takes a core 4.
RETRY_AFTER = "5"
# Counters of handler/metrics.yaml, and their fields of Timings.
COUNTERS = {"Frames": "frames", "Videos": "videos", "BadInputs": "bad_inputs"}
INTERNAL_ERROR = b'{"error":{"code":"internal","message":"the server failed; its log says where","where":null}}'


class SpoterHandler:
    """What TorchServe calls: `initialize` once in each worker, then `handle` for each batch."""

    def initialize(self, context: Any) -> None:
        """Load the model that lies in the archive: on the CPU, or in torch on the GPU that TorchServe gave this worker.

        The system property ``model_dir`` of the context is the unpacked archive; ``gpu_id`` the worker's GPU or None.
        TorchServe logs a `ModelFolderError`, or a `ValueError` of the settings, and the worker does not start.
        """
        properties, config = context.system_properties, context.model_yaml_config or {}
        self.recognizer = load(properties["model_dir"], properties.get("gpu_id"), compute_threads(config))
        self.video_seconds = video_seconds(config)
        self.in_transform_job = in_transform_job()
        self.fetch = stored_videos()
        logging.getLogger().addFilter(is_logged)
        if context.metrics is not None:  # as where the image tries whether an archive can be loaded
            for name in COUNTERS:  # so that they are there before anything was counted
                context.metrics.add_counter(name, 0, dimensions=[])
        gc.collect()
        gc.freeze()  # what was imported and loaded stays: no collection while answering shall look through it again

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[bytes]:
        """Answer a batch: one body for each request, in order, with its own status and content type.

        `data` has each request's parameters by name: ``body``, or ``data`` from a form or gRPC, as bytes, or as str,
        dict or list where TorchServe has parsed them (decode_input_request=true).
        """
        raw = [to_raw_request(item, context.get_all_request_header(index)) for index, item in enumerate(data)]
        deadline = time.monotonic() + self.video_seconds
        responses, timings = respond_each(self.recognizer, raw, self.fetch, deadline)
        if self.in_transform_job:
            responses = as_records(responses)
        for index, response in enumerate(responses):
            context.set_response_status(response.status, HTTPStatus(response.status).phrase, index)
            context.set_response_content_type(index, response.content_type)
            if response.status == HTTPStatus.SERVICE_UNAVAILABLE:
                context.set_response_header(index, "Retry-After", RETRY_AFTER)
        report_metrics(timings, context.metrics)
        return [response.body for response in responses]


def load(model_dir: str, gpu: int | None, threads: int = 1) -> Recognizer:
    """Load the model of an unpacked archive, with the archive's own code, onto a GPU or else the CPU.

    Only torch uses the GPU; another runtime computes on the CPU, and the log says so. `threads` is that of torch and of
    numpy's BLAS; ONNX Runtime's sessions have one.
    """
    # TorchServe puts the archive on the worker's path after the user's PYTHONPATH, where another version of spoter may
    # lie. An archive serves with the code it was built with.
    sys.path.insert(0, model_dir)
    import spoter
    from spoter.model.config import read_config
    from spoter.runtime.device import limit_threads
    from spoter.serving.recognizer import Recognizer

    config, device = read_config(Path(model_dir)), "cpu"
    limit_threads(threads, config.runtime)
    if config.runtime == "torch":
        import torch  # only here: without it a worker has 200 MB less (worker_path/sitecustomize.py)

        from spoter.formats import csv_format  # noqa: F401  imports pandas now, so that no client waits for it

        if gpu is not None and torch.cuda.is_available():
            device = f"cuda:{gpu}"
    recognizer = Recognizer.load(model_dir, device, config.runtime)
    where = f"{config.runtime} on {device}"
    logger.info("model %s %s in %s, spoter from %s", config.name, config.version, where, spoter.__path__[0])
    if gpu is not None and config.runtime != "torch":
        message = "this worker was given GPU %s, but runtime %s computes on the CPU: for GPUs pack with --runtime torch"
        logger.warning(message, gpu, config.runtime)
    return recognizer


def compute_threads(config: dict[str, Any]) -> int:
    """Return how many threads a worker computes with: the handler's ``threads`` of model-config.yaml, or 1."""
    number = (config.get("handler") or {}).get("threads", 1)
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise ValueError(f"model-config.yaml: found threads {number}, expected a whole number above 0")
    return number


def is_logged(record: logging.LogRecord) -> bool:
    """Drop TorchServe's line for each batch: its front end reads every line that a worker logs."""
    return not str(record.msg).startswith("Backend received inference")


def stored_videos() -> Fetch | None:
    """Return what gets stored videos, where the environment names a bucket (video_bucket.py), and log what is read."""
    from video_bucket import from_environment

    from spoter.formats.video_format import videos_supported

    bucket = from_environment()
    stored = "no bucket" if bucket is None else f"the bucket {bucket.bucket}"
    logger.info("videos are %s here; stored ones come from %s", "read" if videos_supported() else "not read", stored)
    return bucket.fetch if bucket is not None else None


def video_seconds(config: dict[str, Any]) -> float:
    """Return the seconds that all videos of a batch may take together.

    They follow from ``responseTimeout`` and the handler's ``videoTimeout`` of model-config.yaml. Raises `ValueError`
    where a worker would be restarted before its videos are given up.
    """
    from spoter.limits import VIDEO_SECONDS

    response = config.get("responseTimeout", 120)  # TorchServe's default
    seconds = (config.get("handler") or {}).get("videoTimeout", min(VIDEO_SECONDS, response - RESERVED_SECONDS))
    if not isinstance(seconds, int | float) or not 0 < seconds <= response - RESERVED_SECONDS:
        raise ValueError(
            f"model-config.yaml: found videoTimeout {seconds}, expected seconds above 0, and at least "
            f"{RESERVED_SECONDS} below responseTimeout, {response}"
        )
    return float(seconds)


def in_transform_job() -> bool:
    """Tell whether this is a container of a SageMaker batch transform job.

    It sets SAGEMAKER_BATCH to true there: https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-batch-code.html
    """
    return os.environ.get("SAGEMAKER_BATCH") == "true"


def as_records(responses: list[Response]) -> list[Response]:
    """Return the answers of a batch transform job: one bad record shall not end the job."""
    from spoter.serving.service import to_record

    return [to_record(response) for response in responses]


def to_raw_request(item: dict[str, Any], headers: dict[str, Any]) -> RawRequest:
    """Make a raw request of what TorchServe passes for one HTTP request: its parameters by name, and its headers.

    The headers are spelt as by the client, and contain for each parameter ``{name: {"content-type": …}}``.
    """
    from spoter.messages import RawRequest

    if not item and headers.get("describe") == "True":  # TorchServe's own question, at ?customized=true
        return RawRequest(b'{"describe":true}', content_type="application/json")
    name = "body" if "body" in item else "data"
    # A header and a parameter can have the same name, so that either kind of value may stand under it.
    texts = {key.lower(): value for key, value in headers.items() if isinstance(value, str)}
    content_type = texts.get("content-type")
    if name in item and (content_type or "").lower().startswith("multipart/"):  # a form's part has a type of its own
        part = headers.get(name)
        content_type = part.get("content-type") if isinstance(part, dict) else None
    # TorchServe takes a form apart. Where no part is named as expected only its content type is left, which the
    # service refuses (415: curl -d sends such), while a body that looks empty would be a 400.
    body = item.get(name, b"form")
    if isinstance(body, str):
        body = body.encode(errors="surrogatepass")  # the format reports what is not Unicode
    elif not isinstance(body, bytes | bytearray | memoryview):
        body, content_type = encode_parsed(body), "application/json"
    return RawRequest(
        bytes(body),
        content_type=content_type,
        accept=texts.get("accept"),
        attributes=texts.get("x-amzn-sagemaker-custom-attributes"),
        content_encoding=texts.get("content-encoding"),
    )


def encode_parsed(document: object) -> bytes:
    """Write JSON that TorchServe has parsed as JSON again; NaN and Infinity stay what the service refuses."""
    try:
        return json.dumps(document).encode()
    except RecursionError:
        return b"[" * 10_000  # nested as deep, and refused as the document would be


def respond_each(
    recognizer: Recognizer, raw: list[RawRequest], fetch: Fetch | None = None, deadline: float | None = None
) -> tuple[list[Response], Timings]:
    """Answer a batch, whatever happens: where our own code fails, its requests are tried one by one.

    The one that fails alone too is answered 500, without the cause, which goes to the log. `fetch` and `deadline` are
    those of `spoter.serving.service.respond`.
    """
    from spoter.messages import Response
    from spoter.serving.recognizer import Timings
    from spoter.serving.service import respond

    try:
        return respond(recognizer, raw, fetch, deadline)
    except Exception as error:  # whatever it is, it must not take the neighbours' answers along
        if len(raw) == 1:
            # Not the message: it may quote a landmark.
            frames = "".join(traceback.format_tb(error.__traceback__))
            logger.error("%s while answering a request; please report it\n%s", type(error).__name__, frames)
            return [Response(500, "application/json", INTERNAL_ERROR, "internal")], Timings()
    responses, total = [], Timings()
    for item in raw:
        [response], timings = respond_each(recognizer, [item], fetch, deadline)
        responses.append(response)
        for field in fields(Timings):
            setattr(total, field.name, getattr(total, field.name) + getattr(timings, field.name))
    return responses, total


def report_metrics(timings: Timings, metrics: Any) -> None:
    """Report the timings and counts of a batch to TorchServe, as handler/metrics.yaml declares them."""
    from ts.metrics.metric_type_enum import MetricTypes

    times = {"DecodeTime": timings.decode_ms, "NormalizeTime": timings.normalize_ms, "ForwardTime": timings.forward_ms}
    if not timings.frames:  # nothing was normalised: a time of 0 would only pull the mean down
        del times["NormalizeTime"], times["ForwardTime"]
    if timings.videos:
        times["VideoTime"] = timings.video_ms
    for name, value in times.items():
        # dimensions: TorchServe appends to the list it is given, and its default is shared by all calls
        metrics.add_metric(name, round(value, 3), "ms", dimensions=[], metric_type=MetricTypes.HISTOGRAM)
    for name, field in COUNTERS.items():
        if count := getattr(timings, field):  # each line costs TorchServe's front end time, too
            metrics.add_counter(name, count, dimensions=[])
